"""Extraction: reading ahead, extractors' own grids, the cache, and several processes."""

from __future__ import annotations

import json
import threading

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import MetricError
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from synthbench.scoring import scoring
from synthbench.scoring.cache.store import Cache, usage
from synthbench.scoring.features import Extractors, add_features, extract
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample
from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS, Corrupted
from synthbench.sensitivity.study import Held
from synthbench.volumes.grid import PAPER_GRID, Space, resample
from synthbench.volumes.sets import Flipped, Joined
from tests.command_line import run_as_two
from tests.conftest import blob

pytestmark = pytest.mark.slow

COARSE = Space.of((8, 8, 8), np.array([[12, 0, 0, -42], [0, 12, 0, -42], [0, 0, 12, -42],
                                       [0, 0, 0, 1]]))  # fmt: skip


class Moments:
    """Four moments of each volume, and how often they were asked for."""

    name, dim, weights_sha256, space = "moments", 4, None, None
    preprocessing, layer, summary, needs = "none-v1", "none", "moments", "nothing"

    def __init__(self, space=None):
        self.space = space
        self.calls = []

    def features(self, volumes):
        import torch

        self.calls.append(len(volumes))
        rows = volumes.flatten(1).double()
        return torch.stack([(rows**k).sum(dim=1) for k in range(1, 5)], dim=1).float()


def moments(volume):
    return np.array([(volume.astype(np.float64) ** k).sum() for k in range(1, 5)])


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", 10**6)


@pytest.fixture
def volumes(make_cohort):
    return read_cohort(make_cohort("real", n=7)).volumes()


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_one_row_a_volume_in_order(volumes, batch_size):
    done = []
    extractor = Moments()
    found = extract(extractor, volumes, batch_size, lambda *counts: done.append(counts))
    np.testing.assert_allclose(found, [moments(v) for v in volumes], rtol=1e-6)
    assert found.dtype == np.float32
    assert sum(extractor.calls) == 7
    assert max(extractor.calls) == min(batch_size, 7)
    assert done[-1] == (7, 7)


def test_a_row_does_not_depend_on_the_number_of_threads(volumes):
    """Each volume has one thread, so nothing is summed in another order."""
    import torch

    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(extract(RandomResNet10(), volumes))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].tobytes() == found[1].tobytes()


class Recorded:
    """Volumes that note which were read."""

    def __init__(self, volumes):
        self.volumes, self.space, self.read = volumes, volumes.space, []
        self.another = threading.Condition()

    def __len__(self):
        return len(self.volumes)

    def __getitem__(self, index):
        with self.another:
            self.read.append(index)
            self.another.notify_all()
        return self.volumes[index]

    def __iter__(self):
        raise AssertionError("read by index")


def test_volumes_are_read_while_the_extractor_works_and_only_a_few_ahead(make_cohort):
    """While the first volume is in the extractor, two threads read the next ones; with two
    results a thread waiting and one handed over, at most 2 * 2 + 1 are read beyond those done.
    """
    recorded = Recorded(read_cohort(make_cohort("real", n=12)).volumes())

    class Waiting(Moments):
        def features(self, volumes):
            with recorded.another:
                done = len(self.calls)
                wanted = min(12, done + 2)
                assert recorded.another.wait_for(lambda: len(recorded.read) >= wanted, timeout=20)
                assert len(recorded.read) <= done + 5
            return super().features(volumes)

    extract(Waiting(), recorded, batch_size=1, workers=2)
    assert sorted(recorded.read) == list(range(12))


# --- an extractor's own grid ---


def test_volumes_reach_an_extractor_on_its_own_grid(volumes):
    expected = [moments(resample(v, volumes.space, COARSE)) for v in volumes]
    np.testing.assert_allclose(extract(Moments(COARSE), volumes), expected, rtol=1e-6)


def test_mirrored_volumes_are_mirrored_before_they_are_resampled(volumes):
    """The grid of the cohort is not centred on x = 0, so the order matters."""
    shifted = Space.of(COARSE.shape, COARSE.matrix + np.array([[0, 0, 0, 7.0]] + 3 * [[0] * 4]))
    mirrored = [v[::-1].copy() for v in volumes]
    expected = [moments(resample(v, volumes.space, shifted)) for v in mirrored]
    found = extract(Moments(shifted), Flipped(volumes))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_damaged_and_joined_volumes_know_their_grid(volumes):
    damaged = Corrupted(volumes, CORRUPTIONS["blur"], 4.0, seed=0)
    expected = [moments(resample(v, volumes.space, COARSE)) for v in damaged]
    np.testing.assert_allclose(extract(Moments(COARSE), damaged), expected, rtol=1e-6)
    both = extract(Moments(COARSE), Joined(volumes, damaged))
    np.testing.assert_allclose(both[7:], expected, rtol=1e-6)


def test_volumes_outside_an_extractors_grid_are_refused_by_name(make_cohort):
    """Centred 200 mm to the right, nothing of a volume of 96 mm lies within 90 mm of the middle."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (154, -46, -46)
    volumes = read_cohort(make_cohort("far", n=2, affine=affine)).volumes()
    with pytest.raises(MetricError) as caught:
        extract(Moments(PAPER_GRID), volumes)
    message = str(caught.value)
    assert "moments has a grid of its own, 84 x 128 x 84" in message
    assert "sub-00" in message
    assert "found 0% for" in message
    assert "MNI152" in message


@pytest.mark.parametrize(("shift", "fits"), [(40, True), (60, False)])
def test_at_least_half_of_the_intensity_must_lie_inside(make_cohort, shift, fits):
    """A ball in the middle of a grid that is shifted against another of 96 mm: by 40 mm its middle
    is inside still, by 60 mm it is outside, and so is more than half of it.
    """
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (-46 + shift, -46, -46)
    volumes = read_cohort(make_cohort("shifted", n=2, affine=affine)).volumes()
    if fits:
        assert len(extract(Moments(COARSE), volumes)) == 2
    else:
        with pytest.raises(MetricError, match="At least 50% of a volume's intensity"):
            extract(Moments(COARSE), volumes)


def test_an_extractors_refusal_names_the_sample_and_the_file(make_cohort, tmp_path):
    folder = make_cohort("real", n=3)
    one_grey = np.zeros((24, 24, 24), dtype=np.float32)
    one_grey[8:16, 8:16, 8:16] = 0.5
    nib.save(nib.Nifti1Image(one_grey, nib.load(folder / "sub-000.nii.gz").affine),
             folder / "sub-grey.nii.gz")  # fmt: skip
    cohort = read_cohort(folder)
    sample = Sample("real", cohort.volumes(), cohort.subjects)
    loaded = Extractors({"random-resnet10": RandomResNet10()}, {}, [])
    for batch_size in (1, 4):
        message = r"real: sub-grey\.nii\.gz: random-resnet10.*must differ"
        with pytest.raises(MetricError, match=message):
            add_features([sample], loaded, Context(batch_size=batch_size))


def test_a_row_of_another_length_than_declared_is_refused(volumes):
    extractor = Moments()
    extractor.dim = 5
    with pytest.raises(MetricError, match=r"declares 5 features per volume; .* \(1, 4\)"):
        extract(extractor, volumes, batch_size=1)


# --- the cache ---


def test_a_second_extraction_computes_nothing_and_gives_the_same_bits(volumes, cache):
    first, second = Moments(), Moments()
    computed = extract(first, volumes, cache=cache)
    found = extract(second, volumes, cache=Cache(cache.folder, cache.limit))
    assert (sum(first.calls), sum(second.calls)) == (7, 0)
    assert found.tobytes() == computed.tobytes()


def test_only_new_volumes_are_computed(make_cohort, cache):
    folder = make_cohort("real", n=4)
    extract(Moments(), read_cohort(folder).volumes(), cache=cache)
    nib.save(nib.Nifti1Image(blob(99), nib.load(folder / "sub-000.nii.gz").affine),
             folder / "new.nii.gz")  # fmt: skip
    extractor = Moments()
    volumes = read_cohort(folder).volumes()
    found = extract(extractor, volumes, batch_size=2, cache=cache)
    assert extractor.calls == [1]
    np.testing.assert_allclose(found, [moments(v) for v in volumes], rtol=1e-6)


def test_mirrored_and_otherwise_prepared_volumes_have_rows_of_their_own(volumes, cache):
    extract(Moments(), volumes, cache=cache)
    cohort = volumes.cohort
    others = [
        (Moments(), Flipped(volumes)),
        (Moments(), cohort.volumes(intensity="unit")),
        (Moments(), cohort.volumes(COARSE)),
        (Moments(COARSE), volumes),
    ]
    for extractor, prepared in others:
        found = extract(extractor, prepared, cache=cache)
        assert sum(extractor.calls) == 7
        again = Moments(extractor.space)
        assert np.array_equal(extract(again, prepared, cache=cache), found)
        assert again.calls == []


def test_volumes_held_in_memory_share_the_rows_of_their_files(volumes, cache):
    extract(Moments(), volumes, cache=cache)
    extractor = Moments()
    held = Held.of(volumes)
    extract(extractor, held, cache=cache)
    assert extractor.calls == []
    extract(extractor, held.subset(np.array([1, 2])), cache=cache)
    assert sum(extractor.calls) == 2


def test_damaged_volumes_are_never_kept(volumes, cache):
    extract(Moments(), Corrupted(volumes, CORRUPTIONS["blur"], 4.0, seed=0), cache=cache)
    assert usage(cache.folder) == []


def test_rows_that_are_not_finite_are_not_kept(volumes, cache):
    class Broken(Moments):
        def features(self, volumes):
            return super().features(volumes) / 0.0

    assert not np.isfinite(extract(Broken(), volumes, cache=cache)).any()
    assert usage(cache.folder) == []


def score(real, synth, **options):
    return scoring.score(
        real, synth, extractors=["random-resnet10"], metrics=["mmd2", "memorization"],
        resamples=100, **options,
    )  # fmt: skip


def numbers(card):
    """A scorecard as JSON, but for the time at which it was made."""
    return card.model_copy(update={"created": ""}).model_dump_json()


def test_a_second_score_runs_no_network_and_gives_the_same_scorecard(
    make_cohort, tmp_path, monkeypatch
):
    """5 real, 4 synthetic and 4 training volumes; the synthetic ones mirrored too."""
    monkeypatch.setenv("SYNTHBENCH_CACHE", str(tmp_path / "cache"))
    calls = []
    compute = RandomResNet10.features

    def counted(self, volumes):
        calls.append(len(volumes))
        return compute(self, volumes)

    monkeypatch.setattr(RandomResNet10, "features", counted)
    sets = [make_cohort(role, n=n, seed=i) for i, (role, n) in
            enumerate([("real", 5), ("synth", 4), ("train", 4)])]  # fmt: skip
    for role, folder in zip(("real", "train"), (sets[0], sets[2]), strict=True):
        for file in folder.glob("*.nii.gz"):  # subjects of one name would be one person
            file.rename(folder / f"{role}{file.name.removeprefix('sub-')}")
    expected_calls = [17, 0, 17]
    cards = []
    for options in ({}, {}, {"context": Context(cache=None)}):
        before = sum(calls)
        cards.append(score(sets[0], sets[1], train=sets[2], **options))
        assert sum(calls) - before == expected_calls[len(cards) - 1]
    assert cards[0].memorization
    assert len({numbers(card) for card in cards}) == 1


# --- several processes ---


def test_two_processes_score_as_one_and_only_the_main_one_writes(
    make_cohort, tmp_path, monkeypatch
):
    """Seven real volumes for two processes: four for the first, three for the second."""
    real, synth = make_cohort("real", n=7), make_cohort("synth", n=4, seed=1)
    cache = tmp_path / "cache"
    monkeypatch.setenv("SYNTHBENCH_CACHE", str(cache))
    files = [tmp_path / name for name in ("card.json", "features.npz")]
    ended = run_as_two(
        "score", "--real", real, "--synth", synth, "--extractor", "random-resnet10",
        "--metric", "mmd2", "--metric", "memorization", "--resamples", 100,
        "--out", files[0], "--features", files[1], "--json",
    )  # fmt: skip
    output = ended.stdout
    assert ended.returncode == 0, output
    shown = json.loads(output[output.index("{") : output.rindex("}") + 1])
    assert output.count('"protocol_hash"') == 1
    assert shown == json.loads(files[0].read_text(encoding="utf-8"))
    assert {used.name: used.files for used in usage(cache)}["random-resnet10"] == 11
    alone = score(real, synth, context=Context(cache=None))
    together = type(alone).load(files[0])
    assert numbers(together) == numbers(alone)
    with np.load(files[1]) as features:
        assert features["real/random-resnet10"].shape == (7, 512)
