"""Transfer: a network pretrained on one label and cohort, fine-tuned on another.

An example: sex in a healthy cohort, then dementia. The question is whether pretraining on real and
synthetic volumes gives a better start than pretraining on real ones alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import UsageError
from synthbench.metrics.inference.downstream import Predictions, difference, value
from synthbench.records.cohort import CohortRecord
from synthbench.records.utility import Utility
from synthbench.utility.arms import MEASURES, Portion, Tested
from synthbench.utility.cohorts import (
    Labelled,
    LabelRule,
    check_apart,
    check_both_classes,
    drawn_subjects,
    label_rule,
    labelled,
    real_labels,
)
from synthbench.utility.network import NetworkLearner, State, build
from synthbench.utility.record import BOTH, REAL, SYNTHETIC, Arm, Estimated, Question, summarised

SCRATCH = "from scratch"
TEST_SHARE = 0.5


@dataclass(frozen=True)
class Transfer:
    """The label and the cohort to fine-tune on.

    Attributes
    ----------
    label
        A column of the target cohort's participants table.
    data
        The target cohort: half of its subjects for fine-tuning, half for testing.
    """

    label: str
    data: Path

    @classmethod
    def parse(cls, text: str) -> Transfer:
        """Return the transfer of a text "label=NAME,data=DIR".

        >>> Transfer.parse("label=dementia,data=oasis")
        Transfer(label='dementia', data=PosixPath('oasis'))

        Raises
        ------
        UsageError
            It has another form.
        """
        pairs = dict(part.partition("=")[::2] for part in text.split(",", 1))
        if set(pairs) != {"label", "data"} or not all(pairs.values()):
            raise UsageError(f"--transfer {text}: write it as label=NAME,data=DIR")
        return cls(pairs["label"], Path(pairs["data"]))


@dataclass(frozen=True)
class Transferred:
    """The arms after fine-tuning, and the verdict."""

    arms: tuple[Arm, ...]
    summary: Utility


def target_of(
    transfer: Transfer, cohort: Cohort, sources: Mapping[str, Labelled]
) -> tuple[Labelled, LabelRule]:
    """Return the labelled target cohort and its rule, checked before anything is trained.

    Raises
    ------
    SynthbenchError
        The target cohort has subjects or volumes of the source cohorts, or its label cannot be
        used.
    """
    check_apart(sources["real"].cohort, sources["synth"].cohort, cohort, "transfer")
    found = real_labels(cohort, transfer.label, "transfer")
    rule = label_rule(transfer.label, found, "auto")
    target = labelled(cohort, found, rule, "transfer")
    check_both_classes(target, rule, "transfer")
    return target, rule


def transferred(
    learner: NetworkLearner,
    transfer: Transfer,
    target: Labelled,
    rule: LabelRule,
    *,
    settings_hash: str,
    level: float = 0.95,
    seed: int = 0,
) -> Transferred:
    """Return the arms after fine-tuning on half of a cohort; the other half is tested.

    The arms are pretrained on real volumes, synthetic ones, both, or not at all. The last layer
    gets new random weights before fine-tuning; all weights are tuned. `target` and `rule` are from
    `target_of`.
    """
    n_test = max(1, round(TEST_SHARE * len(set(target.subjects))))
    tested = np.isin(target.subjects, drawn_subjects(target, n_test, rule.task, [seed, 0x7F]))
    space, intensity = learner.volumes["real"].space, learner.volumes["real"].intensity
    tuning = replace(
        learner, task=rule.task, sources={"real": target},
        volumes={"real": target.cohort.volumes(space, intensity, role="transfer")},
    )  # fmt: skip
    rows = {source: np.arange(len(learner.sources[source])) for source in ("real", "synth")}
    pretrained: dict[str, Sequence[Portion]] = {
        SCRATCH: (),
        REAL: [Portion("real", rows["real"])],
        SYNTHETIC: [Portion("synth", rows["synth"])],
        BOTH: [Portion("real", rows["real"]), Portion("synth", rows["synth"])],
    }
    onto = [Portion("real", np.flatnonzero(~tested))]
    test = Tested.of(tuning.sources, "real", np.flatnonzero(tested))
    predictions = {}
    for name, portions in pretrained.items():
        outputs = []
        for number in range(learner.settings.seeds):
            start = _start(learner, tuning, portions, number)
            network = tuning.trained(onto, number, start)
            outputs.append(tuning.outputs(network, "real", test.rows, onto))
        predictions[name] = test.together(Predictions(np.stack(outputs)))
    measures = MEASURES[rule.task]
    arms = tuple(
        Arm(
            name=name, tested=len(test.truth),
            real=sum(len(p.rows) for p in pretrained[name] if p.source == "real"),
            synth=sum(len(p.rows) for p in pretrained[name] if p.source == "synth"),
            values={m.name: Estimated.of(value(m, found, test.truth, level)) for m in measures},
        )
        for name, found in predictions.items()
    )  # fmt: skip
    measure = measures[0]
    over = difference(measure, predictions[BOTH], predictions[REAL], test.truth, level)
    cohorts = {source: learner.sources[source].cohort for source in ("real", "synth")}
    cohorts["transfer"] = target.cohort
    summary = summarised(
        measure, over, arms, {role: CohortRecord.of(cohort) for role, cohort in cohorts.items()},
        Question(transfer.label, rule.task, "cnn", settings_hash),
        n_real=int((~tested).sum()), n_synth=len(rows["synth"]),
        what="pretraining on synthetic data too",
    )  # fmt: skip
    return Transferred(arms, summary)


def _start(
    learner: NetworkLearner, tuning: NetworkLearner, portions: Sequence[Portion], number: int
) -> State | None:
    """Return a pretrained network's weights with a new random last layer; None from scratch."""
    if not portions:
        return None
    pretrained = learner.trained(portions, number)
    fresh = build(tuning.settings.network, [tuning.seed, number])
    head = [name for name, module in fresh.named_modules() if isinstance(module, nn.Linear)][-1]
    return {
        name: fresh.state_dict()[name] if name.startswith(f"{head}.") else tensor.cpu()
        for name, tensor in pretrained.state_dict().items()
    }
