"""What the cache keeps of measures: the same bits, only what is missing, and what a key holds."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from synthbench import registry
from synthbench.metrics.metric import BaseMetric, Needs
from synthbench.scoring.cache.measures import Measuring
from synthbench.scoring.cache.store import Cache, usage
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Drawn, Joined

SHAPE = (14, 15, 16)
SPACE = Space(SHAPE, (2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1))
METRICS = ("ms_ssim", "spectrum", "intensity", "mmd_linear", "g4r_ssim")
CROSS = ("ms_ssim", "mmd_linear")


@dataclass
class Numbered:
    """Random volumes by number; each number is one volume, and reads are counted."""

    numbers: tuple[int, ...]
    space: Space = SPACE
    reads: list[int] = field(default_factory=list)

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        self.reads.append(self.numbers[index])
        rng = np.random.default_rng(self.numbers[index])
        return rng.random(SHAPE, dtype=np.float32)

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def name(self, index):
        return f"number {self.numbers[index]}"

    def identity(self, index):
        return f"volume {self.numbers[index]}"


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", limit=10**8)


def measuring(name, cache, **changes):
    metric = registry.load("metrics", name)()
    settings = metric.freeze(None, None, spacing=SPACE.spacing)
    if name == "ms_ssim":
        settings = metric.with_scales(settings, 1)
    mask = np.ones(SHAPE, dtype=bool)
    mask[0] = False
    return replace(Measuring(metric, mask, settings, cache), **changes)


def bits(matrix):
    return matrix.shape, np.ascontiguousarray(matrix).tobytes()


@pytest.mark.parametrize("name", METRICS)
def test_a_second_measure_reads_no_volume_and_has_the_same_bits(name, cache):
    plain = measuring(name, None).within(Numbered((1, 2, 3, 4)))
    first, second = Numbered((1, 2, 3, 4)), Numbered((1, 2, 3, 4))
    assert bits(measuring(name, cache).within(first)) == bits(plain)
    assert bits(measuring(name, cache).within(second)) == bits(plain)
    assert first.reads
    assert not second.reads


@pytest.mark.parametrize("name", CROSS)
def test_a_second_measure_across_reads_no_volume_and_has_the_same_bits(name, cache):
    sets = (1, 2, 3), (4, 5, 6, 7)
    plain = measuring(name, None).across(*map(Numbered, sets))
    again = [Numbered(numbers) for numbers in sets]
    for volumes in ([Numbered(numbers) for numbers in sets], again):
        assert bits(measuring(name, cache).across(*volumes)) == bits(plain)
    assert not [volumes.reads for volumes in again if volumes.reads]


@pytest.mark.parametrize("name", METRICS)
def test_volumes_that_are_added_leave_the_bits_as_they_are(name, cache):
    """They lie between those that are known, as volumes are ordered by their content."""
    measuring(name, cache).within(Numbered((2, 4, 6)))
    volumes = Numbered((1, 2, 3, 4, 6))
    found = measuring(name, cache).within(volumes)
    assert bits(found) == bits(measuring(name, None).within(Numbered((1, 2, 3, 4, 6))))
    if name in ("spectrum", "intensity"):
        assert volumes.reads == [1, 3]


@pytest.mark.parametrize("name", ["ms_ssim", "g4r_ssim"])
def test_only_the_pairs_of_added_volumes_are_computed(name, cache):
    """Of 10 pairs of 5 volumes, 3 are known. Across, 1 real of 3 is new to 2 synthetic ones."""
    measuring(name, cache).within(Numbered((2, 4, 6)))
    totals = []
    told = {"progress": lambda done, total: totals.append(total)}
    measuring(name, cache, **told).within(Numbered((1, 2, 3, 4, 6)))
    assert set(totals) == {7}
    if name == "ms_ssim":
        measuring(name, cache).across(Numbered((2, 4)), Numbered((11, 12)))
        totals.clear()
        measuring(name, cache, **told).across(Numbered((2, 3, 4)), Numbered((11, 12)))
        assert set(totals) == {2}


@pytest.mark.parametrize("name", ["ms_ssim", "g4r_ssim", "mmd_linear"])
def test_another_order_has_the_bits_of_that_order(name, cache):
    measuring(name, cache).within(Numbered((1, 2, 3)))
    found = measuring(name, cache).within(Numbered((3, 1, 2)))
    assert bits(found) == bits(measuring(name, None).within(Numbered((3, 1, 2))))


@pytest.mark.parametrize("name", ["ms_ssim", "g4r_ssim"])
def test_a_design_leaves_known_pairs_out(name, cache, monkeypatch):
    """All pairs are known from a time without a design; 9 volumes have 36, the design has fewer."""
    numbers = tuple(range(9))
    measuring(name, cache).within(Numbered(numbers))
    for module in ("similarity.diversity", "g4r_ssim"):
        # `synthbench.metrics.g4r_ssim` is a function too: only this finds the module.
        monkeypatch.setattr(sys.modules[f"synthbench.metrics.{module}"], "PAIR_BUDGET", 30)
    found = measuring(name, cache).within(Numbered(numbers))
    assert np.isnan(found).any()
    assert bits(found) == bits(measuring(name, None).within(Numbered(numbers)))


def with_settings(made, **changes):
    return replace(made, settings={**made.settings, **changes})


def with_formula(made):
    made.metric.formula += "; another"
    return made


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        *((name, lambda made: replace(made, mask=np.ones(SHAPE, dtype=bool))) for name in METRICS),
        *((name, with_formula) for name in METRICS),
        ("ms_ssim", lambda made: with_settings(made, k1=0.02)),
        ("spectrum", lambda made: with_settings(made, spacing=[2, 2, 2.5])),
    ],
)
def test_another_mask_formula_or_setting_finds_nothing(name, changed, cache):
    measuring(name, cache).within(Numbered((1, 2, 3)))
    made, volumes = changed(measuring(name, cache)), Numbered((1, 2, 3))
    found = made.within(volumes)
    assert set(volumes.reads) == {1, 2, 3}
    assert bits(found) == bits(replace(made, cache=None).within(Numbered((1, 2, 3))))


def test_another_version_of_a_library_finds_nothing(cache, monkeypatch):
    measuring("intensity", cache).within(Numbered((1, 2)))
    monkeypatch.setattr("synthbench.scoring.cache.keys.version", lambda name: "0")
    volumes = Numbered((1, 2))
    measuring("intensity", cache).within(volumes)
    assert volumes.reads == [1, 2]


@pytest.mark.parametrize("name", ["ms_ssim", "intensity", "mmd_linear"])
def test_a_damaged_file_is_named_and_computed_again(name, cache):
    plain = measuring(name, cache).within(Numbered((1, 2, 3)))
    files = sorted(cache.folder.rglob("*.measure"))
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said: list[str] = []
    fresh = Cache(cache.folder, cache.limit, said.append)
    assert bits(measuring(name, fresh).within(Numbered((1, 2, 3)))) == bits(plain)
    assert len(said) == 1
    assert any(said[0].startswith(f"{file}: ") for file in files)
    again = Numbered((1, 2, 3))
    assert bits(measuring(name, fresh).within(again)) == bits(plain)
    assert not again.reads


@pytest.mark.parametrize("name", METRICS)
def test_volumes_of_unknown_origin_and_a_missing_cache_keep_nothing(name, cache):
    rng = np.random.default_rng(0)
    drawn = Drawn(SPACE, [rng.random(SHAPE, dtype=np.float32) for _ in range(2)])
    measuring(name, cache).within(drawn)
    measuring(name, cache).within(Joined(drawn, Numbered((1, 2))))
    measuring(name, None).within(Numbered((1, 2)))
    assert usage(cache.folder) == []


def test_a_metric_that_does_not_say_what_its_measures_depend_on_is_always_computed(cache):
    class Means(BaseMetric):
        name, label, formula = "means", "means", "mean"
        needs: Needs = "volumes"

        def measure(self, volumes, mask, settings, progress=None):
            return np.array([[volumes[i].mean()] for i in range(len(volumes))])

    for _ in range(2):
        volumes = Numbered((1, 2))
        Measuring(Means(), np.ones(SHAPE, dtype=bool), {}, cache).within(volumes)
        assert volumes.reads == [1, 2]
    assert usage(cache.folder) == []


def test_joined_sets_share_what_is_known_of_each(cache):
    measuring("intensity", cache).within(Numbered((1, 2)))
    added = Numbered((3, 4))
    first = Numbered((1, 2))
    measuring("intensity", cache).within(Joined(first, added))
    assert (first.reads, added.reads) == ([], [3, 4])
