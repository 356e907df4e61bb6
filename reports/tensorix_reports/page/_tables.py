"""The report's tables as words: the page, the Markdown report and the CSV files show the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["NOTHING", "Cell", "Table", "cell", "facts_table", "figure_cell", "number", "row_of", "seconds"]


NOTHING = "\N{EN DASH}"
"""Stands where there is no figure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a table: its text, a smaller line below it, and a tone (`muted`, `good`, `notice`, `problem`)."""

    text: str
    detail: str | None = None
    tone: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table in words. `numeric` names the columns whose cells are numbers."""

    id: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    numeric: frozenset[int] = frozenset()
    note: str | None = None
    empty: str = "Not enough data."
    folded: bool = field(default=False)
    """Shown closed on the page."""


def cell(value: Any) -> Cell:
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell(NOTHING, tone="muted")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return Cell(f"{value:,}")
    return Cell(str(value))


def row_of(*values: Any) -> list[Cell]:
    return [cell(value) for value in values]


def number(value: float | None, unit: str = "") -> str:
    """A figure to three significant digits, or whole where it is large."""
    if value is None:
        return NOTHING
    if value == 0 or abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def figure_cell(value: float | None) -> Cell:
    return Cell(number(value))


def seconds(value: float | None) -> Cell:
    return Cell(NOTHING, tone="muted") if value is None else Cell(f"{value:,.1f}")


def facts_table(name: str, title: str, facts: list[tuple[str, Any]], empty: str, note: str | None = None) -> Table:
    return Table(name, title, ["what", "value"], [row_of(*fact) for fact in facts], frozenset({1}), note, empty)
