"""Records of options: what Typer reads of them, and what a verb is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from synthbench.cli.options import was_typed, with_options

Word = Annotated[str, typer.Option(help="A word.")]


def plain(page: str) -> str:
    """Return a page without the codes of colours, which some environments force on Typer."""
    return re.sub(r"\x1b\[[0-9;]*m", "", page)


@dataclass(frozen=True, kw_only=True)
class Common:
    """A record that verbs share."""

    seed: Annotated[int, typer.Option(min=0, metavar="N")] = 0
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None


@dataclass(frozen=True, kw_only=True)
class Paint:
    """A record that holds another, with a required option after one that has a default."""

    colour: Word = "red"
    common: Common
    size: Annotated[int, typer.Option(help="In cm.")]
    dry: Annotated[bool, typer.Option("--dry/--wet")] = True


@dataclass(frozen=True)
class Listed:
    """A record whose option has a default that can be changed."""

    names: Annotated[list[str], typer.Option("--name")] = field(default_factory=lambda: ["a", "b"])


@pytest.fixture
def given() -> list[Any]:
    """What the verbs of the test were called with."""
    return []


@pytest.fixture
def run(given: list[Any]) -> Callable[..., Any]:
    """Run a command line of two verbs that share a record."""
    app = typer.Typer()

    @app.command()
    @with_options
    def paint(
        context: typer.Context,
        wall: Annotated[str, typer.Argument()],
        paint: Paint,
        note: Word = "none",
    ) -> None:
        """Paint a wall."""
        typed = [name for name in ("colour", "seed", "size") if was_typed(context, name)]
        given.append((wall, paint, note, typed))

    @app.command()
    @with_options
    def draw(common: Common) -> None:
        """Draw."""
        given.append(common)

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "120", "TERMINAL_WIDTH": "120"})

    return call


def test_an_option_that_is_left_out_has_its_default(run, given):
    assert run("paint", "north", "--size", "3").exit_code == 0
    assert given == [("north", Paint(size=3, common=Common()), "none", ["size"])]


def test_what_was_typed_is_in_the_records(run, given):
    typed = ("--colour", "blue", "--seed", "7", "--size", "3", "--wet", "--note", "slow")
    assert run("paint", "north", *typed).exit_code == 0
    record = Paint(colour="blue", common=Common(seed=7), size=3, dry=False)
    assert given == [("north", record, "slow", ["colour", "seed", "size"])]


def test_a_field_without_a_default_is_a_required_option(run, given):
    result = run("paint", "north")
    assert result.exit_code == 2
    assert "--size" in plain(result.output)
    assert given == []


def test_an_option_can_be_repeated(run, given):
    assert run("draw", "--tag", "a", "--tag", "b").exit_code == 0
    assert given == [Common(tag=["a", "b"])]


def test_two_verbs_share_a_record(run, given):
    run("draw", "--seed", "4")
    run("paint", "north", "--size", "1", "--seed", "4")
    assert given[0] == given[1][1].common == Common(seed=4)


def test_the_limits_of_an_option_hold_in_a_record(run, given):
    assert run("draw", "--seed", "-1").exit_code == 2
    assert given == []


def test_help_lists_options_in_the_order_of_parameters_and_fields(run):
    page = plain(run("paint", "--help").output)
    listed = ("Paint a wall.", "wall", "--colour", "A word.", "[default: red]", "--seed", "N",
              "--tag", "May be repeated.", "--size", "In cm.", "[required]", "--dry", "--wet",
              "--note")  # fmt: skip
    places = [page.index(words) for words in ("--colour", "--seed", "--tag", "--size", "--note")]
    assert places == sorted(places)
    assert [words for words in listed if words not in page] == []
    assert "--common" not in page
    assert "--paint" not in page


def test_a_field_given_twice_is_refused():
    def verb(common: Common, seed: Annotated[int, typer.Option()] = 1) -> None:
        """Take a seed twice."""

    with pytest.raises(TypeError, match="verb: given twice: seed"):
        with_options(verb)


def test_a_default_may_be_made_by_a_factory():
    app, given = typer.Typer(), []

    @app.command()
    @with_options
    def verb(listed: Listed) -> None:
        given.append(listed)

    assert CliRunner().invoke(app, []).exit_code == 0
    assert given == [Listed(names=["a", "b"])]
