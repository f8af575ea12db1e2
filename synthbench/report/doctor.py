"""What this machine has for synthbench, and what to fix: versions, threads, GPU, disk, weights."""

from __future__ import annotations

import importlib.util
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from synthbench import registry
from synthbench.errors import SynthbenchError
from synthbench.metrics.extractors import weights
from synthbench.runtime.memory import amount, available_memory, machine_memory, memory_limit
from synthbench.runtime.text import one_line
from synthbench.scoring.cache.store import cache_folder, cache_limit, usage
from synthbench.scoring.settings import DEFAULT_EXTRACTOR

State = Literal["ok", "note", "problem"]

FEW_GB = 5.0
"""Below this free space in GB, a run or a cohort may not fit."""

_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name, found
        What it is, and what it is here.
    state
        "ok"; "note": works, and could be better; "problem": something will fail.
    fix
        What to do about a note or a problem; empty where it is ok.
    """

    name: str
    found: str
    state: State = "ok"
    fix: str = ""


def checks() -> list[Check]:
    """Return what was found on this machine, in a fixed order. Nothing is changed."""
    looks: tuple[Callable[[], Iterator[Check]], ...] = (
        _python,
        _packages,
        _plugins,
        _threads,
        _gpu,
        _memory,
        _disk,
        _cache,
        _weights,
        _locale,
    )
    return [check for look in looks for check in look()]


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Check("Python", f"{found}, {sys.executable}")
    if sys.dont_write_bytecode:
        yield Check(
            "bytecode",
            "PYTHONDONTWRITEBYTECODE is set",
            "note",
            "unset it: each start compiles torch again, for ten seconds or more",
        )


# ---------------------------------------------------------------- packages


def _packages() -> Iterator[Check]:
    """Yield the packages that synthbench needs, and say which are missing or too old."""
    shown, faults = [f"synthbench {version('synthbench')}"], []
    for line in requires("synthbench") or ():
        wanted, _, marker = line.partition(";")
        parsed = re.fullmatch(r"([\w.-]+)\s*(?:>=\s*([\d.]+))?.*", wanted.strip())
        if parsed is None or "extra" in marker:
            continue
        name, least = parsed[1], parsed[2]
        try:
            found = version(name)
        except PackageNotFoundError:
            faults.append(f"{name} is missing")
            continue
        if least and _numbers(found) < _numbers(least):
            faults.append(f"{name} {found} is older than {least}")
        if name in ("torch", "monai", "numpy", "nibabel"):
            shown.append(f"{name} {found}")
    fix = "pip install --upgrade synthbench"
    yield Check(
        "packages",
        ", ".join([*shown, *faults]),
        "problem" if faults else "ok",
        fix if faults else "",
    )
    missing = [
        f"{extra} ({', '.join(lacking)})"
        for extra, modules in (("prepare", ("SimpleITK", "dipy")), ("onnx", ("onnxruntime",)))
        if (lacking := [m for m in modules if importlib.util.find_spec(m) is None])
    ]
    if missing:
        names = ",".join(one.partition(" ")[0] for one in missing)
        yield Check(
            "extras",
            f"not installed: {'; '.join(missing)}",
            "note",
            f"where you need them: pip install 'synthbench[{names}]'",
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def _plugins() -> Iterator[Check]:
    """Yield the plugins of other packages that cannot be loaded."""
    kinds: tuple[registry.Kind, ...] = ("generators", "metrics", "extractors", "layouts")
    for kind in kinds:
        for name in registry.names(kind):
            if name in registry.BUILT_IN[kind]:
                continue
            try:
                registry.load(kind, name)
            except SynthbenchError as error:
                yield Check(
                    f"plugin {name}",
                    one_line(str(error)),
                    "problem",
                    "update or uninstall its package",
                )


# ---------------------------------------------------------------- the machine


def _threads() -> Iterator[Check]:
    import torch

    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    threads = torch.get_num_threads()
    found = f"{threads} of torch, {cores} usable cores"
    if threads > cores:
        yield Check("threads", found, "note", f"OMP_NUM_THREADS={cores}: they wait for each other")
    elif threads == 1 < cores:
        yield Check(
            "threads",
            found,
            "note",
            f"OMP_NUM_THREADS={cores} (or unset it), unless other processes use the cores",
        )
    else:
        yield Check("threads", found)


def _gpu() -> Iterator[Check]:
    import torch

    build = torch.version.cuda
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        words = ", ".join(f"{card.name} ({amount(card.total_memory)})" for card in cards)
        yield Check("GPU", f"{words}; torch for CUDA {build}")
    elif _DRIVER.is_file():
        why = "torch is a build for CPUs" if build is None else f"torch for CUDA {build} finds none"
        yield Check(
            "GPU",
            f"a driver of NVIDIA's is here, but {why}",
            "problem",
            "install torch for your CUDA version, as pytorch.org's page says",
        )
    else:
        yield Check(
            "GPU",
            "none: training is slow; scoring works on a CPU",
            "note",
            "train on another machine, or start from a run: synthbench train ddpm3d --init atlas",
        )


def _memory() -> Iterator[Check]:
    found = (
        f"{amount(available_memory())} available of {amount(machine_memory())}, "
        f"at most {amount(memory_limit())} for reading one file"
    )
    yield Check("memory", found)


def _disk() -> Iterator[Check]:
    for name, folder in (("disk, here", Path.cwd()), ("disk, cache", cache_folder())):
        free = shutil.disk_usage(_nearest(folder)).free
        few = free < FEW_GB * 1e9
        yield Check(
            name,
            f"{free / 1e9:.1f} GB free at {folder}",
            "note" if few else "ok",
            "make room: synthbench cache clear removes what is kept" if few else "",
        )


def _nearest(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.absolute().parents) if one.is_dir())


def _cache() -> Iterator[Check]:
    folder = cache_folder()
    size = sum(one.size for one in usage(folder))
    found = f"{folder}: {size / 1e6:.1f} MB, at most {cache_limit() / 1e6:.0f} MB"
    if os.access(_nearest(folder), os.W_OK):
        yield Check("cache", found)
    else:
        yield Check(
            "cache",
            f"{found}; it cannot be written",
            "problem",
            "SYNTHBENCH_CACHE=FOLDER names another one",
        )


def _weights() -> Iterator[Check]:
    """Yield which extractors have their weights; those of the default one should be here."""
    here: list[str] = []
    absent: list[str] = []
    for name in registry.BUILT_IN["extractors"]:
        file = getattr(registry.load("extractors", name)(), "weight_file", None)
        if file is not None:
            (absent if weights.locate(file) is None else here).append(name)
    found = f"{weights.weights_folder()}: {', '.join(here) or 'none'}"
    if DEFAULT_EXTRACTOR in absent:
        yield Check(
            "weights",
            found,
            "note",
            f"synthbench fetch {DEFAULT_EXTRACTOR} gets those of "
            "the default extractor; --extractor random-resnet10 needs none",
        )
    else:
        yield Check("weights", found)


def _locale() -> Iterator[Check]:
    encodings = {(stream.encoding or "").lower() for stream in (sys.stdout, sys.stderr) if stream}
    found = f"{locale.setlocale(locale.LC_CTYPE)}, output in {', '.join(sorted(encodings))}"
    if all(name.replace("-", "") == "utf8" for name in encodings):
        yield Check("locale", found)
    else:
        yield Check(
            "locale",
            found,
            "note",
            "PYTHONUTF8=1 (or LC_ALL=C.UTF-8): some signs are written in other words now",
        )
