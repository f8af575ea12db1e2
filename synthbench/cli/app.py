"""The command line: each verb is a thin shell over a documented function.

Nothing heavy is imported before the verb that needs it runs: `synthbench --help` is fast.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from synthbench.cli.benchmark import benchmark
from synthbench.cli.cache import cache
from synthbench.cli.cite import cite
from synthbench.cli.data import data
from synthbench.cli.demo import demo
from synthbench.cli.drift import drift
from synthbench.cli.fetch import fetch
from synthbench.cli.leaderboard import leaderboard
from synthbench.cli.listing import list_
from synthbench.cli.report import report
from synthbench.cli.sample import import_, key, sample, verify
from synthbench.cli.score import score
from synthbench.cli.sensitivity import sensitivity
from synthbench.cli.sweep import sweep
from synthbench.cli.train import train
from synthbench.cli.utility import utility
from synthbench.errors import SynthbenchError

app = typer.Typer(
    name="synthbench",
    help="Judge synthetic 3-D brain MRI: train, sample, score, rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(cache, name="cache")
app.add_typer(data, name="data")
app.add_typer(benchmark, name="benchmark")


def _version(value: bool) -> None:
    if value:
        from synthbench import __version__

        print(f"synthbench {__version__}")
        raise typer.Exit


# In this order `--help` lists them.
app.command()(train)
app.command()(sample)
app.command("import")(import_)
app.command()(verify)
app.command()(key)
app.command()(sweep)
app.command()(score)
app.command()(sensitivity)
app.command()(utility)
app.command()(leaderboard)
app.command()(cite)
app.command()(drift)
app.command()(report)
app.command("list")(list_)
app.command()(fetch)
app.command()(demo)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: exit 0 done, 1 a check failed, 2 could not run."""
    try:
        app()
    except SynthbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stopped:
        # Typer turns Ctrl-C into this exit, and prints nothing.
        if stopped.code == 130:
            print("interrupted", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        print(
            "error: this is a defect of synthbench: please report it with the lines above.",
            file=sys.stderr,
        )
        sys.exit(2)
