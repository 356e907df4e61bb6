"""The rate-limit report: what was sent and what passed, the budget as the headers told it, windows and episodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tensorix_records import Run
from tensorix_reports.frames import OUTCOMES, PREFLIGHT, Requests, RunFrames, kind_order, reported
from tensorix_reports.limiting._allowed import MODEL_LISTS, allowed, models_count, window_lengths
from tensorix_reports.limiting._episodes import Decisions, Episode, decisions_of, episodes_of
from tensorix_reports.limiting._windows import WindowFit, fit_windows

__all__ = ["HEADER_COLUMNS", "KeyLimits", "RateLimitReport", "RetryAfter", "rate_limit_report", "rate_limits_of"]

_WHOLE_SECOND_S = 1.05
# Responses that said what remains, each with a row of its own up to so many.
_MOST_TOLD = 50_000
_TOLD_COLUMNS = ["key_alias", "kind", "status", "remaining_requests", "remaining_tokens"]
_TOLD_COLUMNS += ["at_s", "headers_at_ns", "first_chunk_at_ns", "end_at_ns"]

HEADER_COLUMNS = {
    "remaining_requests": "remaining requests",
    "remaining_tokens": "remaining tokens",
    "limit_requests": "limit requests",
    "limit_tokens": "limit tokens",
    "reset_requests_ns": "reset requests",
    "reset_tokens_ns": "reset tokens",
    "retry_after_ns": "Retry-After",
}


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """What 429s told the client to wait, against how long it took until a request passed; seconds."""

    refusals: int
    said: int
    """How many of them said anything."""
    compared: int
    """How many of those were followed by a success, so that there is something to compare with."""
    said_median_s: float | None
    true_at_most_median_s: float | None
    """The wait until the first success: an upper bound, for nobody may have asked sooner."""
    overstated: int
    """Said to wait longer than that bound, by more than the second to which it is rounded."""
    overstated_by_most_s: float | None
    understated: int
    """A later request was still refused after the wait that was said."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one API key met."""

    key_alias: str | None
    models_counted: bool
    """Whether model lists were taken to count against the limit."""
    fit: WindowFit
    episodes: list[Episode]


@dataclass(frozen=True, slots=True)
class RateLimitReport:
    """The limits of a run, as its requests met them. Times are seconds since the run's start."""

    origin_unix_ns: int
    limit_requests: int | None
    limit_tokens: int | None
    window_s: float | None
    sources: dict[str, str]
    """Where `requests`, `tokens` and `window` are from: `told` by the user, `headers`, `documented`, `assumed`,
    `measured`, or `unknown`."""
    stated_requests: list[int]
    """Every limit of requests that a header stated."""
    stated_tokens: list[int]
    totals: dict[str, int]
    seconds: pd.DataFrame
    """A row a second: offered (null in a closed loop), sent, and what became of those sent."""
    minutes: pd.DataFrame
    """The same a minute of the clock (UTC), with the statuses 200 and 429 counted."""
    remaining: pd.DataFrame
    """Every response that said what remains, with when its request started and when it was told; of very many, those
    that said the least in each second and of each key."""
    headers: pd.DataFrame
    """A row a kind of response: how many, and how many of them carried each header."""
    keys: list[KeyLimits]
    retry_after: RetryAfter
    anomalies: dict[str, int]
    remaining_is_reduced: bool = False
    """Whether not every response is in `remaining`."""
    findings: list[str] = field(default_factory=list)
    """What was wrong with the run's files, and was left out."""

    @property
    def reached(self) -> bool:
        """Whether anything was refused for the rate."""
        return self.totals["throttled"] > 0

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """The report's tables by name, for a notebook; windows and episodes of every key, with its alias."""
        keys = [_key_dict(key, self.origin_unix_ns) for key in self.keys]
        return {
            "seconds": self.seconds,
            "minutes": self.minutes,
            "remaining": self.remaining,
            "headers": self.headers,
            **{
                name: pd.DataFrame([{"key_alias": key["key_alias"], **row} for key in keys for row in key[name]])
                for name in ("windows", "episodes")
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return {
            "limit": {
                "requests": self.limit_requests,
                "tokens": self.limit_tokens,
                "window_s": self.window_s,
                "sources": self.sources,
                "stated_by_headers": {"requests": self.stated_requests, "tokens": self.stated_tokens},
            },
            "reached": self.reached,
            "totals": self.totals,
            "keys": [_key_dict(key, self.origin_unix_ns) for key in self.keys],
            "retry_after": asdict(self.retry_after),
            "headers": rows_of(self.headers),
            "header_anomalies": self.anomalies,
            "clock_minutes": rows_of(self.minutes),
        }


def _key_dict(key: KeyLimits, origin_unix_ns: int) -> dict[str, Any]:
    fit = key.fit
    return {
        "key_alias": key.key_alias,
        "models_counted": key.models_counted,
        "window_s": fit.window_s,
        "window_source": fit.source,
        "windows_how": fit.how,
        "windows_fit": fit.fits,
        "windows_doubts": fit.doubts,
        "window_measured_between_s": None if fit.bracket_s is None else list(fit.bracket_s),
        "windows": [
            {"number": number, "start_unix_ns": origin_unix_ns + round(window.start_s * 1e9), **asdict(window)}
            for number, window in enumerate(fit.windows, 1)
        ],
        "episodes": [{**asdict(episode), "length_s": episode.length_s} for episode in key.episodes],
    }


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as JSON-able dictionaries; missing numbers as None, whole floats as integers."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return None
        return int(value) if float(value).is_integer() else float(value)
    return value.item() if isinstance(value, np.generic) else value


def _seconds(frames: RunFrames) -> pd.DataFrame:
    requests = frames.load
    at = requests.array("at_s")
    length = int(np.floor(max(frames.end_s, at[-1]))) + 1 if len(requests) else 0
    table = pd.DataFrame({"second": np.arange(length)})
    second = np.floor(at).astype(np.int32)
    intended = requests.array("intended_at_ns")
    table["offered"] = np.nan
    if np.isfinite(intended).any():
        due = np.floor(at + intended / 1e9)
        due = np.clip(due[np.isfinite(due)], 0, None).astype(np.int64)
        table["offered"] = np.bincount(due, minlength=length)[:length].astype(float)
    table["sent"] = np.bincount(second, minlength=length)[:length]
    for outcome in OUTCOMES:
        mine = second[requests.codes("outcome").equal(outcome)]
        table[outcome] = np.bincount(mine, minlength=length)[:length]
    return table


def _minutes(frames: RunFrames) -> pd.DataFrame:
    requests = frames.requests
    columns = ["minute", "sent", "status_200", "status_429", "other"]
    if not len(requests):
        return pd.DataFrame(columns=columns)
    # In the order of the starts, so minutes follow each other: where each begins is all that is needed.
    minute = requests.array("start_unix_ns") // 60_000_000_000
    begins = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    status = requests.array("status")
    ok, no = (np.add.reduceat((status == code).astype(np.int64), begins) for code in (200, 429))
    stamps = [datetime.fromtimestamp(int(value) * 60, tz=UTC) for value in minute[begins]]
    table = pd.DataFrame({"minute": [f"{stamp:%Y-%m-%d %H:%M}" for stamp in stamps]})
    table["sent"] = np.diff(np.append(begins, len(minute)))
    table["status_200"], table["status_429"] = ok, no
    table["other"] = table["sent"] - ok - no
    return table[columns]


def _remaining(frames: RunFrames) -> tuple[pd.DataFrame, bool]:
    """Who said what remains, and whether these are not all."""
    requests = frames.requests
    said = np.isfinite(requests.array("remaining_requests")) | np.isfinite(requests.array("remaining_tokens"))
    told = requests.of(said)
    reduced = len(told) > _MOST_TOLD
    if reduced:
        parts = [part for _, part in told.parts("key_alias")]
        least = [_least(part, name) for part in parts for name in ("remaining_requests", "remaining_tokens")]
        told = requests.of(np.unique(np.concatenate(least)))
    columns = told[_TOLD_COLUMNS]
    headers = columns["headers_at_ns"].fillna(columns["first_chunk_at_ns"]).fillna(columns["end_at_ns"]).fillna(0.0)
    table = columns[_TOLD_COLUMNS[:5]].copy()
    table.insert(0, "told_s", columns["at_s"] + headers / 1e9)
    table.insert(0, "at_s", columns["at_s"])
    return table.reset_index(drop=True), reduced


def _least(told: Requests, name: str) -> np.ndarray:
    """The places, among all requests, of the first response in each second that said the least."""
    left = np.nan_to_num(told.array(name), nan=np.inf)
    begins = np.flatnonzero(np.diff(np.floor(told.array("at_s")), prepend=-np.inf))
    lengths = np.diff(np.append(begins, len(left)))
    lowest = np.flatnonzero(left == np.repeat(np.minimum.reduceat(left, begins), lengths))
    _, first = np.unique(np.searchsorted(begins, lowest, "right"), return_index=True)
    return told.index.to_numpy()[lowest[first]]


def _headers(frames: RunFrames) -> pd.DataFrame:
    requests = frames.requests
    answered = requests.of(np.isfinite(requests.array("status")))
    kind, status = answered.codes("kind"), answered.array("status")
    names = ["models" if value == PREFLIGHT else value for value in kind.values]
    place, statuses = pd.factorize(status)
    group = kind.codes.astype(np.int64) * max(1, len(statuses)) + place
    size = len(names) * max(1, len(statuses))
    counts = {"responses": np.bincount(group, minlength=size)}
    for name in HEADER_COLUMNS:
        counts[name] = np.bincount(group[np.isfinite(answered.array(name))], minlength=size)
    found: dict[tuple[str, int], dict[str, int]] = {}
    for at in np.flatnonzero(counts["responses"]).tolist():
        row = found.setdefault(
            (names[at // len(statuses)], int(statuses[at % len(statuses)])), dict.fromkeys(counts, 0)
        )
        row |= {name: row[name] + int(values[at]) for name, values in counts.items()}
    rows = [
        {"kind": key[0], "status": key[1], **found[key]}
        for key in sorted(found, key=lambda k: (kind_order(k[0]), k[1]))
    ]
    return pd.DataFrame(rows, columns=["kind", "status", "responses", *HEADER_COLUMNS])


def _retry_after(keys: list[tuple[Decisions, np.ndarray, list[Episode]]]) -> RetryAfter:
    refusals = 0
    stated: list[float] = []
    compared: list[tuple[float, float]] = []
    understated = 0
    for seen, said, episodes in keys:
        refusals += int(seen.refused.sum())
        stated += said[seen.refused & ~np.isnan(said)].tolist()
        telling = np.flatnonzero(seen.refused & ~np.isnan(said))
        asked_s = seen.at_s[telling]
        for episode in episodes:
            if episode.last_refused_s is None:
                continue
            first = np.searchsorted(asked_s, episode.spent_s, "left")
            inside = telling[first : np.searchsorted(asked_s, episode.last_refused_s, "right")]
            told_until = seen.seen_s[inside] + said[inside]
            understated += int(np.count_nonzero(told_until < episode.last_refused_s - seen.slack_s))
            if episode.back_s is not None:
                compared += zip(said[inside].tolist(), (episode.back_s - seen.seen_s[inside]).tolist(), strict=True)
    over = [told - true for told, true in compared if told > true + _WHOLE_SECOND_S]
    return RetryAfter(
        refusals=refusals,
        said=len(stated),
        compared=len(compared),
        said_median_s=float(np.median(stated)) if stated else None,
        true_at_most_median_s=float(np.median([true for _, true in compared])) if compared else None,
        overstated=len(over),
        overstated_by_most_s=max(over) if over else None,
        understated=understated,
    )


def _distinct(values: np.ndarray) -> list[int]:
    return sorted({int(value) for value in pd.unique(values) if np.isfinite(value)})


def rate_limits_of(frames: RunFrames) -> RateLimitReport:
    """The rate-limit report of a run that is already read."""
    requests, load, limits = frames.requests, frames.load, frames.limits
    stated, stated_tokens = _distinct(requests.array("limit_requests")), _distinct(requests.array("limit_tokens"))
    limit, limit_from = allowed(limits, "requests", stated)
    token_limit, tokens_from = allowed(limits, "tokens", stated_tokens)
    told_s, assumed_s = window_lengths(limits)
    counted = models_count(requests, limit)
    keys, refusals = [], []
    for alias, group in sorted(requests.parts("key_alias"), key=lambda part: (part[0] is None, part[0] or "")):
        mine = group if counted else group.of(~group.codes("kind").equal(*MODEL_LISTS))
        seen = decisions_of(mine)
        episodes = episodes_of(seen)
        fit = fit_windows(
            seen,
            episodes,
            window_s=told_s,
            assumed_s=assumed_s,
            limit=limit,
            token_limit=token_limit,
            end_s=frames.end_s,
        )
        keys.append(KeyLimits(alias, counted, fit, episodes))
        # Of the others nothing was said to wait for.
        refused = np.flatnonzero(seen.refused)
        refusals.append((seen.of(refused), mine.array("retry_after_ns")[refused] / 1e9, episodes))
    odd = requests.of(~requests.codes("limit_anomaly").equal(None))
    anomalies = odd["limit_anomaly"].value_counts()
    outcome = load.codes("outcome")
    remaining, reduced = _remaining(frames)
    lengths = {(key.fit.window_s, key.fit.source) for key in keys}
    window_s, window_from = lengths.pop() if len(lengths) == 1 else (told_s, "told" if told_s else "unknown")
    if window_from == "measured" and any(key.fit.fits is False for key in keys):
        # When a budget came back is the length of a fixed window only where there are such windows: not of a bucket.
        window_s, window_from = None, "unknown"
    return RateLimitReport(
        origin_unix_ns=frames.origin_unix_ns,
        limit_requests=limit,
        limit_tokens=token_limit,
        window_s=window_s,
        sources={"requests": limit_from, "tokens": tokens_from, "window": window_from},
        stated_requests=stated,
        stated_tokens=stated_tokens,
        totals={"sent": len(load)} | {name: int(np.count_nonzero(outcome.equal(name))) for name in OUTCOMES},
        seconds=_seconds(frames),
        minutes=_minutes(frames),
        remaining=remaining,
        headers=_headers(frames),
        keys=keys,
        retry_after=_retry_after(refusals),
        anomalies={str(text): int(count) for text, count in anomalies.items()},
        remaining_is_reduced=reduced,
        findings=frames.findings,
    )


def rate_limit_report(run: Run | Path | str) -> RateLimitReport:
    """Read a run, or the folder of one, and report how it met the rate limits.

    Raises RunFolderError where it is no run. An empty or killed run gives a report with fewer rows.
    """
    return reported(run, rate_limits_of)
