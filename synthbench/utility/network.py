"""A learner on volumes: a 3-D convolutional network, trained from several seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float32, Float64, Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.loop.augmentation import augment
from synthbench.metrics.inference.downstream import Predictions
from synthbench.runtime.callbacks import Progress
from synthbench.runtime.processes import on_cpu
from synthbench.utility.arms import Portion
from synthbench.utility.cohorts import Labelled
from synthbench.utility.probe import Task
from synthbench.utility.probe_learner import AUGMENTATION
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import Intensity

State = dict[str, Tensor]


class NetworkSettings(BaseModel):
    """Settings of the network and its training.

    All arms are trained for the same number of steps: `epochs` passes over the largest arm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: Literal["resnet10", "densenet121"] = Field(
        default="resnet10", description="network of MONAI; resnet10 has a quarter of its channels"
    )
    seeds: int = Field(default=3, ge=1, description="trainings of each arm")
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=4, ge=2, description="batch norm needs two")
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW; falls to 0 as a cosine")
    weight_decay: float = Field(default=1e-2, ge=0)


@dataclass(frozen=True)
class NetworkLearner:
    """A network that is trained again for every arm and seed.

    Attributes
    ----------
    sources
        Labels and subjects of "real", "synth" and "test".
    volumes
        By source, in the common space.
    task, settings, seed
        Classification or regression, the network's settings, and the seed of all trainings.
    steps
        Number of steps of every training.
    """

    sources: Mapping[str, Labelled]
    volumes: Mapping[str, Volumes]
    task: Task
    settings: NetworkSettings
    steps: int
    seed: int
    progress: Progress | None = None

    @classmethod
    def of(
        cls,
        sources: Mapping[str, Labelled],
        target: Space,
        intensity: Intensity,
        task: Task,
        settings: NetworkSettings,
        seed: int,
        progress: Progress | None = None,
    ) -> NetworkLearner:
        """Return the learner with all sources in one space; the largest arm sets the steps."""
        volumes = {
            role: source.cohort.volumes(target, intensity, role=role)
            for role, source in sources.items()
        }
        largest = len(sources["real"]) + len(sources["synth"])
        steps = settings.epochs * math.ceil(largest / settings.batch_size)
        return cls(sources, volumes, task, settings, steps, seed, progress)

    def predict(
        self, portions: Sequence[Portion], tested: str, rows: Int64[np.ndarray, " m"]
    ) -> Predictions:
        """Return predictions of volumes, one row per training seed."""
        found = []
        for number in range(self.settings.seeds):
            network = self.trained(portions, number)
            found.append(self.outputs(network, tested, rows, portions))
        return Predictions(np.stack(found))

    def trained(
        self, portions: Sequence[Portion], number: int, start: State | None = None
    ) -> nn.Module:
        """Return a network that was trained on the portions.

        Parameters
        ----------
        portions
            Those with `augmented` are mirrored and moved at random at every step.
        number
            Number of the training: weights, order and augmentation are drawn from it.
        start
            Weights to start from.
        """
        examples = [
            (portion.source, int(row), portion.augmented > 0)
            for portion in portions
            for row in portion.rows
        ]
        labels = self._scaled_labels(examples, portions)

        def batch(chosen: Sequence[int], draws: torch.Generator) -> tuple[Tensor, Tensor]:
            read = [self._volume(*examples[index], draws) for index in chosen]
            return torch.cat(read), labels[list(chosen)]

        network = build(self.settings.network, [self.seed, number])
        if start is not None:
            network.load_state_dict(start)
        loss = _cross_entropy if self.task == "classification" else _squared_error
        return fit(
            network, len(examples), batch, loss, self.settings, self.steps, [self.seed, number]
        )

    def outputs(
        self,
        network: nn.Module,
        tested: str,
        rows: Int64[np.ndarray, " m"],
        portions: Sequence[Portion],
    ) -> Float64[np.ndarray, " m"]:
        """Return predictions, volume by volume: log-odds, or numbers in the label's unit."""
        device = next(network.parameters()).device
        network.eval()
        found = np.zeros(len(rows))
        with torch.inference_mode():
            for place, row in enumerate(rows):
                volume = torch.from_numpy(self.volumes[tested][int(row)])[None, None].to(device)
                found[place] = float(network(volume)[0, 0])
        if self.task == "classification":
            return found
        mean, spread = self._scale(portions)
        return mean + spread * found

    def _scaled_labels(
        self, examples: Sequence[tuple[str, int, bool]], portions: Sequence[Portion]
    ) -> Float32[Tensor, " n"]:
        values = np.array([self.sources[source].labels[row] for source, row, _ in examples])
        if self.task == "regression":
            mean, spread = self._scale(portions)
            values = (values - mean) / spread
        return torch.tensor(values, dtype=torch.float32)

    def _scale(self, portions: Sequence[Portion]) -> tuple[float, float]:
        """Return mean and standard deviation of the training labels."""
        values = np.concatenate([self.sources[p.source].labels[p.rows] for p in portions])
        return float(values.mean()), float(values.std()) or 1.0

    def _volume(
        self, source: str, row: int, augmented: bool, draws: torch.Generator
    ) -> Float32[Tensor, "1 1 d h w"]:
        volumes = self.volumes[source]
        volume = torch.from_numpy(volumes[row])[None, None]
        return (
            augment(volume, AUGMENTATION, [draws], volumes.space.spacing) if augmented else volume
        )


def build(name: str, key: Sequence[int]) -> nn.Module:
    """Return a network with one output; its first weights depend on the key alone."""
    from monai.networks.nets import DenseNet121, resnet10

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(key))
        if name == "densenet121":
            return DenseNet121(spatial_dims=3, in_channels=1, out_channels=1)  # type: ignore[no-any-return]
        return resnet10(  # type: ignore[no-any-return]
            spatial_dims=3, n_input_channels=1, num_classes=1, widen_factor=0.25
        )


def fit(
    network: nn.Module,
    n: int,
    batch: Callable[[Sequence[int], torch.Generator], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    settings: Any,
    steps: int,
    key: Sequence[int],
) -> nn.Module:
    """Return a network after a number of steps of AdamW, a cosine schedule and clipped gradients.

    Parameters
    ----------
    n
        Number of examples.
    batch
        Function of example numbers and a generator for augmentation: returns (volumes, targets).
    loss
        Function of (output, target).
    settings
        It has `learning_rate`, `weight_decay` and `batch_size`.
    steps, key
        Number of steps; seed of the order and of the augmentation.
    """
    accelerator = Accelerator(cpu=on_cpu())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    network, optimizer = accelerator.prepare(network, optimizer)
    draws = torch.Generator().manual_seed(seed_of([*key, 1]))
    order: list[int] = []
    network.train()
    for step in range(steps):
        while len(order) < settings.batch_size:
            order += torch.randperm(n, generator=draws).tolist()
        chosen, order = order[: settings.batch_size], order[settings.batch_size :]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        volumes, targets = batch(chosen, draws)
        output = network(volumes.to(accelerator.device))
        found = loss(output.float(), targets.to(accelerator.device))
        optimizer.zero_grad()
        accelerator.backward(found)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    unwrapped: nn.Module = accelerator.unwrap_model(network)
    return unwrapped


class Padded(nn.Module):
    """A network that halves its grid, for any grid: zeros are added at the end of each axis.

    The output is cut back to the grid of the input.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b c d h w"]:
        """Return the network's output on the padded volumes, cut back to their grid."""
        d, h, w = volumes.shape[2:]
        behind = [-side % self.multiple for side in (w, h, d)]
        padded = nn.functional.pad(volumes, [p for side in behind for p in (0, side)])
        found: Tensor = self.network(padded)
        return found[..., :d, :h, :w]


def seed_of(key: Sequence[int]) -> int:
    """Return a seed for torch from whole numbers."""
    return int(np.random.SeedSequence(list(key)).generate_state(1)[0])


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(output[:, 0], target)


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.mse_loss(output[:, 0], target)
