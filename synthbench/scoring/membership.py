"""Membership inference in a scorecard: are training subjects told from people who were not seen?

The attack is `synthbench.metrics.membership`. This module applies it to cohorts, with the same
hold-out as `synthbench.scoring.memorization`, and writes the records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from synthbench.cohorts.cohort import Cohort, overlap
from synthbench.errors import MetricError
from synthbench.metrics.membership import MembershipInference, membership_inference
from synthbench.records.membership import MembershipRecord
from synthbench.records.protocol import Protocol
from synthbench.records.reasons import public_words
from synthbench.scoring.features import Extractors
from synthbench.scoring.memorization import not_assessed
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample


@dataclass(frozen=True)
class Attacked:
    """The results of the attack.

    Attributes
    ----------
    records
        One per extractor; none where there was no attack.
    why_not
        Why there was none; None where there was one, or where it is not among the metrics.
    """

    records: tuple[MembershipRecord, ...] = ()
    why_not: str | None = None


def assess(
    cohorts: Mapping[str, Cohort],
    samples: Mapping[str, Sample],
    extractors: Extractors,
    protocol: Protocol,
    context: Context,
) -> Attacked:
    """Return the results of the attack in every extractor's features.

    The real volumes are the reference, where they are people apart from training and hold-out.
    Otherwise each half of the hold-out is the reference for the other half.
    """
    metric = MembershipInference()
    if metric.name not in protocol.intervals:
        return Attacked()
    why = not_assessed(cohorts)
    if why is None and not extractors.loaded:
        why = "not assessed: membership inference needs the features of an extractor"
    if why is not None:
        return Attacked(why_not=why)
    roles = {"synth": "synth", "train": "train"}
    roles["holdout"] = "holdout" if "holdout" in cohorts else "real"
    if roles["holdout"] == "holdout" and not any(
        overlap(cohorts["real"], cohorts[role]) for role in ("train", "holdout")
    ):
        roles["reference"] = "real"
    settings = frozen_settings(metric, metric.name, protocol)
    records = []
    for name in extractors.loaded:
        features = {role: samples[source].features[name] for role, source in roles.items()}
        try:
            found = membership_inference(
                features["synth"], features["train"], features["holdout"],
                features.get("reference"),
                subjects={role: samples[source].subjects for role, source in roles.items()},
                seed=protocol.seed, level=protocol.level, **settings,
            )  # fmt: skip
        except MetricError as error:
            context.log(f"membership inference, {name}: {error}")
            return Attacked(why_not=f"not assessed: {public_words(error)}")
        records.append(
            MembershipRecord(
                extractor=name, verdict=found.verdict, text=found.text, **asdict(found)
            )
        )
    return Attacked(tuple(records))
