"""The result of comparing two scorecards, as a record, a table and a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from synthbench.drift.causes import Cause
from synthbench.drift.two_samples import GeneratorTest, MetricDrift
from synthbench.records.base import Record
from synthbench.render.notebook import BAND, Shown, draw_row, name_rows, new_axes
from synthbench.runtime.text import in_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Kind = Literal["rescore", "changed images", "resample", "side by side", "not comparable"]
Outcome = Literal["pass", "warn", "drift", "not comparable"]


class Drift(Shown, Record):
    """The result of comparing two scorecards: what differs, and whether it is noise."""

    schema_version: Literal[1] = 1
    kind: Kind
    baseline: str
    current: str
    statement: str = Field(description="what was compared with what")
    outcome: Outcome
    verdict: str
    alpha: float
    causes: tuple[Cause, ...] = ()
    generator: tuple[GeneratorTest, ...] = ()
    metrics: tuple[MetricDrift, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The result in one line."""
        return f"{self.baseline} -> {self.current}: {self.outcome}: {self.verdict}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per metric: the fields of `MetricDrift`."""
        import pandas as pd

        return pd.DataFrame(
            [row.model_dump() for row in self.metrics], columns=list(MetricDrift.model_fields)
        )

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the change of each metric; return the axes.

        Between samples: the difference with its interval, in units of the margin that does not
        matter (the band); a metric without a margin is left out. For the same images: the change
        over the metric's terms.
        """
        between = [row for row in self.metrics if row.difference is not None and row.delta]
        again = [row for row in self.metrics if row.relative is not None]
        rows = between or again
        ax = new_axes(ax, len(rows))
        for at, row in enumerate(rows):
            if between:
                assert row.difference is not None
                assert row.delta is not None
                ends = None if row.low is None or row.high is None else (row.low, row.high)
                draw_row(ax, at, row.difference / row.delta,
                         ends and (ends[0] / row.delta, ends[1] / row.delta))  # fmt: skip
            else:
                assert row.relative is not None
                draw_row(ax, at, row.relative, None)
        if between:
            ax.axvspan(-1, 1, color=BAND, lw=0, zorder=0)
        name_rows(ax, [row.name for row in rows])
        ax.set_xlabel("difference, in margins" if between else "change over the metric's terms")
        ax.set_title(in_figure(f"{self.baseline} -> {self.current}: {self.outcome}"))
        return ax

    @property
    def exit_code(self) -> int:
        """0: no drift; 1: drift; 2: nothing, or not everything, can be compared."""
        return {"pass": 0, "warn": 0, "drift": 1, "not comparable": 2}[self.outcome]
