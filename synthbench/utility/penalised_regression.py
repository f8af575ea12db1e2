"""Many small L2-penalised regressions on the same volumes at once.

A probe is fitted for every fold, penalty and resample; they differ in weights and penalty alone,
so one batched Newton iteration serves them all.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError

MAX_STEPS = 100
TOLERANCE = 1e-8
_CHUNK_NUMBERS = 2**25


def ridge(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "b n"],
    penalties: Float64[np.ndarray, " b"],
) -> Float64[np.ndarray, "b k1"]:
    """Minimise sum w (y - x'c - c0)^2 + penalty |c|^2, for each row of weights.

    Returns
    -------
    Float64[np.ndarray, "b k1"]
        The coefficients c, and the intercept c0 last, which is not penalised.
    """
    design = _with_intercept(x)
    return np.concatenate(
        [
            _solved(design, rows, rows * y, _diagonal(design, chunk))
            for rows, chunk in _chunks(design, weights, penalties)
        ]
    )


def logistic(
    x: Float64[np.ndarray, "n k"],
    positive: Bool[np.ndarray, " n"],
    weights: Float64[np.ndarray, "b n"],
    penalties: Float64[np.ndarray, " b"],
) -> Float64[np.ndarray, "b k1"]:
    """Minimise sum w log(1 + exp(-s (x'c + c0))) + penalty / 2 |c|^2, s = 1 or -1 the class.

    Newton's method; a step that does not lower a problem's objective is halved.

    Returns
    -------
    Float64[np.ndarray, "b k1"]
        The coefficients c, and the intercept c0 last, which is not penalised.

    Raises
    ------
    MetricError
        A row of weights leaves only one class, or the iteration does not converge.
    """
    for present in (weights[:, positive], weights[:, ~positive]):
        if not (present.sum(axis=1) > 0).all():
            raise MetricError("logistic regression: both classes are needed in every fit.")
    design = _with_intercept(x)
    return np.concatenate(
        [
            _newton(design, positive.astype(np.float64), rows, _diagonal(design, chunk))
            for rows, chunk in _chunks(design, weights, penalties)
        ]
    )


def predicted(
    x: Float64[np.ndarray, "m k"], coefficients: Float64[np.ndarray, "b k1"]
) -> Float64[np.ndarray, "b m"]:
    """Return x'c + c0 for each row of coefficients."""
    return np.asarray(coefficients[:, :-1] @ x.T + coefficients[:, -1:])


def _newton(
    design: Float64[np.ndarray, "n k1"],
    positive: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "b n"],
    diagonal: Float64[np.ndarray, "b k1"],
) -> Float64[np.ndarray, "b k1"]:
    found = np.zeros_like(diagonal)
    loss = _objective(design, positive, weights, diagonal, found)
    for _ in range(MAX_STEPS):
        log_odds = found @ design.T
        probability = 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))
        slope = (weights * (positive - probability)) @ design - diagonal * found
        curvature = weights * probability * (1 - probability)
        hessian = _gram(design, curvature) + _matrix(diagonal)
        step = np.linalg.solve(hessian, slope[..., None])[..., 0]
        # The Newton decrement: twice the distance to the minimum, of a quadratic objective.
        decrement = (step * slope).sum(axis=1)
        if (decrement <= TOLERANCE * (1e-3 + loss)).all():
            return found + step
        length = np.ones((len(found), 1))
        for _ in range(30):
            trial = _objective(design, positive, weights, diagonal, found + length * step)
            worse = trial > loss
            if not worse.any():
                break
            length[worse] /= 2
        found, loss = found + length * step, trial
    raise MetricError(
        f"logistic regression: no convergence in {MAX_STEPS} steps. Look at the features."
    )


def _objective(
    design: Float64[np.ndarray, "n k1"],
    positive: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, "b n"],
    diagonal: Float64[np.ndarray, "b k1"],
    found: Float64[np.ndarray, "b k1"],
) -> Float64[np.ndarray, " b"]:
    log_odds = found @ design.T
    losses = np.logaddexp(0, log_odds) - positive * log_odds
    return np.asarray((weights * losses).sum(axis=1) + (diagonal * found**2).sum(axis=1) / 2)


def _solved(
    design: Float64[np.ndarray, "n k1"],
    weights: Float64[np.ndarray, "b n"],
    weighted: Float64[np.ndarray, "b n"],
    diagonal: Float64[np.ndarray, "b k1"],
) -> Float64[np.ndarray, "b k1"]:
    matrix = _gram(design, weights) + _matrix(diagonal)
    return np.asarray(np.linalg.solve(matrix, (weighted @ design)[..., None])[..., 0])


def _gram(
    design: Float64[np.ndarray, "n k1"], weights: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, "b k1 k1"]:
    return np.asarray((design.T[None] * weights[:, None]) @ design)


def _matrix(diagonal: Float64[np.ndarray, "b k1"]) -> Float64[np.ndarray, "b k1 k1"]:
    return np.asarray(diagonal[:, :, None] * np.eye(diagonal.shape[1]))


def _diagonal(
    design: Float64[np.ndarray, "n k1"], penalties: Float64[np.ndarray, " b"]
) -> Float64[np.ndarray, "b k1"]:
    free = np.zeros(design.shape[1])
    free[:-1] = 1
    return penalties[:, None] * free


def _with_intercept(x: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k1"]:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _chunks(
    design: Float64[np.ndarray, "n k1"],
    weights: Float64[np.ndarray, "b n"],
    penalties: Float64[np.ndarray, " b"],
) -> list[tuple[Float64[np.ndarray, "c n"], Float64[np.ndarray, " c"]]]:
    """Divide the problems so that a chunk's weighted designs stay below 256 MB."""
    each = max(1, _CHUNK_NUMBERS // max(1, design.size))
    return [
        (weights[start : start + each], penalties[start : start + each])
        for start in range(0, len(weights), each)
    ]
