from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import ScorecardError, UsageError
from synthbench.metrics.inference.resampling import estimate
from synthbench.records.scorecard import Scorecard
from synthbench.scoring import scoring
from synthbench.scoring.cache import store
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.sample_data import SampleData, load_sample_data, require_sample_data
from synthbench.scoring.settings import Context, ScoringSettings
from tests.conftest import blob
from tests.scoring.test_scoring import save

pytestmark = pytest.mark.slow

EXTRACTOR = "random-resnet10"
METRICS = ("mmd2", "fid", "intensity", "g4r_ssim", "mmd_linear")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Eight real volumes, and seven synthetic ones of known seeds, named against their order."""
    root = tmp_path_factory.mktemp("cohorts")
    for role, n, width in (("real", 8, 1.0), ("synth", 7, 0.9)):
        (root / role).mkdir()
        for i in range(n):
            file = root / role / f"{role}-patient-{n - i}.nii.gz"
            save(blob(1000 * len(role) + i, width=width), file)
            if role == "synth":
                sidecar = {"synthetic": True, "generator": "g", "seed": 100 + i}
                file.with_name(file.name.replace(".nii.gz", ".json")).write_text(
                    json.dumps(sidecar), encoding="utf-8"
                )
    return root


@pytest.fixture(scope="module")
def scored(folders):
    """The scorecard, and the file of its sample data."""
    file = folders / "sample-data.npz"
    found = scoring.score_cohorts(
        CohortSet.read(folders / "real", folders / "synth"),
        ScoringSettings(extractors=(EXTRACTOR,), metrics=METRICS, resamples=100),
    )
    found.sample_data.save(file)
    return found.card, file


def test_every_row_is_computed_again_as_it_was_scored(scored):
    """To the digit: what is kept is what the scoring took, the cross matrices among it."""
    card, _ = scored
    sample_data = require_sample_data(card, "card")
    rows = [row for row in card.values if row.value is not None]
    assert {row.metric for row in rows} == {*METRICS, "g4r_ssim.synth", "g4r_ssim.real"}
    for row in rows:
        assert estimate(sample_data.row_statistic(row)) == row.value


def test_the_file_holds_what_the_cache_holds(scored):
    card, file = scored
    one, other = SampleData.load(file), require_sample_data(card, "card")
    assert one.packed() == other.packed()
    found = load_sample_data(card, [file], cache=Cache(file.parent / "nothing"))
    assert found is not None
    assert found.key == one.key


def test_seeds_follow_the_volumes_in_their_cohorts_order(scored, folders):
    sample_data = require_sample_data(scored[0], "card")
    files = [entry.path for entry in read_cohort(folders / "synth").entries]
    sidecars = [
        f.with_name(f.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8") for f in files
    ]
    assert sample_data.seeds == tuple(json.loads(text)["seed"] for text in sidecars)


def test_no_name_and_no_path_is_kept(scored, folders):
    """Of a file, a subject or a folder, in any member; and it is read without pickles."""
    with zipfile.ZipFile(scored[1]) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    for word in ("patient", "nii.gz", str(folders), folders.name):
        assert word.encode() not in content
    with np.load(scored[1], allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_features_are_stored_once_for_all_metrics_of_an_extractor(scored):
    with np.load(scored[1]) as file:
        assert sum(file[name].dtype == np.float32 for name in file.files) == 2


def test_synthetic_images_in_another_order_leave_every_value(scored):
    """Statistics are order-invariant; a permutation twice is the original."""
    card, _ = scored
    sample_data = require_sample_data(card, "card")
    order = [6, 0, 5, 1, 4, 2, 3]
    turned = sample_data.with_synth(order)
    for row in card.values:
        assert estimate(turned.row_statistic(row)) == pytest.approx(row.value, rel=1e-9)
    back = turned.with_synth(np.argsort(order))
    assert back.seeds == sample_data.seeds != turned.seeds
    for key, job in sample_data.jobs.items():
        for one, other in ((job.synth, back.jobs[key].synth), (job.cross, back.jobs[key].cross)):
            np.testing.assert_equal(one, other)
    # The images themselves have moved, in rows and in pairs.
    for key in ("intensity", "g4r_ssim", "mmd_linear"):
        assert not np.array_equal(turned.jobs[key].synth, sample_data.jobs[key].synth)


def test_unknown_keys_and_parts_are_named(scored):
    sample_data = require_sample_data(scored[0], "card")
    with pytest.raises(UsageError, match=r"did you mean 'fid \| random-resnet10'"):
        sample_data.statistic("fid | random-resnet")
    with pytest.raises(UsageError, match="g4r_ssim: no part 'sinth'; did you mean 'synth'"):
        sample_data.statistic("g4r_ssim", "sinth")


def test_volumes_that_were_scored_elsewhere_are_explained(scored, tmp_path, monkeypatch):
    card, file = scored
    monkeypatch.setenv("SYNTHBENCH_CACHE", str(tmp_path / "empty"))
    assert load_sample_data(card) is None
    with pytest.raises(
        ScorecardError, match=r"the volumes behind card\.json were not scored on this"
    ):
        require_sample_data(card, "card.json")
    assert require_sample_data(card, "card.json", [file]).key == SampleData.load(file).key
    (tmp_path / "x.npz").write_bytes(file.read_bytes()[:-30])
    for wrong in (tmp_path / "x.npz", tmp_path / "absent.npz"):
        with pytest.raises(ScorecardError, match=wrong.name):
            require_sample_data(card, "card.json", [wrong])


def test_damaged_materials_count_as_absent(scored, tmp_path):
    card, file = scored
    key = SampleData.load(file).key
    for content in (b"", b"PK", file.read_bytes()[:500], b"{}"):
        cache = Cache(tmp_path / "cache", 10**9)
        cache.keep_sample_data(key, content)
        assert load_sample_data(card, cache=cache) is None


def test_materials_share_the_limit_of_the_cache_and_are_its_owners(scored, tmp_path):
    """The least recently used goes first; what is larger than the limit is not kept at all."""
    size = len(scored[1].read_bytes())
    said: list[str] = []
    cache = Cache(tmp_path / "cache", int(2.5 * size), said.append)
    for i in range(3):
        cache.keep_sample_data(f"{i:064x}", bytes(size))
        os.utime(cache._path("sample data", store.SAMPLE_DATA, f"{i:064x}"), (i, i))
    cache.trim()
    assert [cache.find_sample_data(f"{i:064x}") is not None for i in range(3)] == [
        False,
        True,
        True,
    ]
    assert [(u.name, u.files) for u in store.usage(cache.folder)] == [("sample-data", 2)]
    assert (cache.folder / "sample-data").stat().st_mode & 0o077 == 0
    cache.keep_sample_data("f" * 64, bytes(3 * size))
    assert cache.find_sample_data("f" * 64) is None
    assert "SYNTHBENCH_CACHE_LIMIT" in said[0]
    store.clear(cache.folder)
    assert store.usage(cache.folder) == []


def test_a_run_without_the_cache_keeps_nothing(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHBENCH_CACHE", str(tmp_path / "cache"))
    scoring.score(
        folders / "real", folders / "synth", extractors=["voxels"], metrics=["fid"],
        resamples=100, context=Context(cache=None),
    )  # fmt: skip
    assert not (tmp_path / "cache").exists()


def test_magnitudes_are_the_terms_that_the_metrics_sum(scored):
    """MMD^2 = A + B - 2 C and FID = T - 2 N, so A + B + 2 C and T follow from independent sums.

    T = |mu_x - mu_y|^2 + tr S_x + tr S_y, by numpy's mean and var.
    """
    card, _ = scored
    material = require_sample_data(card, "card").jobs[f"fid | {EXTRACTOR}"]
    x, y = (np.asarray(m, np.float64) for m in (material.real, material.synth))
    terms = ((x.mean(0) - y.mean(0)) ** 2).sum() + x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    assert card.row("fid").magnitude == pytest.approx(terms, rel=1e-6)
    bandwidth = card.protocol.settings[f"mmd2 | {EXTRACTOR}"]["bandwidth"]

    def kernel(a, b):
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * bandwidth**2))

    within = [(kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1)) for a in (x, y)]
    sizes = sum(within) + 2 * kernel(x, y).mean()
    assert card.row("mmd2").magnitude == pytest.approx(sizes, rel=1e-9)
    gap = card.row("g4r_ssim")
    parts = [card.row(f"g4r_ssim.{part}").value for part in ("synth", "real")]
    assert gap.magnitude == pytest.approx(sum(map(abs, parts)), rel=1e-12)
    assert card.row("intensity").magnitude == card.row("intensity").value


def test_scorecards_of_before_still_load(scored, tmp_path):
    """They have no magnitudes; their protocol's hash is untouched."""
    record = json.loads(scored[0].model_dump_json())
    for row in record["values"]:
        del row["magnitude"]
    (tmp_path / "old.json").write_text(json.dumps(record), encoding="utf-8")
    old = Scorecard.load(tmp_path / "old.json")
    assert old.values[0].magnitude is None
    assert old.protocol_hash == scored[0].protocol_hash
