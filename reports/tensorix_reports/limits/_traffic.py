"""A plan of requests, and what share of it a fitted limiter would refuse."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import AllOf, Cost, Limiter
from tensorix_reports.limiter import Fitted, Kind
from tensorix_reports.limits._prediction import limiter_of

__all__ = ["Planned", "Refused", "read_traffic", "refused_of"]

_TIMES = ("time", "times", "timestamp", "arrived_at", "start", "at", "t", "seconds")
_TOKENS = ("tokens", "total_tokens", "n_tokens")
_MOST_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of a plan."""

    at_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What a plan would meet, sent as it stands: what is refused is not sent again."""

    requests: int
    kind: Kind
    """By the limiter of this kind."""
    refused: int
    for_tokens: int
    """Of those, for the limit on tokens."""
    longest_s: float
    """From the first of several refusals on end to the last."""

    @property
    def share(self) -> float:
        """Of all."""
        return self.refused / self.requests if self.requests else 0.0


def read_traffic(path: Path) -> list[Planned]:
    """The requests of a CSV file, in the order of time: a column of times (seconds, or ISO 8601) and one of tokens.

    The columns are found by their names (`time`, `tokens`; without a line of names the first two), tokens may be
    missing. Raises SettingsError, with the line, for what cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))]
    except OSError as error:
        raise SettingsError(f"the plan {str(path)!r} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, ValueError):
        raise SettingsError(f"the plan {str(path)!r} is no UTF-8 text") from None
    except csv.Error as error:
        raise SettingsError(f"the plan {str(path)!r} is no CSV: {error}") from None
    if len(rows) > _MOST_ROWS:
        raise SettingsError(f"the plan {str(path)!r} has more than {_MOST_ROWS:,} lines: give a part of it")
    time_at, tokens_at = 0, 1
    if rows and _moment(rows[0][1][0]) is None:
        names = [name.strip().lower() for name in rows.pop(0)[1]]
        found = next((names.index(name) for name in _TIMES if name in names), None)
        if found is None:
            raise SettingsError(f"the plan {str(path)!r} has no column of times: name one `time`, the other `tokens`")
        time_at, tokens_at = found, next((names.index(name) for name in _TOKENS if name in names), -1)
    if not rows:
        raise SettingsError(f"the plan {str(path)!r} holds no request: give lines like 0.5,1200 (seconds, tokens)")
    plan = [_planned(path, number, row, time_at, tokens_at) for number, row in rows]
    return sorted(plan, key=lambda one: one.at_s)


def _planned(path: Path, number: int, row: Sequence[str], time_at: int, tokens_at: int) -> Planned:
    at_s = _moment(row[time_at]) if time_at < len(row) else None
    if at_s is None:
        raise SettingsError(f"the plan {str(path)!r}, line {number}: no time in seconds or ISO 8601")
    text = row[tokens_at].strip() if 0 <= tokens_at < len(row) else ""
    try:
        tokens = float(text or 0)
    except ValueError:
        tokens = -1.0
    if not 0 <= tokens < 1e15:
        raise SettingsError(f"the plan {str(path)!r}, line {number}: {text!r} is no number of tokens")
    return Planned(at_s, round(tokens))


def _moment(text: str) -> float | None:
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return value if math.isfinite(value) and abs(value) < 1e12 else None


def refused_of(
    plan: Sequence[Planned],
    fitted: Fitted,
    *,
    second: tuple[int, float] | None = None,
    token_limit: int | None = None,
) -> Refused:
    """Run the limiter over the plan, the key idle before. Tokens are charged as planned, when a request is sent."""
    parts: list[Limiter] = [limiter_of(fitted, second=second)]
    if token_limit is not None:
        parts.append(limiter_of(fitted, resource="tokens", limit=token_limit))
    limiter = AllOf(parts)
    refused = for_tokens = 0
    began_s: float | None = None
    longest_s = 0.0
    for one in plan:
        now_ns = round(one.at_s * 1e9)
        cost = Cost(1, one.tokens)
        decision = limiter.admit(now_ns, cost)
        if decision.admitted:
            began_s = None
            continue
        refused += 1
        for_tokens += decision.binding == "tokens"
        began_s = one.at_s if began_s is None else began_s
        longest_s = max(longest_s, one.at_s - began_s)
        if fitted.counts_refused:
            limiter.charge(now_ns, Cost(1, 0))
    return Refused(len(plan), fitted.kind, refused, for_tokens, longest_s)
