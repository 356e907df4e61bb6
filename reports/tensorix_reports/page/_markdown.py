"""The report as Markdown: the same verdict and tables as the page."""

from __future__ import annotations

import re
from collections.abc import Collection

from tensorix_reports.page._inert import inert
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._tables import Cell, Table

__all__ = ["markdown_of"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~!&])")
_ADDRESS = re.compile(r"(\bhttps?|\bftp|\bwww)(:|\.)", re.IGNORECASE)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: what a server sent makes no table cell, link or HTML of its own."""
    shown = _SPECIAL.sub(r"\\\1", " ".join(inert(text).split()))
    # Where GitHub shows it, an address of its own accord becomes a link, and a name after @ is called.
    return _ADDRESS.sub(lambda found: f"{found[1]}\\{found[2]}", shown).replace("@", "@\N{WORD JOINER}")


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


def markdown_of(
    title: str, subtitle: str, verdict: Verdict, tables: list[Table], *, unfolded: Collection[str] | None = None
) -> str:
    """The whole report as one Markdown text; of `unfolded` ids the tables stand open, and all others are folded up."""
    lines = [f"# {escaped(title)}", "", escaped(subtitle), "", f"**{escaped(verdict.headline)}**", ""]
    lines += [f"- **{escaped(item.word)}** — {escaped(item.text)}" for item in verdict.statements]
    lines.append("")
    shown = [table for table in tables if unfolded is None or table.id in unfolded]
    for table in shown:
        lines += _table(table)
    if len(shown) < len(tables):
        lines += ["<details>", "<summary>All other tables</summary>", ""]
        for table in tables:
            lines += [] if table in shown else _table(table)
        lines += ["</details>", ""]
    return "\n".join(lines)
