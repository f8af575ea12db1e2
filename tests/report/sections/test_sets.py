from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from synthbench.report.sections.embedding import principal
from synthbench.report.sections.section import Page
from synthbench.report.sections.sets import BINS, SECTION, histogram, maps, moments
from synthbench.volumes.grid import Space


class Stack(list[np.ndarray]):
    space = Space.of((6, 5, 4), np.diag([2.0, 2.0, 2.0, 1.0]))


def stack(seed, n=7):
    rng = np.random.default_rng(seed)
    return Stack(rng.random((6, 5, 4)).astype(np.float32) for _ in range(n))


MASK = np.arange(120).reshape(6, 5, 4) % 3 > 0


def test_moments_are_those_of_numpy():
    volumes = stack(0)
    found = moments(volumes, MASK)
    every = np.stack(volumes).astype(np.float64)
    np.testing.assert_allclose(found.mean, every.mean(axis=0))
    np.testing.assert_allclose(found.deviation, every.std(axis=0, ddof=1))
    counts = [np.histogram(v[MASK], bins=BINS, range=(0, 1))[0] / MASK.sum() for v in every]
    np.testing.assert_allclose(found.shares, np.mean(counts, axis=0))
    assert np.isclose(found.shares.sum(), 1)


def test_one_volume_has_no_spread():
    assert moments(stack(0, n=1), MASK).deviation.max() == 0


def test_maps_share_their_greys_and_say_them():
    real, synth = moments(stack(0), MASK), moments(stack(1), MASK)
    found = maps(real, synth, Stack.space)
    assert [m.title.split(",")[1].strip() for m in found[:3]] == [
        "real", "synthetic", "synthetic minus real",
    ]  # fmt: skip
    assert (
        found[0].words == found[1].words == f"white is {max(real.mean.max(), synth.mean.max()):.2g}"
    )
    same = maps(real, real, Stack.space)
    assert same[2].picture == same[5].picture
    assert "differ most" in histogram(real, synth).words


@pytest.mark.parametrize(
    ("people", "shows", "lacking"),
    [(5, True, ""), (4, True, "4 real subjects are fewer than 5"), (5, False, "left out with")],
)
def test_maps_of_few_people_or_of_hidden_ones_are_not_drawn(people, shows, lacking):
    """Twelve volumes of `people` subjects: a mean of few people would show each of them."""
    samples = {
        "real": SimpleNamespace(volumes=stack(0, n=12), subjects=np.arange(12) % people),
        "synth": SimpleNamespace(volumes=stack(1), subjects=np.arange(7)),
    }
    at_hand = SimpleNamespace(shows_real=shows, samples=samples, mask=MASK, progress=None)
    page = Page([], ["a"], at_hand={0: at_hand})  # type: ignore[dict-item]
    built = SECTION.build(page)
    assert built is not None
    (card,) = built["cards"]
    assert bool(card["maps"]) is (lacking == "")
    lines = SECTION.lacking(page)
    assert len(lines) == bool(lacking)
    assert lacking in "".join(lines)


def test_components_are_those_of_scikit_learn_with_a_sign_that_does_not_depend_on_luck():
    rng = np.random.default_rng(0)
    real, synth = rng.normal(size=(12, 6)) * [5, 3, 1, 1, 1, 1], rng.normal(size=(9, 6)) + 2
    found, shares = principal(real, synth)
    fitted = PCA(n_components=2).fit(np.concatenate([real, synth]))
    np.testing.assert_allclose(shares, fitted.explained_variance_ratio_)
    expected = fitted.transform(real)
    np.testing.assert_allclose(np.abs(found["real"]), np.abs(expected))
    turned, _ = principal(real[::-1], synth)
    np.testing.assert_allclose(turned["real"][::-1], found["real"])


def test_rows_without_a_second_component_lie_on_a_line():
    found, shares = principal(np.arange(4.0)[:, None], np.ones((2, 1)))
    assert np.all(found["real"][:, 1] == 0)
    assert shares == (1.0, 0.0)
    equal, none = principal(np.ones((3, 2)), np.ones((2, 2)))
    assert none == (0.0, 0.0)
    assert np.all(equal["synth"] == 0)
