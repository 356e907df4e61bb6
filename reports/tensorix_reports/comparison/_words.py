"""A comparison in words: the verdict, and the tables of page, Markdown and terminal."""

from __future__ import annotations

from tensorix_records.judging import in_words
from tensorix_reports.comparison._compare import Compared, Comparison, GateResult
from tensorix_reports.page._statement import Standing, Statement, Verdict, counted
from tensorix_reports.page._tables import NOTHING, Cell, Table, cell, row_of

__all__ = ["figure_name", "run_names", "tables_of", "verdict_of"]

_SHORT = {
    "ttft": "TTFT",
    "ttfo": "TTFO",
    "itl": "ITL",
    "e2e": "E2E",
    "ttft_from_intended": "TTFT from intended",
    "from_intended": "E2E from intended",
    "tokens_a_second_of_a_user": "tokens/s, a user",
}
_MOST_TOLD = 8
_WORDS: dict[str, tuple[Standing, str]] = {
    "met": ("good", "met"),
    "broken": ("problem", "broken"),
    "unknown": ("unknown", "not enough data"),
}


def run_names(comparison: Comparison) -> list[str]:
    """The folders' names, numbered where two are the same."""
    names = [run.path.resolve().name for run in comparison.runs]
    again = {name for name in names if names.count(name) > 1}
    return [f"{name} ({place + 1})" if name in again else name for place, name in enumerate(names)]


def figure_name(one: Compared) -> str:
    """`TTFT p95 (chat, streamed)`; what is of all requests names none."""
    quantity = _SHORT.get(one.quantity, one.quantity.replace("_", " "))
    if one.statistic in ("share", "a second"):
        return quantity if one.statistic == "share" else f"{quantity} a second"
    return f"{quantity} {one.statistic} ({one.request})"


def _value(one: Compared, value: float | None) -> str:
    if value is None:
        return NOTHING
    sign = "-" if value < 0 else ""
    return sign + in_words(abs(value), one.kind)


def _signed(one: Compared, value: float) -> str:
    if one.kind == "share":
        return f"{100 * value:+.3g} pp"
    return ("+" if value >= 0 else "") + _value(one, value)


def _difference(one: Compared) -> Cell:
    if one.difference is None:
        return Cell(NOTHING, tone="muted")
    interval = None
    if one.difference_low is not None and one.difference_high is not None:
        interval = f"{_signed(one, one.difference_low)} to {_signed(one, one.difference_high)}"
    return Cell(_signed(one, one.difference), interval)


def _ratio(one: Compared) -> Cell:
    if one.ratio is None:
        return Cell(NOTHING, tone="muted")
    interval = None
    if one.ratio_low is not None and one.ratio_high is not None:
        interval = f"{one.ratio_low:.3f} to {one.ratio_high:.3f}"
    return Cell(f"{one.ratio:.3f}", interval)


def _said(one: Compared) -> Cell:
    if one.shown is None:
        return Cell(one.note or "not enough data", tone="muted")
    return Cell("differs", tone="notice") if one.shown else Cell("no difference that these data can show", tone="muted")


def _change(one: Compared) -> str:
    """`TTFT p95 (chat, streamed) +15.3 % (+1.0 % to +31.7 %)`."""
    if one.ratio is not None and one.ratio_low is not None and one.ratio_high is not None and one.kind != "share":
        shares = (one.ratio - 1, one.ratio_low - 1, one.ratio_high - 1)
        return f"{figure_name(one)} {100 * shares[0]:+.1f} % ({100 * shares[1]:+.1f} % to {100 * shares[2]:+.1f} %)"
    cell = _difference(one)
    return f"{figure_name(one)} {cell.text} ({cell.detail})"


def _gate_statement(one: GateResult, name: str, several: bool) -> Statement:
    standing, word = _WORDS[one.standing]
    figure = one.figure
    text = f"{one.text}: {one.reason}"
    if figure is not None and figure.baseline is not None and figure.value is not None:
        change = "" if figure.ratio is None else f", {100 * (figure.ratio - 1):+.1f} %"
        text += f" ({_value(figure, figure.baseline)} to {_value(figure, figure.value)}{change})"
    return Statement("gate", standing, word, text + (f"; {name}" if several else "") + ".")


def verdict_of(comparison: Comparison) -> Verdict:
    """What the comparison found, the gates first."""
    names, several = run_names(comparison), len(comparison.runs) > 2
    statements = [_gate_statement(one, names[one.run], several) for one in comparison.gates]
    compared = 0
    for run in range(1, len(comparison.runs)):
        of = f"{names[run]}: " if several else ""
        compared += sum(one.shown is not None for one in comparison.rows[run - 1])
        different = comparison.different(run)
        if different:
            text = "; ".join(_change(one) for one in different[:_MOST_TOLD])
            more = len(different) - _MOST_TOLD
            text += f"; and {more} more in the table" if more > 0 else ""
            statements.append(Statement("figures", "notice", "differs", f"{of}{text}."))
        elif any(one.shown is not None for one in comparison.rows[run - 1]):
            text = f"{of}no difference that these data can show, in any of the figures."
            statements.append(Statement("figures", "good", "alike", text))
        else:
            text = f"{of}not enough data to compare a figure."
            statements.append(Statement("figures", "unknown", "unknown", text))
        warned = comparison.warnings[run - 1]
        statements += [Statement("settings", "notice", "mind", f"{of}{warning}.") for warning in warned]
    differing = sum(len(comparison.different(run)) for run in range(1, len(comparison.runs)))
    if comparison.standing == "broken":
        headline = "A gate is broken"
    elif comparison.standing == "unknown":
        headline = "Not enough data for a gate"
    elif not compared:
        headline = "Not enough data to compare"
    elif differing:
        headline = f"{counted(differing, 'figure')} of {compared:,} {'differs' if differing == 1 else 'differ'}"
    else:
        headline = "No difference that these data can show"
    return Verdict(f"{headline} (baseline: {names[0]})", statements)


def tables_of(comparison: Comparison) -> list[Table]:
    """A table of figures for each run, and what else differs."""
    names = run_names(comparison)
    tables = []
    note = (
        "All intervals of the comparison hold at once with 95 %: by chance alone, one comparison in twenty names a "
        "difference. The difference's interval is at the baseline's own value."
    )
    for run, rows in enumerate(comparison.rows, 1):
        cells = [
            row_of(
                figure_name(one),
                cell(_value(one, one.baseline)),
                cell(_value(one, one.value)),
                _difference(one),
                _ratio(one),
                _said(one),
                f"{one.baseline_count:,} and {one.count:,}",
            )
            for one in rows
        ]
        columns = ["figure", names[0], names[run], "difference", "ratio", "", "samples"]
        title = f"{names[run]} beside {names[0]}"
        tables.append(Table(f"figures-{run}", title, columns, cells, frozenset({1, 2, 3, 4, 6}), note))
    found = [row_of(names[run], text) for run, some in enumerate(comparison.warnings, 1) for text in some]
    tables.append(
        Table("differences", "What else differs", ["run", "what"], found, empty="Nothing that the runs tell.")
    )
    return tables
