"""Fast samplers: seconds per volume, and the scores of their samples.

Usage: python studies/sample.py --spread
       python studies/sample.py RUN --real COHORT [--samplers ddpm:1000 ddim:25 dpm++:25 ...]
           [--n 16] [--extractor NAME ...] [--metric NAME ...] [--accept RULE ...] [--out FOLDER]

RUN is a finished run of ddpm3d, COHORT real volumes that it was not trained on. Each sampler
draws the same seeds into its own folder below --out and is scored there. Volumes that are already
there are kept, so an interrupted study goes on where it stopped. A value is marked with "=" where
its interval contains the value of the first sampler in the list, and with "x" where it does not.

--spread needs no run: for normal data the best network is known. It prints the share of the true
standard deviation that samples keep, for details of several standard deviations.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number
from synthbench.report.text import interval_words
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import read_sidecar
from synthbench.runtime.progress import bar
from synthbench.sampling.sampling import sample
from synthbench.scoring.scoring import score

SAMPLERS = (
    "ddpm:1000", "ddim:10", "ddim:25", "ddim:50", "dpm++:10", "dpm++:15", "dpm++:25", "unipc:10",
    "unipc:25", "heun:13",
)  # fmt: skip
METRICS = ("mmd2", "kid", "fid", "ms_ssim", "spectrum")

SPREADS = (0.02, 0.05, 0.1, 0.2, 0.5, 2.0, 10.0)
DRAWS = 128  # 128 x 128 voxels of each spread


@dataclass(frozen=True)
class Studied:
    """A sampler, its cost, and the scores of its volumes."""

    sampler: str
    steps: int
    seconds: float
    card: Scorecard


def parsed(text: str) -> tuple[str, int]:
    """Return the sampler and the steps of a text such as "dpm++:25"."""
    sampler, _, steps = text.rpartition(":")
    if not sampler or not steps.isdecimal():
        raise SystemExit(f"--samplers {text}: write it as NAME:STEPS, for example dpm++:25")
    return sampler, int(steps)


def seconds_per_volume(files: Sequence[Path]) -> float:
    """Return the median of the sidecars' seconds, without the first, which loads the network."""
    return float(np.median([read_sidecar(file)["seconds"] for file in files[1:] or files]))


def study(run: Run, name: str, given: argparse.Namespace) -> Studied:
    """Return one sampler's cost and scores, after sampling and scoring."""
    sampler, steps = parsed(name)
    folder = given.out / f"{sampler}-{steps}"
    with bar(name) as advance:
        files = sample(
            run, given.n, folder, sampler=sampler, steps=steps, progress=advance, log=print_progress
        )
    card = score(
        given.real, folder, name=name, space="synth", intensity=run.config["intensity"],
        extractors=given.extractor, metrics=given.metric, accept=given.accept,
    )  # fmt: skip
    card.save(given.out / f"{sampler}-{steps}.json")
    return Studied(sampler, steps, seconds_per_volume(files), card)


def print_progress(message: str) -> None:
    """Print to standard error: only the table goes to standard output."""
    print(message, file=sys.stderr, flush=True)


def cell(value: Value, reference: Value) -> str:
    """Return a value, its interval, and a mark: does it contain the first sampler's value?"""
    if value.value is None or value.interval is None or reference.value is None:
        return value.missing or "-"
    inside = value.interval.low <= reference.value <= value.interval.high
    mark = "" if value is reference else " =" if inside else " x"
    return f"{number(value.value)} {interval_words(value)}{mark}"


def table(studied: Sequence[Studied]) -> str:
    """Return the study as a table in Markdown."""
    first = studied[0].card.values
    head = ["sampler", "steps", "network calls", "s per volume", *(value.label for value in first)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in studied:
        calls = Diffusion.network_calls(row.sampler, row.steps)
        cells = [cell(value, of) for value, of in zip(row.card.values, first, strict=True)]
        lines.append(
            f"| {row.sampler} | {row.steps} | {calls} | {row.seconds:.3g} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- detail that samplers keep


def kept(process: Diffusion, sampler: str, steps: int) -> list[float]:
    """Return sampled over true standard deviations, for independent normal voxels."""
    spread = torch.tensor(SPREADS, dtype=torch.float64)

    def network(x: Tensor, t: Tensor) -> Tensor:
        a2 = process.alphas_cumprod[t].reshape(-1, 1, 1, 1, 1)
        return (a2.sqrt() * spread**2 / (a2 * spread**2 + 1 - a2) * x).float()

    draws = torch.Generator().manual_seed(0)
    noise = torch.randn((1, 1, DRAWS, DRAWS, len(SPREADS)), generator=draws)
    drawn = process.denoise(network, noise / noise.std((2, 3), keepdim=True), sampler, steps, draws)
    return (drawn.std((0, 1, 2, 3)) / spread).tolist()


def spread_table() -> str:
    """Return the share of detail that each sampler keeps, as a table in Markdown."""
    process = Diffusion(DiffusionSettings(prediction="sample"))
    lines = ["| sampler | steps | network calls | " + " | ".join(map(str, SPREADS)) + " |"]
    lines.append("|---|" + "---:|" * (len(SPREADS) + 2))
    for name in SAMPLERS:
        sampler, steps = parsed(name)
        shares = " | ".join(f"{share:.2f}" for share in kept(process, sampler, steps))
        calls = Diffusion.network_calls(sampler, steps)
        lines.append(f"| {sampler} | {steps} | {calls} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--n", type=int, default=16)
    # May be repeated, as in `synthbench score`, or have several names after one option.
    for option in ("--extractor", "--metric", "--accept"):
        parser.add_argument(option, nargs="+", action="extend")
    parser.add_argument("--out", type=Path, help="default: RUN/samplers")
    given = parser.parse_args()
    if given.spread:
        print(spread_table())
        return
    if given.run is None or given.real is None:
        parser.error("name a run and --real COHORT, or give --spread")
    given.extractor = given.extractor or ["random-resnet10"]
    given.metric = given.metric or METRICS
    given.accept = given.accept or []
    given.out = given.out or given.run / "samplers"
    for name in given.samplers:
        parsed(name)
    run = Run.open(given.run)
    studied = [study(run, name, given) for name in given.samplers]
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    card = studied[0].card
    print(
        f"{given.n} volumes per sampler, {card.real.n} real; grid "
        f"{' x '.join(map(str, card.protocol.space.shape))}; {device}; torch {torch.__version__}; "
        f"protocol {card.protocol_hash}\n"
    )
    print(table(studied))


if __name__ == "__main__":
    main()
