"""How far the figures of a run can be trusted: what the client knows of its own lag, and what was lost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tensorix_reports.frames import RunFrames, clock_steps, whole

__all__ = ["Trust", "trust_of"]

_LAG_NS = 5e6
_LAG_SHARE = 0.05
_MERGED_SHARE = 0.05
_LOOP_LAG_NS = 100e6
_CPU_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Trust:
    """The client's own health. Lags are nanoseconds; None where the run holds nothing to tell."""

    stamps: dict[str, int]
    """Requests by the source of their receive stamps: `kernel`, `user`, `none`."""
    lag_count: int
    lag_p50_ns: float | None
    """How much later than the kernel the program saw first tokens."""
    lag_p99_ns: float | None
    lag_max_ns: float | None
    """The largest lag of any chunk, not only of first tokens."""
    first_tokens: int
    merged_first_reads: int | None
    """First tokens that came with later chunks in one read: their lag is understated. None where no read is told of."""
    loop_lag_max_ns: float | None
    cpu_share_max: float | None
    rss_max_bytes: int | None
    ended: bool
    unfinished: int
    """Requests that had started by then of which there is no record: of those in flight, the ones that surely did not
    end before the run was killed."""
    in_flight_last: int | None
    """Requests in flight when the client last said how many: within a second of the end, for a run that was killed."""
    heard_until_s: float | None
    """When that was."""
    saturated: list[dict[str, str]]
    """What the client said of itself while it ran: the `words` and the `advice` of each cause, once."""
    reasons: list[str]
    """Why the figures are to be taken with care; empty where nothing was seen."""
    level: str
    """`good`, `care` or `unknown`."""

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


def _largest(events: list[dict[str, Any]], name: str) -> float | None:
    values = [event[name] for event in events if isinstance(event.get(name), (int, float))]
    return float(max(values)) if values else None


def _known(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[~np.isnan(values)])


def _unfinished(frames: RunFrames, seconds: list[dict[str, Any]]) -> tuple[int, int | None, float | None]:
    """Started without a record, in flight when last heard of, and when that was; over all processes."""
    last: dict[str, dict[str, Any]] = {}
    for event in seconds:
        last[str(event.get("process_id", ""))] = event
    if not last:
        return 0, None, None
    in_flight = [whole(event.get("in_flight")) for event in last.values()]
    known = [number for number in in_flight if number is not None]
    heard = max(float(event["at_s"]) for event in last.values())
    total = sum(known) if known else None
    # A client that ended in order counted what finished; one that was killed has only its records to show for it.
    final = {str(event.get("process_id", "")): event for event in frames.of("run_ended")}
    counts = [(whole(event.get("started")), whole(event.get("finished"))) for event in final.values()]
    if set(final) >= set(last) and all(None not in pair for pair in counts):
        return max(0, sum((begun or 0) - (finished or 0) for begun, finished in counts)), total, heard
    started = [whole(event.get("started")) for event in last.values()]
    if None in started:
        return (total or 0), total, heard
    # Records are written when a request ends, so a record of one that had begun by then takes it off the count. It
    # begins when its user is ready, which is before its connection is open.
    requests = frames.load
    begun_s = requests.array("at_s") + np.fmin(requests.array("user_ready_at_ns"), 0) / 1e9
    recorded = int(np.count_nonzero(begun_s <= heard))
    return max(0, sum(number for number in started if number is not None) - recorded), total, heard


def trust_of(frames: RunFrames) -> Trust:
    """Judge the client by what it recorded about itself."""
    requests = frames.requests
    answered = np.isfinite(requests.array("headers_at_ns")) | np.isfinite(requests.array("first_chunk_at_ns"))
    sources = [(name or "none", len(part)) for name, part in requests.of(answered).parts("stamp_source")]
    stamps = dict(sorted(sources, key=lambda one: -one[1]))
    lag, lag_max = _known(requests.array("lag_first_token_ns")), _known(requests.array("lag_max_ns"))
    first = requests.array("first_token_at_ns")
    firsts = np.isfinite(first)
    reads = _known(requests.array("chunks_in_first_read")[firsts])
    seconds = frames.of("second")
    unfinished, in_flight, heard = _unfinished(frames, seconds)
    # Of a run of several processes the workers send, and the master only writes.
    sending = frames.of("worker_second") or seconds
    rss = _largest(sending, "rss_bytes")
    ttft = _known(first[requests.codes("outcome").equal("success")])
    trust = Trust(
        stamps=stamps,
        lag_count=len(lag),
        lag_p50_ns=float(np.median(lag)) if len(lag) else None,
        lag_p99_ns=float(np.quantile(lag, 0.99)) if len(lag) else None,
        lag_max_ns=float(max(lag_max.max(initial=0.0), lag.max(initial=0.0))) if len(lag) + len(lag_max) else None,
        first_tokens=int(firsts.sum()),
        merged_first_reads=int((reads > 1).sum()) if len(reads) else None,
        loop_lag_max_ns=_largest(sending, "loop_lag_max_ns"),
        cpu_share_max=_largest(sending, "cpu_share"),
        rss_max_bytes=None if rss is None else int(rss),
        ended=frames.ended,
        unfinished=unfinished,
        in_flight_last=in_flight,
        heard_until_s=heard,
        saturated=_saturated(frames),
        reasons=[],
        level="unknown",
    )
    reasons = _reasons(trust, float(np.median(ttft)) if len(ttft) else None)
    reasons += [] if frames.is_traced else clock_steps(frames.events, frames.origin_unix_ns)[:5]
    known = bool(stamps) and (len(lag) > 0 or trust.loop_lag_max_ns is not None)
    level = "care" if reasons else "good" if known else "unknown"
    return replace(trust, reasons=reasons, level=level)


def _saturated(frames: RunFrames) -> list[dict[str, str]]:
    """Each cause once: several processes may have met the same."""
    causes = {
        str(event.get("what")): {name: str(event[name]) for name in ("words", "advice")}
        for event in frames.of("saturated")
        if isinstance(event.get("words"), str) and isinstance(event.get("advice"), str)
    }
    return list(causes.values())


def _reasons(trust: Trust, ttft_ns: float | None) -> list[str]:
    reasons = [cause["words"] for cause in trust.saturated]
    by_program = trust.stamps.get("user", 0)
    if by_program:
        share = by_program / sum(trust.stamps.values())
        reasons.append(f"{share:.0%} of the receive stamps are the program's own, so its lag is in the figures")
    if trust.lag_p99_ns is not None and trust.lag_p99_ns > max(_LAG_NS, _LAG_SHARE * (ttft_ns or 0.0)):
        text = f"the client saw 1 % of first tokens {trust.lag_p99_ns / 1e6:.1f} ms late or later"
        reasons.append(text + ("" if by_program else " (the kernel's stamps keep that out of the figures)"))
    if trust.merged_first_reads is not None and trust.merged_first_reads > _MERGED_SHARE * trust.first_tokens:
        share = trust.merged_first_reads / trust.first_tokens
        reasons.append(f"{share:.0%} of first tokens came in one read with later chunks: their TTFT may be too long")
    if trust.loop_lag_max_ns is not None and trust.loop_lag_max_ns > _LOOP_LAG_NS:
        still_ms = trust.loop_lag_max_ns / 1e6
        reasons.append(f"the client's event loop stood still for {still_ms:.0f} ms: it sent late then")
    if trust.cpu_share_max is not None and trust.cpu_share_max > _CPU_SHARE:
        reasons.append(f"the client used {trust.cpu_share_max:.0%} of a core at its busiest: it may be the bottleneck")
    return reasons
