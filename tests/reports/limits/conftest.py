"""Made-up traffic of one key through a real limiter, and a made-up fit that says what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tensorix_api.limiters import Cost, Limiter
from tensorix_records import RequestRecord
from tensorix_reports.limiter import Evidence, Fitted, Interval, Kind, LimiterFit
from tensorix_reports.limits import _report

_TRIP_S = 0.02


def _exactly(value: float) -> Interval:
    return Interval(value, value, value)


@pytest.fixture(scope="session")
def fitted() -> Callable[..., Fitted]:
    """A kind whose parameters are known exactly."""

    def make(kind: Kind = "fixed_window", limit: float = 10, window_s: float = 5.0, **more: Any) -> Fitted:
        given: dict[str, Any] = {"phase_s": None, "burst": None, "counts_refused": False, **more}
        for name in ("phase_s", "burst"):
            if given[name] is not None:
                given[name] = _exactly(given[name])
        return Fitted(kind, 0.99, 1.0, _exactly(limit), _exactly(window_s), **given)

    return make


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the fit say this, whatever the evidence: what follows from a fit is tested apart from the fit."""

    def let(*ranked: Fitted, **more: Any) -> None:
        def fit(evidence: Evidence, *, window_s: float | None = None) -> LimiterFit:
            refused = int(evidence.refused.sum())
            given: dict[str, Any] = {
                "verdict": "named" if refused else "no limit reached",
                "ranked": list(ranked) if refused else [],
                "set_of_95": [one.kind for one in ranked],
                "would_tell": None,
                "foreign_per_s": None,
                "second_limit": None,
                "changed_at_s": None,
                "requests": len(evidence),
                "refused": refused,
                "why": [],
            }
            return LimiterFit(**(given | more))

        monkeypatch.setattr(_report, "fit", fit)

    return let


@pytest.fixture(scope="session")
def through(request_at: Callable[..., RequestRecord]) -> Callable[..., list[RequestRecord]]:
    """Requests at these times, seconds since the run's start, decided by a limiter 10 ms after they are sent.

    `says` gives columns of a response from its place, what remains, and how long one would have to wait.
    """

    def send(
        limiter: Limiter,
        times: Iterable[float],
        says: Callable[[int, int, float], dict[str, Any]] = lambda place, left, wait_s: {"remaining_requests": left},
        **same: Any,
    ) -> list[RequestRecord]:
        records = []
        for place, at_s in enumerate(times):
            origin_ns = request_at(0, 0.0).start_unix_ns
            now_ns = origin_ns + round((at_s + _TRIP_S / 2) * 1e9)
            decision = limiter.admit(now_ns, Cost(1, 0))
            until_ns = limiter.earliest(now_ns, Cost(1, 0))
            wait_s = 0.0 if until_ns is None else (until_ns - now_ns) / 1e9
            columns = {"stream": False, "status": 200 if decision.admitted else 429, **same}
            columns |= says(place, decision.remaining["requests"], wait_s)
            columns |= {"headers_at_ns": round(_TRIP_S * 1e9), "end_at_ns": round(_TRIP_S * 1e9)}
            records.append(request_at(place, at_s, **columns))
        return records

    return send
