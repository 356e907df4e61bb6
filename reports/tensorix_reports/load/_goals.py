"""What a run was to reach, and whether it did: statements for the top of the page, a table, a tile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_records.judging import Goodput, Judged, Standing, Verdict, asked_goals, in_words, verdict_of
from tensorix_reports.frames import RunFrames
from tensorix_reports.page._statement import Standing as Tone
from tensorix_reports.page._statement import Statement
from tensorix_reports.page._tables import NOTHING, Cell, Table, row_of

__all__ = ["GoalsReport", "goals_of"]

_TONES: dict[Standing, Tone] = {"met": "good", "broken": "problem", "unknown": "unknown"}
_WORDS: dict[Standing, str] = {"met": "met", "broken": "broken", "unknown": "not enough data"}


@dataclass(frozen=True, slots=True)
class GoalsReport:
    """The objectives of a run and its goodput; empty where it was given none."""

    verdict: Verdict | None
    """None where there are none, or none that can be read."""
    trouble: str | None = None
    """Why they cannot be read."""

    @property
    def standing(self) -> Standing | None:
        """Of all objectives together; None where there is none."""
        return "unknown" if self.trouble else self.verdict.standing if self.verdict else None

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Each objective, in the order in which they were given."""
        return self.verdict.judged if self.verdict else ()

    @property
    def goodput(self) -> Goodput | None:
        """Where there are criteria."""
        return self.verdict.goodput if self.verdict else None

    @property
    def headline(self) -> str | None:
        """`Objectives met`, say."""
        if self.standing is None:
            return None
        if self.standing == "unknown":
            return "Not enough data to judge the objectives"
        broken, all_ = sum(one.standing == "broken" for one in self.judged), len(self.judged)
        if not broken:
            return "Objective met" if all_ == 1 else f"All {all_} objectives met"
        return "Objective broken" if all_ == 1 else f"{broken} of {all_} objectives broken"

    def statements(self) -> list[Statement]:
        """One for each objective, and one on the goodput where no objective is on it."""
        if self.trouble:
            text = f"The objectives of this run cannot be read: {self.trouble}."
            return [Statement("objective", "unknown", "not known", text)]
        found = [
            Statement("objective", _TONES[one.standing], _WORDS[one.standing], f"{one.objective.text}: {one.reason}.")
            for one in self.judged
        ]
        if self.goodput and not any(one.objective.name == "goodput" for one in self.judged):
            found.append(Statement("goodput", "notice", "goodput", _goodput_text(self.goodput)))
        return found

    def tables(self) -> list[Table]:
        """The objectives, where there are any."""
        if not self.judged:
            return []
        rows = []
        for one in self.judged:
            kind, figure = one.objective.kind, one.figure
            value = NOTHING if figure.value is None else in_words(figure.value, kind)
            interval = None
            if figure.low is not None and figure.high is not None:
                interval = f"{in_words(figure.low, kind)} to {in_words(figure.high, kind)}"
            standing = Cell(_WORDS[one.standing], tone=_TONES[one.standing].replace("unknown", "muted"))
            rows.append(row_of(one.objective.text, standing, Cell(value, interval), figure.count, one.reason))
        note = "Over the same stretch as the latencies. The figure decides; below it is its 95 % interval."
        if self.goodput:
            note += f" A good request: {', '.join(self.goodput.criteria)}."
        columns = ["objective", "", "figure", "requests", "in words"]
        return [Table("objectives", "Objectives", columns, rows, frozenset({2, 3}), note)]

    def tiles(self) -> list[tuple[str, Cell]]:
        """The goodput, with its criteria."""
        if self.goodput is None:
            return []
        value = self.goodput.a_second.value
        return [
            ("goodput", Cell(NOTHING if value is None else in_words(value, "rate"), ", ".join(self.goodput.criteria)))
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; figures in ns, shares, or a number a second, as `unit` says."""
        units = {"time": "ns", "share": "1", "rate": "1/s"}
        return {
            "standing": self.standing,
            "trouble": self.trouble,
            "objectives": [
                {
                    "text": one.objective.text,
                    "standing": one.standing,
                    "unit": units[one.objective.kind],
                    "bound": one.objective.bound,
                    "figure": asdict(one.figure),
                    "interval_holds_the_bound": one.straddles,
                    "reason": one.reason,
                }
                for one in self.judged
            ],
            "goodput": None if self.goodput is None else asdict(self.goodput),
        }


def _goodput_text(goodput: Goodput) -> str:
    if goodput.a_second.value is None:
        return f"Goodput ({', '.join(goodput.criteria)}): {goodput.a_second.withheld}."
    text = f"Goodput is {in_words(goodput.a_second.value, 'rate')} ({', '.join(goodput.criteria)}): "
    text += f"{in_words(goodput.share.value or 0.0, 'share')} of {goodput.share.count:,} successful chat requests"
    if goodput.not_asked:
        text += f"; for {goodput.not_asked:,} of them a criterion has no meaning, and is held against none"
    return text + "."


def goals_of(frames: RunFrames) -> GoalsReport:
    """The goals of a run that is already read, and what became of them."""
    try:
        goals = asked_goals(frames.manifest)
    except SettingsError as error:
        return GoalsReport(None, str(error))
    if not goals.objectives and not goals.good:
        return GoalsReport(None)
    return GoalsReport(verdict_of(frames.requests, frames.events, goals))
