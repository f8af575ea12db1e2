"""The parsers of reader studies: plan, key, tokens, scales, answers, and results."""

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

_SHARE = {"value": 0.7, "low": 0.6, "high": 0.8}
_COMPARED = {"group": "g", "control": False, "readers": 2, "cases": 3, "answers": 6,
             "accuracy": _SHARE, "d_prime": _SHARE, "equivalence_p": 0.5, "verdict": "told",
             "per_reader": {"reader-1": 0.7}}  # fmt: skip
_ANALYSIS = {
    "schema_version": 1, "study": "a", "margin": 0.1, "real_fingerprint": "a",
    "fingerprints": {"g": "b"}, "readers": {"reader-1": {"answered": 1, "asked": 2}},
    "compared": [_COMPARED, {**_COMPARED, "group": "blurred", "control": True}],
    "rated": [{"item": "look", "question": "q", "levels": ["a", "b"], "alpha": _SHARE,
               "ac2": None, "means": {"g": _SHARE, "real": _SHARE}}],
}  # fmt: skip


def _analysis(file: Path) -> object:
    from synthbench.readers.results import Analysis
    from synthbench.readers.scorecards import result_of
    from synthbench.report.readers import result_sentences

    return result_sentences(result_of(Analysis.load(file), "b", str(file)))


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
        Parser("score --readers", "analysis.json", damage.damaged_json((_ANALYSIS,)), _analysis),
        Parser("scales.yaml", "scales.yaml", damage.damaged_yaml((_SCALES,)), _scales),
        Parser("answers", "reader-1.jsonl", line | damage.damaged_bytes(
            (json.dumps(_ANSWER).encode() + b"\n",)), _answers),
    ]  # fmt: skip
