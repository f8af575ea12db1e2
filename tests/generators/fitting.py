"""Runs of generators that fit in seconds, and their volumes."""

from __future__ import annotations

import numpy as np

from synthbench import registry
from synthbench.training import training


def fitted(name, cohort, tmp_path, *settings, accept=()):
    return training.train(name, out=tmp_path / name, real=cohort, overrides=settings, accept=accept)


def drawn(run, n):
    plugin = registry.load("generators", run.record["generator"])()
    return np.stack(list(plugin.sample(run, range(n))))
