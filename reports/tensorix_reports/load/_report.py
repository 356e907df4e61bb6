"""The whole report of a run before any of it is written: what it rests on, the verdict, the tables, the pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from tensorix_records import Run
from tensorix_reports.frames import RunFrames, mapping, reported, together, whole
from tensorix_reports.limiting._limit_tables import limit_tables
from tensorix_reports.limiting._rate_limit import RateLimitReport, rate_limits_of
from tensorix_reports.limiting._waits import Waits, waits_of, waits_table
from tensorix_reports.load._breakdowns import Breakdown, breakdown_tables, breakdowns_of
from tensorix_reports.load._distribution_pictures import distribution_pictures
from tensorix_reports.load._goals import GoalsReport, goals_of
from tensorix_reports.load._latency import LatencyReport, latency_of
from tensorix_reports.load._latency_tables import latency_tables
from tensorix_reports.load._pictures import pictures_of
from tensorix_reports.load._rates import Rate, rates_of
from tensorix_reports.load._run_tables import rates_table, settings_table, trust_table
from tensorix_reports.load._steps import ScheduleStep, steps_of, steps_table
from tensorix_reports.load._tokens import TokenReport, token_tables, tokens_of
from tensorix_reports.load._verdict import verdict_of
from tensorix_reports.page._picture import Picture
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._tables import Table

__all__ = ["SUMMARY_FORMAT", "LoadReport", "load_report", "summary_schema"]

SUMMARY_FORMAT = 1
"""The version of `summary.json`: it grows when a key changes its meaning or goes, not when one is added."""


def summary_schema() -> str:
    """The JSON Schema (2020-12) of `summary.json`, as text."""
    return resources.files("tensorix_reports").joinpath("load", "summary.schema.json").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The report of a run. Nothing of it is written yet."""

    frames: RunFrames
    latency: LatencyReport
    limits: RateLimitReport
    rates: list[Rate]
    goals: GoalsReport
    breakdowns: list[Breakdown]
    steps: list[ScheduleStep]
    tokens: TokenReport
    waits: Waits
    verdict: Verdict
    tables: list[Table]
    """In the order of the Markdown report; the page puts them into sections by their ids."""
    pictures: list[Picture]

    @property
    def title(self) -> str:
        """What the report is called: the run's label, or what was tested."""
        asked = self.frames.asked
        label = self.frames.manifest.get("label") or asked.get("label")
        if label:
            return str(label)
        if self.frames.is_traced:
            services = list(mapping(mapping(self.frames.manifest.get("spans")).get("services")))
            return f"Chat calls of {services[0] if len(services) == 1 else 'services'} in production"
        return f"Load test of {asked.get('model') or 'a chat API'}"

    @property
    def subtitle(self) -> str:
        """Where, when, how long and how many."""
        frames = self.frames
        started = datetime.fromtimestamp(frames.origin_unix_ns / 1e9, tz=UTC)
        parts = [str(frames.asked["base_url"])] if frames.asked.get("base_url") else []
        parts += [f"{started:%Y-%m-%d %H:%M:%S} UTC", f"{frames.end_s:,.1f} s", f"{len(frames.load):,} requests"]
        return " · ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """What `summary.json` holds; `reports/SUMMARY.md` describes the keys, `summary.schema.json` their types."""
        frames = self.frames
        return {
            "format": SUMMARY_FORMAT,
            "run": {
                "run_id": _text(frames.manifest.get("run_id")),
                "kind": _text(frames.manifest.get("kind")),
                "asked": frames.asked,
                "started_unix_ns": whole(frames.manifest.get("started_unix_ns")),
                "ended_unix_ns": whole(frames.manifest.get("ended_unix_ns")),
                "end_reason": _text(frames.manifest.get("end_reason")),
                "ended": frames.ended,
                "origin_unix_ns": frames.origin_unix_ns,
                "length_s": frames.end_s,
                "requests": len(frames.requests),
                "findings": frames.findings,
            },
            "verdict": {
                "headline": self.verdict.headline,
                "statements": [asdict(statement) for statement in self.verdict.statements],
            },
            "goals": self.goals.to_dict(),
            "rates": {
                rate.what: {"a_second": rate.a_second, "peak_a_second": rate.peak_a_second} for rate in self.rates
            },
            "latency": self.latency.to_dict(),
            "rate_limit": self.limits.to_dict(),
            "breakdowns": [one.to_dict() for one in self.breakdowns],
            "steps": [step.to_dict() for step in self.steps],
            "tokens": self.tokens.to_dict(),
            "waits": self.waits.to_dict(),
        }


def _text(value: Any) -> str | None:
    """What another writer's manifest holds there may be of any type."""
    return value if isinstance(value, str) else None


def load_report(run: Run | Path | str) -> LoadReport:
    """Read a run, or the folder of one, and report it. Raises RunFolderError where it is no run."""
    return reported(run, _of_frames)


def _of_frames(frames: RunFrames) -> LoadReport:
    latency = latency_of(frames)
    # Each of them reads columns that the others hardly need; the pictures among them are drawn in one thread only.
    parts: tuple[Callable[[], Any], ...] = (
        partial(rate_limits_of, frames),
        partial(breakdowns_of, frames, latency.window),
        partial(distribution_pictures, frames, latency.window),
        partial(goals_of, frames),
        partial(tokens_of, frames),
        partial(steps_of, frames),
        partial(waits_of, frames),
    )
    found: list[Any] = together(parts)
    limits, breakdowns, distributions, goals, tokens, steps, waits = found
    rates = rates_of(frames, latency.window, limits.seconds)
    tables = [
        *goals.tables(),
        *latency_tables(latency),
        rates_table(rates),
        *steps_table(steps),
        *breakdown_tables(breakdowns),
        *token_tables(tokens, frames),
        *limit_tables(limits, traced=frames.is_traced, complete=frames.is_complete),
        *([] if frames.is_traced else [waits_table(waits)]),
        trust_table(latency, traced=frames.is_traced),
        settings_table(frames),
    ]
    return LoadReport(
        frames=frames,
        latency=latency,
        limits=limits,
        rates=rates,
        goals=goals,
        breakdowns=breakdowns,
        steps=steps,
        tokens=tokens,
        waits=waits,
        verdict=verdict_of(frames, latency, limits, goals),
        tables=tables,
        pictures=[*pictures_of(frames, limits), *distributions],
    )
