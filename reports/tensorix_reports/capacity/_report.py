"""What a search for the highest load found: its steps, the knee, or the limit that it met; and the page of it.

FOLDER/capacity.json    everything, versioned (`format`)
FOLDER/capacity.html    one page that opens with no network
FOLDER/capacity.md      the same in Markdown
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tensorix_records.judging import Judged, Standing, in_words
from tensorix_reports.capacity._pictures import Point, pictures_of
from tensorix_reports.page._html import Section, html_of
from tensorix_reports.page._markdown import markdown_of
from tensorix_reports.page._placing import place
from tensorix_reports.page._statement import Statement, Verdict, counted
from tensorix_reports.page._tables import NOTHING, Cell, Table, facts_table, number, row_of

__all__ = ["CAPACITY_FORMAT", "Capacity", "CapacityPaths", "Found", "LimitFound", "Step", "write_capacity"]

CAPACITY_FORMAT = 1
"""The version of `capacity.json`: it grows when a key changes its meaning or goes, not when one is added."""

Found: TypeAlias = Literal["knee", "at least", "none", "limit", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One load and what became of the objectives under it."""

    load: float
    """Requests a second, or users."""
    folder: str
    """The run, within the folder of the search."""
    purpose: Literal["step", "limit"]
    """One of the search, or a run beyond a limit to measure it."""
    standing: Standing | Literal["limited"]
    """`limited`: refused with 429, which is the limit's doing."""
    reason: str
    seconds: float
    """The window that it was judged by."""
    requests: int
    """Started within."""
    sent_a_second: float | None
    successful_a_second: float | None
    judged: tuple[Judged, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFound:
    """A limit as the server kept it."""

    what: Literal["requests", "tokens", "unclear"]
    amount: float
    """What passed in a window: requests, or tokens; requests where it is unclear."""
    window_s: float
    window_from: str
    """`told`, `headers`, `measured` or `assumed`."""
    windows: int
    """So many whole ones were counted."""
    stated: int | None
    """What headers say, where they do."""
    how: str
    """How it was found, and why it is of this kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """A search that is over."""

    unit: Literal["requests/s", "users"]
    base_url: str
    model: str | None
    label: str | None
    objectives: tuple[str, ...]
    good: tuple[str, ...]
    found: Found
    """`knee`: between `best` and `broken`; `at least`: none of those tried was too high; `none`: all were."""
    best: float | None
    """The highest load that met all objectives."""
    broken: float | None
    """The lowest that did not."""
    why: str
    """Why it ended there, in a sentence."""
    limit: LimitFound | None
    steps: tuple[Step, ...]
    spent: dict[str, float]
    """`requests`, `tokens`, `seconds`."""
    budget: dict[str, float | None]
    """The most of these that it might have used; None: any number."""
    started_unix_ns: int

    @property
    def headline(self) -> str:
        """What was found, in a line."""
        best = NOTHING if self.best is None else f"{number(self.best)} {self.unit}"
        if self.found == "limit" and self.limit is not None:
            return f"The limit: {_limit_words(self.limit)}"
        if self.found == "knee":
            assert self.broken is not None
            return f"{best} meet the objectives, {number(self.broken)} do not"
        if self.found == "at least":
            return f"At least {best} meet the objectives"
        if self.found == "none":
            return "No load that was tried meets the objectives"
        return f"The search did not end; {best} met the objectives" if self.best else "The search did not end"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"format": CAPACITY_FORMAT, "headline": self.headline, **asdict(self)}


@dataclass(frozen=True, slots=True)
class CapacityPaths:
    """Where a search was written, and what it says at the top."""

    verdict: list[str]
    folder: Path
    page: Path
    figures: Path
    markdown: Path


_KINDS = {"requests": "requests", "tokens": "tokens", "unclear": "requests (or the tokens of these: it is not clear)"}
_WORDS = {"met": "met", "broken": "broken", "unknown": "not enough data", "limited": "429s"}
_TONES = {"met": "good", "broken": "problem", "unknown": "muted", "limited": "notice"}


def _limit_words(limit: LimitFound) -> str:
    return f"{limit.amount:,.0f} {_KINDS[limit.what]} in {limit.window_s:.3g} s"


def _statements(capacity: Capacity) -> list[Statement]:
    found = []
    if capacity.limit is not None:
        limit = capacity.limit
        text = f"{_limit_words(limit)}, {limit.amount / limit.window_s:,.4g}/s: {limit.how}."
        if limit.stated is not None:
            text += f" Headers state {limit.stated:,}."
        found.append(Statement("limit", "notice", "limit", text))
    else:
        tone = {"knee": "good", "at least": "notice"}.get(capacity.found, "problem")
        found.append(Statement("capacity", tone, capacity.found, f"{capacity.why}."))  # type: ignore[arg-type]
    best = next((one for one in reversed(capacity.steps) if one.load == capacity.best and one.standing == "met"), None)
    for one in best.judged if best else ():
        text = f"At {number(capacity.best)} {capacity.unit}, {one.objective.text}: {one.reason}."
        found.append(Statement("objective", "good" if one.standing == "met" else "unknown", one.standing, text))
    spent = capacity.spent
    text = f"{counted(len(capacity.steps), 'run')}, {counted(round(spent['requests']), 'request')}, "
    text += f"{spent['tokens']:,.0f} tokens, {spent['seconds']:,.0f} s."
    found.append(Statement("spent", "notice", "used", text))
    return found


def _steps_table(capacity: Capacity) -> Table:
    texts = list(dict.fromkeys(one.objective.text for step in capacity.steps for one in step.judged))
    rows = []
    for order, step in enumerate(capacity.steps, 1):
        by_text = {one.objective.text: one for one in step.judged}
        rows.append(
            row_of(
                order,
                number(step.load),
                Cell(_WORDS[step.standing], tone=_TONES[step.standing]),
                *(_figure(by_text.get(text)) for text in texts),
                number(step.sent_a_second),
                number(step.successful_a_second),
                step.requests,
                number(step.seconds),
                step.reason,
                step.folder,
            )
        )
    columns = ["", capacity.unit, "", *texts, "sent/s", "successful/s", "requests", "seconds", "why", "run"]
    numeric = frozenset({0, 1, *range(3, 7 + len(texts))})
    note = "Each is a run of its own, judged without its warm-up; the next begins when its last request has ended."
    return Table("steps", "Steps", columns, rows, numeric, note, "No step was made.")


def _figure(one: Judged | None) -> Cell:
    if one is None or one.figure.value is None:
        return Cell(NOTHING, tone="muted")
    kind, interval = one.objective.kind, None
    if one.figure.low is not None and one.figure.high is not None:
        interval = f"{in_words(one.figure.low, kind)} to {in_words(one.figure.high, kind)}"
    return Cell(in_words(one.figure.value, kind), interval, "problem" if one.standing == "broken" else None)


def _settings(capacity: Capacity) -> Table:
    facts: list[tuple[str, Any]] = [
        ("server", capacity.base_url),
        ("model", capacity.model),
        ("objectives", "; ".join(capacity.objectives)),
        ("a good request", "; ".join(capacity.good) or None),
    ]
    facts += [(f"most {name}", None if most is None else f"{most:,.0f}") for name, most in capacity.budget.items()]
    return facts_table("settings", "Settings", facts, "")


_GLOSSARY = (
    ("knee", "The highest load that meets every objective: the next that was tried above it does not."),
    ("429s", "Refused for the rate: a limit was met before the server grew slow, so the limit is measured instead."),
    ("warm-up", "The beginning of each step, which is not judged: the load there is not what it is afterwards."),
)
_SECTIONS = (
    Section("Steps", ("steps",), tuple(f"objective-{place}" for place in range(20))),
    Section("Settings", ("settings",)),
)


def write_capacity(capacity: Capacity, folder: Path) -> CapacityPaths:
    """Write page, JSON and Markdown into the folder of a search. Raises CannotWriteError."""
    verdict = Verdict(capacity.headline, _statements(capacity))
    drawn = pictures_of(
        [
            Point(step.load, one.objective, one.figure, one.standing)
            for step in capacity.steps
            for one in step.judged
            if step.purpose == "step"
        ],
        unit=capacity.unit,
        knee=capacity.best if capacity.found == "knee" else None,
    )
    what = "rate" if capacity.unit == "requests/s" else "number of users"
    title = capacity.label or f"The highest {what} of {capacity.model or 'a chat API'}"
    began = datetime.fromtimestamp(capacity.started_unix_ns / 1e9, tz=UTC)
    subtitle = f"{capacity.base_url} · {began:%Y-%m-%d %H:%M:%S} UTC · {'; '.join(capacity.objectives)}"
    tables = [_steps_table(capacity), _settings(capacity)]
    tiles = [
        (
            "highest that met them",
            Cell(NOTHING if capacity.best is None else f"{number(capacity.best)} {capacity.unit}"),
        ),
        (
            "lowest that did not",
            Cell(NOTHING if capacity.broken is None else f"{number(capacity.broken)} {capacity.unit}"),
        ),
        ("steps", Cell(f"{len(capacity.steps)}")),
        ("requests", Cell(f"{capacity.spent['requests']:,.0f}")),
    ]
    page = html_of(
        title, subtitle, verdict, tables, drawn, tiles=tiles, sections=_SECTIONS, glossary=_GLOSSARY, whole="range"
    )
    files = {
        "capacity.json": json.dumps(capacity.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "capacity.md": markdown_of(title, subtitle, verdict, tables),
        "capacity.html": page,
    }
    place({name: text.encode("utf-8", "replace") for name, text in files.items()}, folder)
    return CapacityPaths(
        verdict.lines, folder, folder / "capacity.html", folder / "capacity.json", folder / "capacity.md"
    )
