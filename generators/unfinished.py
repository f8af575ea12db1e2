"""Weights of an unfinished run: of its newest checkpoint, to sample from or to start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from synthbench.errors import RunError
from synthbench.generators.generator import TrainedBySteps
from synthbench.runs import checkpoint
from synthbench.runs.folder import CheckpointWeights, Run


@runtime_checkable
class HasUnfinishedWeights(Protocol):
    """A generator whose weights are more than the averaged weights of its only network."""

    def unfinished_weights(self, run: Run) -> CheckpointWeights | None:
        """Return the weights that the checkpoints of a run hold; None without a checkpoint."""
        ...


def with_weights(run: Run, plugin: Any) -> Run:
    """Return the run with weights: its own, or those of its newest good checkpoint.

    The checkpoint is used where training has not finished, so that `weights.safetensors` is not
    there or is that of an earlier end. A generator that is trained by steps needs no code for it,
    if its weights are the averaged weights that `synthbench.generators.loop.train` returns;
    otherwise it has the method of `HasUnfinishedWeights`.

    Raises
    ------
    RunError
        There are no weights, and no checkpoint either.
    """
    if run.weights_file.is_file() and run.record.get("trained") is not False:
        return run
    found = _of_checkpoints(run, plugin) if isinstance(plugin, TrainedBySteps) else None
    if found is not None:
        return replace(run, unfinished=found)
    if run.weights_file.is_file():
        return run
    raise RunError(
        f"{run.folder}: training has not finished, and there is no checkpoint yet. Continue it: "
        f"synthbench train --resume --out {run.folder}"
    )


def _of_checkpoints(run: Run, plugin: Any) -> CheckpointWeights | None:
    if isinstance(plugin, HasUnfinishedWeights):
        return plugin.unfinished_weights(run)
    found = checkpoint.last_good(run)
    if found is None:
        return None
    newest, averaged = found
    return CheckpointWeights(averaged, newest.step, newest.seconds)


def warning(run: Run) -> str:
    """Return the sentence that says which step the weights of an unfinished run are from."""
    found = run.unfinished
    assert found is not None
    of_stage = f" of the {found.stage}" if found.stage else ""
    return (
        f"{run.folder} did not finish: the averaged weights of its checkpoint at step "
        f"{found.step}{of_stage} are used. Finish it: synthbench train --resume --out {run.folder}"
    )


def check_sampled(run: Run) -> None:
    """Raise where a network that sampling needs is not trained yet.

    Raises
    ------
    RunError
        It names the network.
    """
    found = run.unfinished
    if found is not None and found.lacking:
        raise RunError(
            f"{run.folder}: its {found.lacking} is not trained yet: training stopped at step "
            f"{found.step} of the {found.stage}, so nothing can be sampled. Continue it: "
            f"synthbench train --resume --out {run.folder}"
        )
