"""The command line: each verb is a thin shell over a documented function.

Nothing heavy is imported before the verb that needs it runs: `synthbench --help` is fast.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from synthbench.cli.benchmark import benchmark_init
from synthbench.cli.cache import cache_clear, cache_info
from synthbench.cli.common.verbs import add
from synthbench.cli.console import complain
from synthbench.cli.data import atlas, export, info, prepare, select, split_
from synthbench.cli.demo import demo
from synthbench.cli.doctor import doctor
from synthbench.cli.drift import drift
from synthbench.cli.fetch import fetch
from synthbench.cli.leaderboard import leaderboard
from synthbench.cli.listing import list_
from synthbench.cli.paired import paired
from synthbench.cli.readers import (
    readers_analyse,
    readers_cite,
    readers_collect,
    readers_export,
    readers_init,
    readers_serve,
)
from synthbench.cli.readers_demo import readers_demo
from synthbench.cli.report import cite, report
from synthbench.cli.sample import import_, key, merge, sample, verify
from synthbench.cli.score import score
from synthbench.cli.sensitivity import sensitivity
from synthbench.cli.sweep import sweep
from synthbench.cli.train import train
from synthbench.cli.utility import utility
from synthbench.cli.watermark import watermark_find
from synthbench.errors import SynthbenchError
from synthbench.runtime.text import for_every_locale

app = typer.Typer(
    name="synthbench",
    help="Judge synthetic 3-D brain MRI: train, sample, score, rank.",
    epilog="Start with: synthbench demo\n\nMore: docs/README.md",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _group(name: str, words: str) -> typer.Typer:
    group = typer.Typer(no_args_is_help=True, help=words)
    app.add_typer(group, name=name)
    return group


_GROUPS = {
    "": app,
    "data": _group("data", "Cohorts: simulate, look at, select, split, prepare, export."),
    "benchmark": _group("benchmark", "Protocols frozen on a real cohort."),
    "watermark": _group("watermark", "The mark of sample --watermark, in the voxels."),
    "readers": _group("readers", "Reader studies: what people see."),
    "cache": _group("cache", "Features and measures that earlier runs kept on this machine."),
}

# In this order `--help` lists them: the verb, its function, its page of docs/, and an example.
# fmt: off
for _group_, _name, _verb, _page, _example in (
    ("", "train", train, "training.md",
     "train ddpm3d --real split/train.tsv"),
    ("", "sample", sample, "training.md",
     "sample runs/ddpm3d --n 16 --out synth/"),
    ("", "merge", merge, "shards.md",
     "merge parts/1 parts/2 --out synth/"),
    ("", "import", import_, "import.md",
     "import theirs/ --like real/ --range -1:1 --orientation RAS"),
    ("", "verify", verify, "sealing.md",
     "verify synth/ --key maker.pub"),
    ("", "key", key, "sealing.md",
     "key --new"),
    ("", "sweep", sweep, "conditions.md",
     "sweep runs/ldm3d --vary age=0:1:5 --out sweep/"),
    ("", "score", score, "scoring.md",
     "score --real split/reference.tsv --synth synth/ --train split/train.tsv"),
    ("", "sensitivity", sensitivity, "sensitivity.md",
     "sensitivity --real split/reference.tsv --extractor random-resnet10"),
    ("", "utility", utility, "utility.md",
     "utility --real train.tsv --synth synth/ --test test.tsv --label sex"),
    ("", "paired", paired, "paired.md",
     "paired --target full/ --image reconstructed/"),
    ("", "leaderboard", leaderboard, "leaderboards.md",
     "leaderboard leaderboards/mine --compare"),
    ("", "cite", cite, "leaderboards.md",
     "cite card.json > scoring.tex"),
    ("", "drift", drift, "drift.md",
     "drift baseline.json card.json --metric fid"),
    ("", "report", report, "report.md",
     "report card.json --real real/ --synth synth/ --out report.html"),
    ("", "list", list_, "extractors.md",
     "list metrics"),
    ("", "fetch", fetch, "extractors.md",
     "fetch medicalnet-resnet50-23dataset"),
    ("", "doctor", doctor, "installation.md",
     "doctor"),
    ("", "demo", demo, "README.md",
     "demo --out demo/"),
    ("data", "atlas", atlas, "scoring.md",
     "data atlas --n 32 --shape 48 56 48 --out real/"),
    ("data", "info", info, "preflight.md",
     "data info real/ --out looked/"),
    ("data", "select", select, "cohorts.md",
     'data select OASIS/ --where "age > 50" --out chosen.csv'),
    ("data", "split", split_, "training.md",
     "data split real/ --part train=60% --part reference=40% --out split/"),
    ("data", "export", export, "shards.md",
     "data export synth/ --out files/"),
    ("data", "prepare", prepare, "preparation.md",
     "data prepare scans/ --out prepared/"),
    ("benchmark", "init", benchmark_init, "scoring.md",
     "benchmark init mine --real split/reference.tsv --m 100"),
    ("watermark", "find", watermark_find, "watermark.md",
     "watermark find synth/ --key @secret.txt"),
    ("readers", "init", readers_init, "readers.md",
     "readers init study/ --real real/ --synth synth/ddpm3d --synth synth/ldm3d"),
    ("readers", "serve", readers_serve, "readers.md",
     "readers serve study/ --port 8000"),
    ("readers", "export", readers_export, "readers.md",
     "readers export study/ --out pages/"),
    ("readers", "collect", readers_collect, "readers.md",
     "readers collect study/ reader-1.json"),
    ("readers", "analyse", readers_analyse, "readers.md",
     "readers analyse study/ --out analysis.json"),
    ("readers", "cite", readers_cite, "readers.md",
     "readers cite study/ --card claim > claim.md"),
    ("readers", "demo", readers_demo, "readers.md",
     "readers demo"),
    ("cache", "info", cache_info, "speed.md",
     "cache info"),
    ("cache", "clear", cache_clear, "speed.md",
     "cache clear --metric ms_ssim"),
):
    add(_GROUPS[_group_], _name, _verb, of=_group_, page=_page, example=_example)
# fmt: on


def _version(value: bool) -> None:
    if value:
        from synthbench import __version__

        print(f"synthbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


BROKEN_PIPE = 141
"""The exit code of a program whose reader has gone: 128 + SIGPIPE, as shells give it."""


def main() -> None:
    """Run the command line: exit 0 done, 1 a check failed, 2 could not run."""
    for_every_locale()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
    except SystemExit as stopped:
        # Typer turns a broken pipe into exit 1, in the handler of its error.
        if isinstance(stopped.__context__, BrokenPipeError):
            _leave_quietly()
        raise


def _leave_quietly() -> NoReturn:
    """Exit as other programs do whose reader (`| head`) has read enough."""
    # What Python still holds for it is written at the exit, and must not be another error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
    sys.exit(BROKEN_PIPE)


def _run() -> None:
    try:
        app()
    except SynthbenchError as error:
        complain(f"error: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"error: {where}{error.strerror or error}{_advice(error)}")
        sys.exit(2)
    except MemoryError:
        complain(
            "error: there is not enough memory for this. Use fewer or smaller volumes, or another "
            "machine."
        )
        sys.exit(2)
    except SystemExit as stopped:
        # Typer turns Ctrl-C into this exit, and prints nothing.
        if stopped.code == 130:
            complain("interrupted")
        raise
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(130)
    except Exception as error:
        complain(traceback.format_exc())
        complain(f"error: {_whose_defect(error)} with the lines above.")
        sys.exit(2)


def _whose_defect(error: Exception) -> str:
    """Return the beginning of a sentence on whose code failed, and who should hear of it."""
    from synthbench.registry import author_of

    frames = [
        frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    plugin = author_of(reversed(frames))  # the innermost frame first
    if plugin is None:
        return "this is a defect of synthbench: please report it"
    return f"{plugin} failed, not synthbench: please report it to its authors"


def _advice(error: OSError) -> str:
    """Return what to do about an error of the system, where that is known."""
    from synthbench.runtime.files import NO_ROOM

    if error.errno in NO_ROOM:
        return ". It did not fit, and nothing of it was left. Make room, and repeat the command."
    if error.errno == errno.EROFS:
        return ". Name a folder that can be written."
    return ""
