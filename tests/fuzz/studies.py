"""The parsers of reader studies: plan, key, tokens, scales, answers, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fuzz import mutations as damage
from tests.fuzz.parser import Parser
from tests.fuzz.records import loaded

_CASES = ("0" * 12, "1" * 12)
_STUDY = {
    "schema_version": 1, "shape": [4, 4, 4], "spacing": [2.0, 2.0, 2.0], "key_sha256": "a",
    "readers": {"reader-1": [
        {"trial": "t0001", "kind": "rating", "cases": [_CASES[0]], "practice": True},
        {"trial": "t0002", "kind": "2afc", "cases": list(_CASES), "practice": False},
    ]},
}  # fmt: skip
_KEY = {
    "schema_version": 1, "seed": 1, "generators": ["g"], "real_fingerprint": "a",
    "fingerprints": {"g": "b"},
    "cases": {case: {"group": "real", "volume": "v"} for case in _CASES},
    "pairs": [{"group": "g", "right": _CASES[0], "other": _CASES[1]}],
}  # fmt: skip
_SCALES = {
    "comments": True,
    "scales": [{"key": "look", "question": "q", "levels": ["a", "b"], "regions": ["c", "d"]}],
}
_ANSWER = {"trial": "t0002", "choice": "left", "levels": None, "comment": "x", "seconds": 1.5,
           "at": "2026-01-01T00:00:00Z", "undone": False}  # fmt: skip


def _answers(file: Path) -> object:
    from synthbench.readers.answers import read_answers
    from synthbench.readers.scales import Scales
    from synthbench.readers.study import Study

    plan = Study.model_validate(_STUDY)
    trials = {trial.trial: trial for trial in plan.readers["reader-1"]}
    return read_answers(file, trials, Scales.model_validate(_SCALES))


def _scales(file: Path) -> object:
    from synthbench.readers.scales import read_scales

    return read_scales(file).items()


def studies() -> list[Parser]:
    """Return the parsers of reader studies."""
    saved = {"schema_version": 1, "study": "a", "reader": "reader-1", "answers": [_ANSWER]}
    tokens = {"schema_version": 1, "tokens": {"reader-1": "x"}}
    line = damage.damaged_json((_ANSWER,)).map(lambda text: text + b"\n")
    module = "synthbench.readers."
    return [
        Parser("study.json", "study.json", damage.damaged_json((_STUDY,)),
               loaded(f"{module}study", "Study")),
        Parser("study's key", "study.key.json", damage.damaged_json((_KEY,)),
               loaded(f"{module}study", "Key")),
        Parser("readers' tokens", "access.json", damage.damaged_json((tokens,)),
               loaded(f"{module}sessions", "Access")),
        Parser("saved answers", "reader-1.json", damage.damaged_json((saved,)),
               loaded(f"{module}offline", "Saved")),
        Parser("scales.yaml", "scales.yaml", damage.damaged_yaml((_SCALES,)), _scales),
        Parser("answers", "reader-1.jsonl", line | damage.damaged_bytes(
            (json.dumps(_ANSWER).encode() + b"\n",)), _answers),
    ]  # fmt: skip
