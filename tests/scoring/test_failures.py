"""Synthetic volumes that failed: counted and shown; the others are scored."""

from __future__ import annotations

import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import beta

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, MetricError
from synthbench.leaderboard.page import render_details
from synthbench.records.scorecard import Scorecard
from synthbench.report.failures import failures_line, share_words
from synthbench.report.html import report
from synthbench.report.text import header, scorecard_table
from synthbench.runtime.part import Part
from synthbench.scoring import freeze, scoring
from synthbench.scoring.cache.parts import AllParts
from synthbench.scoring.inputs import CohortSet, draw, scored_cohort
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.setup import feature_part
from tests.conftest import AFFINE, blob

pytestmark = pytest.mark.slow

SETTINGS = ScoringSettings(extractors=("voxels",), metrics=("mmd2", "intensity"), resamples=100)
CONTEXT = Context(cache=None)


def save(data: np.ndarray, file: Path, affine: np.ndarray = AFFINE) -> None:
    nib.save(nib.Nifti1Image(data, affine), file)


BROKEN: dict[str, Any] = {
    "constant": lambda file: save(np.zeros((24, 24, 24), np.float32), file),
    "not-positive": lambda file: save(blob(9) - np.float32(2), file),
    "not-finite": lambda file: save(np.full((24, 24, 24), np.nan, np.float32), file),
    "other-grid": lambda file: save(blob(9, (20, 24, 24)), file),
    "not-a-volume": lambda file: file.write_bytes(b"truncated"),
}


@pytest.fixture
def real(make_cohort):
    return make_cohort("real", n=6, seed=1)


@pytest.fixture
def synth(make_cohort):
    """Ten volumes; five of them failed, each in another way."""
    folder = make_cohort("synth", n=10, seed=2)
    for number, spoil in enumerate(BROKEN.values()):
        spoil(folder / f"sub-{number:03d}.nii.gz")
    return folder


def counted(real: Path, synth: Path, settings: Any = SETTINGS) -> Scorecard:
    cohorts = CohortSet.read(real, synth, count_failures=True)
    return scoring.score_cohorts(cohorts, settings, CONTEXT, accept=["few"]).card


def called(folder: Path, number: int) -> str:
    content = (folder / f"sub-{number:03d}.nii.gz").read_bytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()[:12]}"


def console(card: Scorecard) -> str:
    from rich.console import Console

    shown = io.StringIO()
    Console(width=300, file=shown).print(scorecard_table(card))
    return shown.getvalue()


def test_the_others_are_scored_and_the_failures_have_reasons(real, synth, tmp_path):
    """The values are those of a folder without them; each failure has its code.

    A file name that synthbench did not give may be a person's: its place has the content's hash.
    """
    card = counted(real, synth)
    assert card.synth.failed is not None
    assert [(f.file, f.reason) for f in card.synth.failed] == [
        (called(synth, number), reason) for number, reason in enumerate(BROKEN)
    ]
    assert (card.synth.n, card.synth.drawn, card.synth.available) == (5, 10, 10)
    assert card.synth.failed_share == 0.5
    rest = tmp_path / "rest"
    rest.mkdir()
    for number in range(5, 10):
        shutil.copy(synth / f"sub-{number:03d}.nii.gz", rest)
    without = scoring.score(real, rest, accept=["few"], context=CONTEXT, **dict(SETTINGS))
    assert without.values == card.values
    assert without.synth.failed is None


def test_a_volume_that_an_extractor_refuses_has_failed(make_cohort, tmp_path):
    """`random-resnet10` cannot take one grey level. All other metrics leave the volume out, too.

    Without the count it is an error, and so it is in a real cohort. A benchmark draws the volume,
    and jobs that divide the features leave it out.
    """
    settings = SETTINGS.model_copy(update={"extractors": ("voxels", "random-resnet10")})
    real, synth = make_cohort("real", n=6, seed=1), make_cohort("synth", n=7, seed=2)
    grey = np.zeros((24, 24, 24), np.float32)
    grey[8:16, 8:16, 8:16] = 0.5
    save(grey, synth / "sub-003.nii.gz")
    refusal = r"synth: sub-003\.nii\.gz: random-resnet10.*must differ"
    with pytest.raises(MetricError, match=refusal):
        scoring.score(real, synth, accept=["few"], context=CONTEXT, **dict(settings))
    spoiled = CohortSet.read(synth, real, count_failures=True)
    with pytest.raises(MetricError, match=refusal.replace("synth", "real")):
        scoring.score_cohorts(spoiled, settings, CONTEXT, accept=["few", "label-maps"])
    card = counted(real, synth, settings)
    assert [failed.reason for failed in card.synth.failed or ()] == ["refused"]
    assert (card.synth.n, card.synth.drawn, card.synth.available) == (6, 7, 7)
    rest = tmp_path / "rest"
    shutil.copytree(synth, rest, ignore=shutil.ignore_patterns("sub-003*"))
    without = scoring.score(real, rest, accept=["few"], context=CONTEXT, **dict(settings))
    assert card.values == without.values
    found = scored_cohort(read_cohort(synth, count_failures=True), card.synth, "synth", 0)
    assert found is not None
    assert found.fingerprint == card.synth.fingerprint == without.synth.fingerprint

    cohorts = CohortSet.read(real, synth, count_failures=True)
    (tmp_path / "parts").mkdir()
    for part in (Part(1, 2), Part(2, 2)):
        file = tmp_path / "parts" / f"{part.number}.npz"
        feature_part(cohorts, settings, CONTEXT, part).save(file)
    of_parts = replace(CONTEXT, parts=AllParts.load(tmp_path / "parts"))
    divided = scoring.score_cohorts(cohorts, settings, of_parts, accept=["few"]).card
    assert (divided.values, divided.synth) == (card.values, card.synth)

    frozen = freeze.freeze(real, "b", settings, CONTEXT, n_synth=7)
    entry = counted(real, synth, frozen)
    assert (entry.synth.n, entry.synth.drawn) == (6, 7)


def test_too_few_volumes_that_can_be_measured_are_an_error(make_cohort):
    settings = SETTINGS.model_copy(update={"extractors": ("random-resnet10",)})
    real, synth = make_cohort("real", n=6, seed=1), make_cohort("synth", n=6, seed=2)
    grey = np.zeros((24, 24, 24), np.float32)
    for number in range(4):
        grey[8:16, 8:16, 8 : 14 + number] = 0.5
        save(grey, synth / f"sub-00{number}.nii.gz")
    with pytest.raises(CohortError, match="found 2, and 4 volumes failed"):
        counted(real, synth, settings)


def test_the_share_stands_beside_every_value(real, synth, tmp_path):
    """In table, header and page; its interval is Clopper and Pearson's."""
    card = counted(real, synth)
    low, high = beta.ppf(0.025, 5, 6), beta.ppf(0.975, 6, 5)
    assert f"50.0%, 95% interval {low:.1%} to {high:.1%}" in failures_line(card)
    table = [line for line in console(card).splitlines() if "50.0% (5 of 10)" in line]
    rows = sum(value.value is not None for value in card.values)
    assert len(table) == 2 + rows  # and the opening sentence, and the header
    assert "failed 50.0% (5 of 10)" in header(card)
    card.save(tmp_path / "card.json")
    assert Scorecard.load(tmp_path / "card.json") == card
    assert report([tmp_path / "card.json"]).count("50.0% (5 of 10)") > len(card.values)
    old = card.model_copy(update={"synth": card.synth.model_copy(update={"failed": None})})
    assert share_words(old.synth) == failures_line(old) == ""
    assert "failed" not in console(old)


def test_no_failure_is_a_count_too(real, make_cohort):
    card = counted(real, make_cohort("synth", n=6, seed=2))
    assert share_words(card.synth) == "0% (0 of 6)"


def test_without_the_option_the_message_names_it(real, synth):
    with pytest.raises(CohortError, match="--count-failures") as refused:
        CohortSet.read(real, synth)
    assert "leave it out" not in str(refused.value)
    with pytest.raises(CohortError, match="fix or remove them"):
        read_cohort(synth, role="real")


@pytest.mark.parametrize("way", ["constant", "not-positive", "not-a-volume"])
def test_where_every_volume_failed_nothing_can_be_counted(make_cohort, way):
    """And the option that was given is not recommended."""
    synth = make_cohort("synth", n=5, seed=2)
    for file in synth.glob("sub-*.nii.gz"):
        BROKEN[way](file)
    with pytest.raises(CohortError, match="synth: 5 of 5 volumes") as refused:
        read_cohort(synth, role="synth", count_failures=True)
    assert "Every volume failed" in str(refused.value)
    assert "--count-failures" not in str(refused.value)


def test_too_few_that_did_not_fail_are_refused(real, synth):
    for number in (8, 9):
        (synth / f"sub-{number:03d}.nii.gz").write_bytes(b"")
    with pytest.raises(CohortError, match="found 3, and 7 volumes failed"):
        CohortSet.read(real, synth, count_failures=True)


def test_a_file_that_is_not_there_is_no_failure_of_the_generator(real, synth):
    (synth / "sub-010.nii.gz").symlink_to("nowhere.nii.gz")
    with pytest.raises(CohortError, match="cannot be counted as a failure"):
        CohortSet.read(real, synth, count_failures=True)


def test_real_volumes_that_fail_are_errors(real, synth):
    BROKEN["constant"](real / "sub-000.nii.gz")
    with pytest.raises(CohortError, match="real: 1 of 6"):
        CohortSet.read(real, synth, count_failures=True)


def test_a_benchmark_draws_failed_volumes_too(real, make_cohort, tmp_path):
    """Drawn are 6 of 12. The draw is over all, by the hashes of their content."""
    synth = make_cohort("many", n=12, seed=3)
    for number in (1, 4, 7):
        BROKEN["constant"](synth / f"sub-{number:03d}.nii.gz")
    benchmark = freeze.freeze(real, "b", SETTINGS, CONTEXT, n_synth=6)
    card = counted(real, synth, benchmark)
    read = read_cohort(synth, role="synth", count_failures=True)
    assert read.failed is not None
    order = sorted(
        [(e.digest, e.name, False) for e in read.entries]
        + [(f.digest, f.name, True) for f in read.failed]
    )
    drawn = [order[i] for i in draw(12, 6, benchmark.protocol.seed)]
    assert card.synth.failed is not None
    assert [f.file for f in card.synth.failed] == sorted(
        f"sha256:{digest[:12]}" for digest, _, bad in drawn if bad
    )
    assert card.synth.n == sum(not bad for *_, bad in drawn)
    assert (card.synth.drawn, card.synth.available) == (6, 12)
    assert card.protocol.hash == benchmark.protocol.hash
    again = scored_cohort(read, card.synth, "synth", benchmark.protocol.seed)
    assert again is not None
    assert again.fingerprint == card.synth.fingerprint
    _board_shows(benchmark, card, tmp_path)


def _board_shows(benchmark: Any, card: Scorecard, folder: Path) -> None:
    benchmark.save(folder / "b")
    (folder / "b" / "entries").mkdir()
    card.save(folder / "b" / "entries" / "one.json")
    page = render_details(folder / "b")
    assert page.count(share_words(card.synth)) >= 3
