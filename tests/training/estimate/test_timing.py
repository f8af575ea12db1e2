"""The timed steps are steps of a training."""

from __future__ import annotations

import torch

from synthbench.generators.contracts import Monitor
from synthbench.generators.loop import sources, train
from synthbench.runs.folder import Run
from synthbench.training.estimate.timing import MadeUp
from tests.training.estimate.examples import SquaredError, TwoConvolutions, settings


def test_the_timed_steps_are_those_of_a_training(tmp_path):
    """Frozen weights stay, the others move, and the averaged weights follow them."""
    own = settings(freeze=("first",), steps=4)
    source = MadeUp(3, ((1, 8, 8, 8),))
    model = TwoConvolutions()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    task = sources.Task(model, SquaredError(), source, own)
    training = train.Training(task, Run(tmp_path), Monitor(), resume=False)
    ahead = training.batches()
    training.step(ahead)
    after = dict(training.bare.named_parameters())
    assert torch.equal(after["first.weight"], before["first.weight"])
    assert not torch.equal(after["second.weight"], before["second.weight"])
    assert not torch.equal(training.ema["second.weight"], before["second.weight"])
    ahead.close()
