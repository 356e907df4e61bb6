"""The limits of a run's keys: the fit of each, the audit of what its responses said, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tensorix_records import Run
from tensorix_reports.frames import RunFrames, mapping, reported, whole
from tensorix_reports.limiter import Evidence, Fitted, LimiterFit, fit, round_trip_s
from tensorix_reports.limiting import RateLimitReport, rate_limits_of
from tensorix_reports.limits._headers import HeaderAudit, Rises, headers_of, rises_of, token_rises_of
from tensorix_reports.limits._key_requests import KeyRequests, keys_of, server_offset_s
from tensorix_reports.limits._meaning import Meaning, meaning_of
from tensorix_reports.limits._prediction import Predicted, predicted
from tensorix_reports.limits._retry import RetryAudit, retry_of
from tensorix_reports.limits._side import SideFinding, bad_requests_count, side_findings
from tensorix_reports.limits._traffic import Planned, Refused, refused_of
from tensorix_reports.limits._unavailable import UNAVAILABLE, explained, may_be_refusals

__all__ = ["LIMITS_FORMAT", "KeyReport", "LimitsReport", "Wished", "limits_of", "limits_report"]

LIMITS_FORMAT = 1
"""The version of `limits.json`: it grows when a key changes its meaning or goes, not when one is added."""


_MOST_TRIPS = 4.0
"""A request is decided so many round trips after it was sent at most."""
_GRADUAL = ("sliding_log", "sliding_counter", "token_bucket")


@dataclass(frozen=True, slots=True)
class Wished:
    """What the user wants to know besides."""

    window_s: float | None = None
    """As documented; None: as the run was told."""
    want_per_s: float | None = None
    token_limit: int | None = None
    mean_tokens: float | None = None
    plan: Sequence[Planned] = ()


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What is known of one key's limiter."""

    key: KeyRequests
    fit: LimiterFit
    headers: list[HeaderAudit]
    rises: list[Rises]
    retry: RetryAudit
    meaning: Meaning | None
    plan: list[Refused]
    """By each kind that it may be."""
    run: Predicted | None
    """The likeliest limiter over the requests."""
    refused_for_tokens: int

    @property
    def best(self) -> Fitted | None:
        """The likeliest, where a limit was reached at all."""
        return self.fit.ranked[0] if self.fit.ranked else None

    @property
    def found(self) -> bool:
        """Whether there is an answer."""
        return self.fit.verdict == "named"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        evidence = self.key.evidence
        return {
            "key_alias": self.key.key_alias,
            "refused_with": self.key.refused_with,
            "fit": asdict(self.fit),
            "evidence": {
                "requests": len(evidence),
                "refused": int(evidence.refused.sum()),
                "left_out": self.key.left_out,
                "refused_for_tokens": self.refused_for_tokens,
                "with_remaining": int(np.isfinite(evidence.remaining).sum()),
            },
            "headers": [asdict(one) for one in self.headers],
            "rises": [asdict(one) for one in self.rises],
            "retry_after": asdict(self.retry),
            "meaning": None if self.meaning is None else asdict(self.meaning),
            "plan": [asdict(one) | {"share": one.share} for one in self.plan],
        }


@dataclass(frozen=True, slots=True)
class LimitsReport:
    """What is known of the limiters of a run's keys."""

    frames: RunFrames
    limits: RateLimitReport
    keys: list[KeyReport]
    """The one that sent the most first; empty where no request tells of a limit."""
    beside: list[SideFinding]

    @property
    def main(self) -> KeyReport | None:
        """The key that it is about."""
        return self.keys[0] if self.keys else None

    @property
    def ended_early(self) -> str | None:
        """Why an experiment did not come to its end; None where it did, and of other runs."""
        why = self.frames.manifest.get("end_why")
        return why if isinstance(why, str) else None

    @property
    def spent(self) -> dict[str, Any]:
        """What an experiment used: requests, tokens, seconds."""
        return mapping(self.frames.manifest.get("spent"))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        manifest = self.frames.manifest
        clock = mapping(manifest.get("server_clock"))
        return {
            "format": LIMITS_FORMAT,
            "run": {
                "run_id": manifest.get("run_id") if isinstance(manifest.get("run_id"), str) else None,
                "kind": manifest.get("kind") if isinstance(manifest.get("kind"), str) else None,
                "origin_unix_ns": self.frames.origin_unix_ns,
                "started_unix_ns": whole(manifest.get("started_unix_ns")),
                "length_s": self.frames.end_s,
                "ended_early": self.ended_early,
                "spent": {name: self.spent.get(name) for name in ("requests", "tokens", "seconds")},
                "findings": self.frames.findings,
            },
            "server_clock": {name: clock.get(name) for name in ("offset_s", "uncertainty_s", "readings")},
            "stated_by_headers": {"requests": self.limits.stated_requests, "tokens": self.limits.stated_tokens},
            "keys": [key.to_dict() for key in self.keys],
            "beside": [asdict(one) for one in self.beside],
        }


def _runs(key: KeyRequests, found: LimiterFit, zero_unix_s: float) -> list[Predicted] | None:
    """The fitted limiter with decisions early, in the middle and late; in the middle, with the window's bounds too."""
    if not found.ranked:
        return None
    best = found.ranked[0]
    second = found.second_limit

    trip_s = round_trip_s(key.evidence)

    def run(placed: float, window_s: float, trips: float) -> Predicted:
        return predicted(
            replace(best, window_s=replace(best.window_s, value=window_s)),
            key.sent_s,
            key.seen_s,
            key.counted,
            key.refused,
            zero_unix_s,
            second=second,
            placed=placed,
            most_s=trips * trip_s,
        )

    window = best.window_s
    middle = [run(0.5, window_s, 1.5) for window_s in (window.low, window.value, window.high)]
    # Late too is a few round trips after the sending: a limiter that decided when a long answer was made would not
    # have let it be made.
    return [run(0.0, window.value, 1.5), *middle, run(1.0, window.value, _MOST_TRIPS)]


def _never_met(evidence: Evidence) -> str | None:
    """Where nothing was refused and nothing seen to come back: a header may tell the limit, and not what it is of."""
    said = np.flatnonzero(np.isfinite(evidence.remaining))
    if evidence.refused.any() or len(said) < 2:
        return None
    order = said[np.argsort(evidence.seen_s[said], kind="stable")]
    least = np.minimum.accumulate(evidence.remaining[order])
    before = np.searchsorted(evidence.seen_s[order], evidence.sent_s[order], "left") - 1
    later = before >= 0
    # Of one limit each request leaves less than was left before it was sent, unless something came back.
    if not later.any() or (evidence.remaining[order][later] >= least[before[later]]).any():
        return None
    return (
        f"by its headers {evidence.remaining[order[0]]:,.0f} requests were left at first and {least[-1]:,.0f} at the "
        "end: none came back meanwhile, and when they do would tell which limiter it is"
    )


def _of_key(key: KeyRequests, limits: RateLimitReport, wished: Wished, zero_unix_s: float) -> KeyReport:
    told = wished.window_s or (limits.window_s if limits.sources["window"] in ("told", "assumed") else None)
    found = fit(key.evidence, window_s=told)
    if unmet := _never_met(key.evidence):
        found = replace(found, verdict="no limit reached", ranked=[], set_of_95=[], would_tell=None, why=[unmet])
    runs = _runs(key, found, zero_unix_s)
    middle = None if runs is None else runs[2]
    best = found.ranked[0] if found.ranked else None
    token_limit = wished.token_limit or limits.limit_tokens
    meaning = None
    if best is not None:
        meaning = meaning_of(
            best,
            second=found.second_limit,
            token_limit=token_limit,
            mean_tokens=wished.mean_tokens,
            want_per_s=wished.want_per_s,
        )
    likely = [one for one in found.ranked if one.kind in found.set_of_95]
    plan = wished.plan
    return KeyReport(
        key=key,
        fit=found,
        headers=headers_of(key, runs, gradual=best is not None and best.kind in _GRADUAL),
        rises=[one for one in (rises_of(key, middle), token_rises_of(key, middle)) if one is not None],
        retry=retry_of(key, best, None if runs is None else runs[-1]),
        meaning=meaning,
        plan=[refused_of(plan, one, second=found.second_limit, token_limit=token_limit) for one in likely]
        if plan
        else [],
        run=middle,
        refused_for_tokens=int(key.refused_for_tokens.sum()),
    )


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0 < value < np.inf else None


def limits_of(frames: RunFrames, wished: Wished | None = None) -> LimitsReport:
    """The limits of a run that is already read."""
    wished = wished or Wished()
    experiment = frames.manifest.get("kind") == "experiment"
    if experiment and wished.window_s is None:
        # As it took it itself while it went on: the fit weighs it against what was seen.
        wished = replace(wished, window_s=_positive(mapping(frames.manifest.get("asked")).get("window_s")))
    limits = rate_limits_of(frames)
    zero_unix_s = frames.origin_unix_ns / 1e9 + server_offset_s(frames)
    bad_requests = bad_requests_count(frames)

    def of(refused_with: int) -> dict[str | None, KeyRequests]:
        found = keys_of(frames, limits.limit_requests, bad_requests=bad_requests, refused_with=refused_with)
        return {key.key_alias: key for key in found}

    plain = of(429)
    others = of(UNAVAILABLE) if any(may_be_refusals(key, experiment=experiment) for key in plain.values()) else {}
    keys = []
    for alias, key in plain.items():
        report = None
        if alias in others and may_be_refusals(key, experiment=experiment):
            report = _of_key(others[alias], limits, wished, zero_unix_s)
            if not explained(report.key, report.fit, report.run):
                report = None
        keys.append(report or _of_key(key, limits, wished, zero_unix_s))
    main = keys[0] if keys else None
    refused_with = 429 if main is None else main.key.refused_with
    found = side_findings(frames, None if main is None else main.fit, refused_with=refused_with)
    return LimitsReport(frames, limits, keys, found)


def limits_report(run: Run | Path | str, wished: Wished | None = None) -> LimitsReport:
    """Read a run, or the folder of one, of any source. Raises RunFolderError where it is no run."""
    return reported(run, lambda frames: limits_of(frames, wished))
