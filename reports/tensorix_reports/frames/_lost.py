"""What a run's own events and manifest tell to be missing from it, or wrong with its clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["clock_steps", "missing_files"]

_STEP_S = 1.0
_FORWARD_S = 5.0


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def missing_files(
    sources: Mapping[str, int], manifest: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The files of records that are gone, of processes that had ended requests by their own or the master's word."""
    ended: dict[str, int] = {}
    workers = manifest.get("workers")
    told = [*events, *(workers if isinstance(workers, list) else [])]
    for one in told:
        process = one.get("process_id") if isinstance(one, Mapping) else None
        if isinstance(process, str) and _count(one.get("finished")) > 0:
            ended[process] = max(ended.get(process, 0), _count(one["finished"]))
    return [
        f"records-{process}.arrows is missing: nothing of process {process} is counted, which had ended {count:,} "
        f"request{'' if count == 1 else 's'}"
        for process, count in sorted(ended.items())
        if f"records-{process}.arrows" not in sources
    ]


def clock_steps(events: Sequence[Mapping[str, Any]], origin_unix_ns: int) -> list[str]:
    """Where the real-time clock of a process was set during the run, by the events that it wrote one after another.

    Back by more than a second; or forward by more than five between two of its reports each second, though its event
    loop did not stand still.
    """
    last: dict[str, int] = {}
    found = []
    for event in events:
        process, now = event.get("process_id"), event.get("t_unix_ns")
        # What others told of it, the master writes later.
        if not isinstance(process, str) or not isinstance(now, int) or event.get("kind") != "second":
            continue
        before = last.get(process, now)
        last[process] = now
        step_s = (now - before) / 1e9
        lag_s = _count(event.get("loop_lag_max_ns")) / 1e9
        forward = step_s > _FORWARD_S and "loop_lag_max_ns" in event and lag_s < step_s / 2
        if step_s < -_STEP_S or forward:
            way = "forward" if forward else "back"
            # A report a second: what is more, or less, is the step.
            size = abs(step_s - 1.0)
            found.append(
                f"the clock of process {process} was set {way} by about {size:,.0f} s "
                f"at {(before - origin_unix_ns) / 1e9:,.1f} s"
                + (", or it was suspended" if forward else "")
                + ": instants and rates after that are off, lengths of time are not"
            )
    return found
