"""Smooth statistics: their values, influence values and intervals against other routes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from synthbench.metrics.inference import influence
from synthbench.metrics.inference.influence import (
    ROLE,
    Estimate,
    Quantity,
    Smooth,
    difference,
    estimated,
)

N = 24
RNG = np.random.default_rng(5)
X = RNG.normal(size=N)
Y = 0.7 * X + RNG.normal(size=N)
Z = RNG.normal(size=N) + 0.4 * X
SIZES = np.abs(RNG.normal(size=N)) + 0.1
GROUP = np.arange(N) % 3 == 0
BINARY = (Y > 0).astype(float)

STATISTICS = {
    "mean": influence.mean(X),
    "log_mean": influence.log_mean(SIZES),
    "logit_mean": influence.logit_mean(BINARY),
    "between_groups": influence.between_groups(Y, GROUP),
    "fisher_z": influence.fisher_z(X, Y),
    "slope": influence.coefficient(X[:, None], Y, 0),
    "partial": influence.coefficient(np.column_stack([X, Z]), Y, 1),
    "standardised": influence.coefficient(np.column_stack([GROUP, X]), Y, 0, standardised=True),
    "logit_auc": influence.logit_auc(Y, GROUP),
}


def value(function: influence.Influence, w: np.ndarray | None = None) -> float:
    return float(function(np.ones((1, N)) if w is None else w[None])[0][0])


@pytest.mark.parametrize("name", STATISTICS)
def test_influence_values_are_derivatives(name):
    """By central differences, dT/dw_i at equal weights is IF_i / n; their mean is zero."""
    function = STATISTICS[name]
    found = function(np.ones((1, N)))[1][0]
    step = 1e-5
    slopes = []
    for i in range(N):
        up, down = np.ones(N), np.ones(N)
        up[i] += step
        down[i] -= step
        slopes.append((value(function, up) - value(function, down)) / (2 * step))
    assert np.allclose(found / N, slopes, atol=1e-7)
    assert abs(found.mean()) < 1e-12


@pytest.mark.parametrize("name", STATISTICS)
def test_a_weight_is_a_number_of_copies(name):
    """Weights 0, 1, 2 give what the statistic of the repeated rows gives."""
    weights = np.arange(N) % 3.0
    rows = np.repeat(np.arange(N), weights.astype(int))
    repeated = {
        "mean": lambda: influence.mean(X[rows]),
        "log_mean": lambda: influence.log_mean(SIZES[rows]),
        "logit_mean": lambda: influence.logit_mean(BINARY[rows]),
        "between_groups": lambda: influence.between_groups(Y[rows], OTHER[rows]),
        "fisher_z": lambda: influence.fisher_z(X[rows], Y[rows]),
        "slope": lambda: influence.coefficient(X[rows, None], Y[rows], 0),
        "partial": lambda: influence.coefficient(np.column_stack([X, Z])[rows], Y[rows], 1),
        "standardised": lambda: influence.coefficient(
            np.column_stack([OTHER, X])[rows], Y[rows], 0, standardised=True
        ),
        "logit_auc": lambda: influence.logit_auc(Y[rows], OTHER[rows]),
    }[name]()
    weighted = {
        "between_groups": influence.between_groups(Y, OTHER),
        "standardised": influence.coefficient(np.column_stack([OTHER, X]), Y, 0, standardised=True),
        "logit_auc": influence.logit_auc(Y, OTHER),
    }.get(name, STATISTICS[name])
    alone = float(repeated(np.ones((1, len(rows))))[0][0])
    assert math.isclose(value(weighted, weights), alone, rel_tol=1e-9)


# Every third row has no weight in that test, so its group must not be every third.
OTHER = np.arange(N) % 4 < 2


def test_values_are_those_of_other_libraries():
    line = stats.linregress(X, Y)
    assert math.isclose(math.tanh(value(STATISTICS["fisher_z"])), stats.pearsonr(X, Y).statistic)
    assert math.isclose(value(STATISTICS["slope"]), line.slope)
    area = influence.from_logit(value(STATISTICS["logit_auc"]))
    assert math.isclose(area, roc_auc_score(GROUP, Y))
    design = np.column_stack([np.ones(N), X, Z])
    assert math.isclose(value(STATISTICS["partial"]), np.linalg.lstsq(design, Y)[0][2])


def test_the_standardised_difference_is_cohens_d():
    """Of one column of 0 and 1: the means' difference over the pooled deviation (divisor n)."""
    inside, outside = Y[GROUP], Y[~GROUP]
    pooled = (((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()) / N
    found = value(influence.coefficient(GROUP[:, None] * 1.0, Y, 0, standardised=True))
    assert math.isclose(found, (inside.mean() - outside.mean()) / math.sqrt(pooled))


def test_the_variance_of_an_area_is_delongs():
    """On the scale of the area, with N/(N-1) from the pooled count in place of each class's own.

    DeLong: S10/m + S01/n with sums of squares over m - 1 and n - 1; here the same sums of squares
    over m^2 and n^2, times N/(N - 1).
    """
    higher = (Y[GROUP][:, None] > Y[~GROUP][None]).astype(float)
    area = higher.mean()
    m, n = higher.shape
    v10 = ((higher.mean(axis=1) - area) ** 2).sum() / m**2
    v01 = ((higher.mean(axis=0) - area) ** 2).sum() / n**2
    statistic = Smooth(STATISTICS["logit_auc"], {ROLE: np.arange(N)})
    found = statistic.variance({ROLE: np.ones((1, N))})[0] * (area * (1 - area)) ** 2
    assert math.isclose(found, (v10 + v01) * N / (N - 1))


def test_the_variance_of_a_slope_is_whites():
    """HC1 up to the degrees of freedom: N/(N-1) sum (x - mean)^2 e^2 / (sum (x - mean)^2)^2."""
    line = stats.linregress(X, Y)
    apart, residuals = X - X.mean(), Y - line.intercept - line.slope * X
    expected = N / (N - 1) * (apart**2 * residuals**2).sum() / (apart**2).sum() ** 2
    statistic = Smooth(STATISTICS["slope"], {ROLE: np.arange(N)})
    assert math.isclose(statistic.variance({ROLE: np.ones((1, N))})[0], expected)


def test_images_of_a_subject_are_one_observation():
    """Every row twice, as two images of one subject: the same value, and the same variance."""
    twice = np.repeat(np.arange(N), 2)
    single = Smooth(STATISTICS["fisher_z"], {ROLE: np.arange(N)})
    double = Smooth(influence.fisher_z(X[twice], Y[twice]), {ROLE: twice})
    one, other = (s.value_and_variance({ROLE: np.ones((1, len(s.subjects[ROLE])))})
                  for s in (single, double))  # fmt: skip
    assert np.allclose(one, other)


def test_an_interval_holds_its_value_and_depends_on_the_seed_alone():
    quantity = Quantity("r", "r", STATISTICS["fisher_z"], math.tanh)
    found = estimated(quantity, np.arange(N), seed=3)
    assert found is not None
    assert found == estimated(quantity, np.arange(N), seed=3)
    assert found.low is not None
    assert found.high is not None
    assert -1 < found.low < found.value < found.high < 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(influence.fisher_z(X, 2 * X), Estimate(1.0), id="perfect"),
        pytest.param(influence.fisher_z(X, np.ones(N)), None, id="constant"),
        pytest.param(influence.coefficient(np.ones((N, 1)), Y, 0), None, id="constant column"),
        pytest.param(
            influence.coefficient(np.column_stack([X, 2 * X]), Y, 0), None, id="collinear"
        ),
    ],
)
def test_what_cannot_be_told_is_not(function, expected):
    assert estimated(Quantity("q", "q", function, math.tanh), np.arange(N)) == expected


def test_few_subjects_have_no_interval():
    found = estimated(Quantity("m", "m", influence.mean(X[:7])), np.arange(7))
    assert found == Estimate(float(X[:7].mean()))


def test_a_difference_joins_intervals_as_normal_ones_are():
    """Of symmetric intervals the arms add as squares: 3 and 4 give 5."""
    found = difference(Estimate(10, 7, 13), Estimate(2, -2, 6))
    assert found == Estimate(8, 3, 13)
    turned = difference(Estimate(10, 7, 13), Estimate(-2, -6, 2), factor=-1)
    assert turned == found


def test_a_difference_keeps_asymmetry():
    """Below: the first's arm down (1) and the second's arm up (0); above: 2 and 0."""
    assert difference(Estimate(5, 4, 7), Estimate(1, 1, 1)) == Estimate(4, 3, 6)


def test_a_difference_without_an_interval_has_none():
    assert difference(Estimate(5, 4, 7), Estimate(1)) == Estimate(4)
