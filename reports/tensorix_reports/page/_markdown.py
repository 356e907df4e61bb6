"""The report as Markdown: the same verdict and tables as the page."""

from __future__ import annotations

import re

from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._tables import Cell, Table

__all__ = ["markdown_of"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!&])")


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: what a server sent makes no table cell, link or HTML of its own."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _cell(cell: Cell) -> str:
    return escaped(cell.text if cell.detail is None else f"{cell.text} ({cell.detail})")


def _table(table: Table) -> list[str]:
    lines = [f"## {escaped(table.title)}", ""]
    if not table.rows:
        return [*lines, escaped(table.empty), ""]
    lines.append("| " + " | ".join(escaped(column) for column in table.columns) + " |")
    lines.append("|" + "|".join(" ---: " if i in table.numeric else " --- " for i in range(len(table.columns))) + "|")
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [*lines, "", *([escaped(table.note), ""] if table.note else [])]


def markdown_of(title: str, subtitle: str, verdict: Verdict, tables: list[Table]) -> str:
    """The whole report as one Markdown text."""
    lines = [f"# {escaped(title)}", "", escaped(subtitle), "", f"**{escaped(verdict.headline)}**", ""]
    lines += [f"- **{escaped(item.word)}** — {escaped(item.text)}" for item in verdict.statements]
    lines.append("")
    for table in tables:
        lines += _table(table)
    return "\n".join(lines)
