"""One step on tensors without data: its operations, and the bytes of its tensors.

PyTorch's `FakeTensorMode` makes tensors without data, so a network of any size can be traced on any
machine.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from synthbench.generators.generator import Shape, Stage
from synthbench.generators.loop import freezing
from synthbench.training.stages import step_settings


@dataclass(frozen=True)
class Trace:
    """Operations and bytes of one batch, forward and backward.

    `parameters` is a number; `weights` the bytes of all parameters, `trained` those of parameters
    that are not frozen, and `tensors` their number of tensors. `saved` is kept for the backward
    pass; `peak` is the most at any moment, without the weights.
    """

    parameters: int
    weights: int
    trained: int
    tensors: int
    flops: int
    saved: int
    peak: int


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations make, while these tensors exist."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._release, size)
        self.bytes += size
        if self.bytes > 1.01 * self.peak:
            # Unlike real tensors, tensors without data are kept alive by reference cycles.
            gc.collect()
        self.peak = max(self.peak, self.bytes)

    def _release(self, size: int) -> None:
        self.bytes -= size


def trace(stage: Stage, shape: Shape) -> Trace:
    """Return the trace of one batch, forward and backward, on a CPU without data."""
    settings, objective = step_settings(stage), stage.objective
    aten = torch.ops.aten
    # PyTorch itself counts the operations of attention on GPUs only.
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    live, counter = _Live(), FlopCounterMode(display=False, custom_mapping=attention)
    with FakeTensorMode(allow_non_fake_inputs=True), _only_new_garbage():
        network = stage.build()
        values = list(network.parameters())
        trained = freezing.freeze(network, settings.freeze)
        sizes = stage.samples(shape)
        clean, *conditioning = (torch.empty(settings.batch_size, *size) for size in sizes)
        noise = torch.empty_like(clean)
        t = torch.zeros(settings.batch_size, dtype=torch.int64)
        with counter, live:
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = objective.losses(network, clean, t, noise, *conditioning).mean()
            saved = live.bytes
            loss.backward()  # type: ignore[no-untyped-call]
    return Trace(
        parameters=sum(value.numel() for value in values),
        weights=_bytes(values),
        trained=_bytes(trained),
        tensors=len(trained),
        flops=counter.get_total_flops(),
        saved=saved,
        peak=live.peak,
    )


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _only_new_garbage() -> Iterator[None]:
    """Make the garbage collector skip all objects that exist now: `_Live` calls it often."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _attention_flops(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: Any, **__: Any
) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward_flops(
    gradient: tuple[int, ...],
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    *_: Any,
    **__: Any,
) -> int:
    count = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return int(count)
