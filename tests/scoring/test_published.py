"""No record, report, card or page holds a path, a person or a host, whatever a metric said.

The cohorts stand in folders, and hold persons, with names that occur nowhere else. Every error
that can become a reason in a record names them all.
"""

from __future__ import annotations

import ast
import os
import platform
import socket
from dataclasses import replace
from pathlib import Path
from string import Formatter

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.failures import Failure
from synthbench.drift import two_samples
from synthbench.errors import MetricError
from synthbench.leaderboard import multiverse, ranking
from synthbench.leaderboard.html import leaderboard_report
from synthbench.leaderboard.page import render_details, render_leaderboard, render_pictures
from synthbench.metrics.extractors.anatomy import Anatomy
from synthbench.metrics.inference import intervals
from synthbench.metrics.local_copying import LocalCopying
from synthbench.metrics.memorization import Memorization
from synthbench.records.cohort import CohortRecord
from synthbench.records.reasons import REASONS, reason_of, words_of
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing
from synthbench.report.citation import cite
from synthbench.report.html import report
from synthbench.scoring import scoring
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.settings import Context, ScoringSettings
from tests.boards import features, make_board, make_materials, make_protocol
from tests.conftest import AFFINE, blob
from tests.named_cohorts import named_cohort

ACCEPT = ("background", "registered")
PERSON, FOLDER = "SURNAMEGIVEN", "hospitalward"
HOST = "hostofthatward"
SECRET = f"/data/{FOLDER}/sub-{PERSON}1950.nii.gz on {HOST}"


@pytest.fixture(autouse=True)
def _a_telling_host(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(platform, "node", lambda: HOST)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Real, training and synthetic volumes below a telling folder; the real ones have a table."""
    root = tmp_path_factory.mktemp(FOLDER)
    found = {}
    for seed, role in enumerate(("real", "train", "synth")):
        found[role] = root / role
        found[role].mkdir()
        names = [f"sub-{PERSON}{role}{i}" for i in range(6)]
        if role == "synth":
            names = [f"synth-{i:06d}" for i in range(6)]
        for i, name in enumerate(names):
            image = nib.Nifti1Image(blob(100 * seed + i), AFFINE)
            nib.save(image, found[role] / f"{name}.nii.gz")
        rows = [f"{name}\t{30 + 5 * i}\t{'MF'[i % 2]}" for i, name in enumerate(names)]
        table = "\n".join(["participant_id\tage\tsex", *rows]) + "\n"
        (found[role] / "participants.tsv").write_text(table, encoding="utf-8")
    table = "\n".join(["file\tage", *(f"synth-{i:06d}\t{30 + 5 * i}" for i in range(6))])
    found["conditions"] = root / "requested.tsv"
    found["conditions"].write_text(table + "\n", encoding="utf-8")
    return found


def told(text: str, folder: Path) -> list[str]:
    """The telling words that a text holds."""
    words = (PERSON, FOLDER, str(folder), Path(folder).as_posix(), HOST)
    return [word for word in words if word and word in text]


def fail(monkeypatch, where):
    """Let one part of a scoring fail with a message that names file, person and host."""

    def refuse(*args, **kwargs):
        raise MetricError(f"{SECRET} is too small")

    owner, name = where
    monkeypatch.setattr(owner, name, refuse)


PARTS = {
    "nothing": None,
    "measures": (Anatomy, "features"),
    "interval": (intervals, "interval"),
    "memorization": (Memorization, "assess"),
    "copied parts": (LocalCopying, "assess"),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_scorecard_tells_nobody(part, folders, monkeypatch, tmp_path):
    """The message reaches the log, where the person who scores needs it, and nothing else."""
    said: list[str] = []
    metrics: tuple[str, ...] = ("fid", "intensity", "memorization", "local_copying")
    if PARTS[part]:
        fail(monkeypatch, PARTS[part])
    if part == "measures":  # of the conditions alone
        metrics = ("intensity",)
    cohorts = CohortSet.read(
        folders["real"], folders["synth"], train=folders["train"],
        conditions=folders["conditions"],
    )  # fmt: skip
    settings = ScoringSettings(
        metrics=metrics, extractors=("random-resnet10",) if "fid" in metrics else (), resamples=50
    )
    # Measures that an earlier part has kept would not be taken again, and could not fail.
    context = Context(log=said.append, cache=None if part == "measures" else Cache())
    card = scoring.score_cohorts(cohorts, settings, context=context, accept=ACCEPT).card
    file = card.save(tmp_path / "card.json")
    assert card == Scorecard.load(file)
    if part != "nothing":
        assert any(SECRET in line for line in said)
    pages = {
        "scorecard": file.read_text(encoding="utf-8"),
        "citation": cite(card).text,
        "report": report([file]),
        "report with volumes": report(
            [file], real=folders["real"], synths=[folders["synth"]], train=folders["train"],
            real_volumes="hidden",
        ) if part == "nothing" else "",
    }  # fmt: skip
    for name, text in pages.items():
        assert told(text, folders["real"].parent) == [], name


def test_a_leaderboard_tells_nobody(tmp_path, monkeypatch):
    folder, source = make_board(tmp_path / "b", {"near": 0.1, "far": 0.6, "other": 0.3})
    one = ranking._ranking

    def refuse(entries, job, benchmark):
        if job.metric.name == "fid":
            raise MetricError(SECRET)
        return one(entries, job, benchmark)

    monkeypatch.setattr(ranking, "_ranking", refuse)
    ranking.compare(folder, source=source).save(folder)
    universe = multiverse._universe

    def refuse_another(choice, entries, benchmark):
        if "KID" in choice.words:
            raise MetricError(SECRET)
        return universe(choice, entries, benchmark)

    monkeypatch.setattr(multiverse, "_universe", refuse_another)
    multiverse.multiverse(folder, source=source).save(folder)
    texts = [file.read_text(encoding="utf-8") for file in folder.rglob("*.json")]
    texts += [render_leaderboard(folder), render_details(folder), leaderboard_report(folder)]
    texts += render_pictures(folder).values()
    assert any(REASONS["refused"] in text for text in texts)
    assert [told(text, folder) for text in texts] == [[] for _ in texts]


def test_a_reason_is_a_code_and_numbers():
    error = MetricError(f"{SECRET}: 24 voxels", "small grid", needed=44, found=24)
    why = Missing.of(error.at(SECRET))
    assert (why.code, why.numbers) == ("small grid", {"needed": 44, "found": 24})
    assert why.text == "needs at least 44 voxels per side; found 24"
    assert Missing.model_validate_json(why.model_dump_json()) == why
    with pytest.raises(ValueError, match="not that of the code"):
        Missing(**{**why.model_dump(), "text": SECRET})


@pytest.mark.parametrize(
    "error",
    [
        MetricError(SECRET),
        MetricError(SECRET, SECRET),
        MetricError(SECRET, "small grid"),
        MetricError(SECRET, "undefined", found=SECRET),  # type: ignore[arg-type]
        MetricError(SECRET, "undefined", found=float("nan")),
        RuntimeError(SECRET),
    ],
)
def test_what_is_no_code_with_its_numbers_is_refused_in_general_words(error):
    assert reason_of(error) == {"code": "refused", "numbers": {}}
    assert Missing.of(error).text == REASONS["refused"]


def test_every_code_has_words_with_numbers_only():
    for code in REASONS:
        assert words_of(code, {"needed": 2, "found": 1})


def test_every_code_that_an_error_states_is_known_and_has_its_numbers():
    """Else a record would say only that the metric is not defined."""
    stated = set()
    for file in _sources(Path(scoring.__file__).parents[1]):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                continue
            if call.func.id != "MetricError":
                continue
            codes = [str(a.value) for a in call.args[1:] if isinstance(a, ast.Constant)]
            numbers = {k.arg for k in call.keywords if k.arg}
            if codes:
                stated.add(codes[0])
                needed = {name for _, name, _, _ in Formatter().parse(REASONS[codes[0]]) if name}
                assert numbers == needed, (file, call.lineno)
    assert set(REASONS) - stated <= {"refused"}


def _sources(package):
    for folder, _, names in os.walk(package, followlinks=True):
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def test_numbers_of_numpy_are_numbers():
    found = MetricError(SECRET, "too few images", needed=2, found=np.int64(1))  # type: ignore[arg-type]
    assert reason_of(found) == {"code": "too few images", "numbers": {"needed": 2, "found": 1}}


def test_a_volume_that_failed_is_not_named_by_a_name_that_may_be_a_persons():
    failed = [Failure(name, "constant", "ab" * 32)
              for name in ("sub-Wernicke.nii.gz", "a/synth-000003.nii.gz")]  # fmt: skip
    cohort = replace(named_cohort(["x.nii"]), failed=tuple(failed))
    names = [record.file for record in CohortRecord.of(cohort).failed or ()]
    assert names == ["synth-000003.nii.gz", "sha256:abababababab"]


def test_a_comparison_that_is_refused_says_so_without_the_message(monkeypatch, caplog):
    real = features(0)
    first = make_materials(make_protocol(real), real, features(1), "1" * 64)
    asked = [two_samples.Requested("fid", "first", "FID", "lower")]

    def refuse(*_):
        raise MetricError(SECRET)

    monkeypatch.setattr(two_samples, "_compared", refuse)
    _, rows = two_samples.compare_samples(first, first, asked, extractors=())
    assert [SECRET in row.model_dump_json() for row in rows] == [False]
    assert SECRET in caplog.text


def test_no_reason_is_the_text_of_an_error():
    """A record's reason comes from `reasons.public_words`; a message holds names of files."""
    package = Path(scoring.__file__).parents[1]
    for folder in ("scoring", "leaderboard", "sensitivity"):
        for file in (package / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            for kept in ("notes.append(", "why_not=", "Missing(", "absent.append(", "unranked("):
                for piece in text.split(kept)[1:]:
                    assert "{error}" not in piece.split("\n")[0], file
                    assert "str(error)" not in piece.split("\n")[0], file
