"""What a run of several processes says of its workers: in the manifest, and in words where something was lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from tensorix_loadtests._distributed._member import Member, Part
from tensorix_loadtests._share import part_of
from tensorix_loadtests.plan import LoadPlan

__all__ = ["losses", "manifest_of"]


def manifest_of(member: Member, part: Part, boot: str) -> dict[str, Any]:
    """The entry of one worker. `ended`: `done`, or `lost`, or null while it goes on."""
    offset = member.clock.best(time.time_ns())
    same = bool(boot) and member.about.get("boot") == boot
    return {
        "process_id": part.process_id,
        "share": list(part.share),
        "host": member.about.get("host"),
        "process": member.about.get("process"),
        "versions": member.about.get("versions"),
        "key_alias": member.about.get("key_alias"),
        "clock": {
            "same_machine": same,
            "offset_ns": None if offset is None else offset.offset_ns,
            "uncertainty_ns": None if offset is None else offset.uncertainty_ns,
            "exchanges": member.clock.exchanges,
            "corrected": not same and offset is not None and offset.is_told_apart,
        },
        "records": part.records,
        "started": part.started,
        "finished": part.finished,
        "end_reason": part.stopping or (part.done or {}).get("reason"),
        "silent_s": None if part.said_ns is None else round((time.monotonic_ns() - part.said_ns) / 1e9, 1),
        "missing": part.done is None,
    }


def losses(parts: Sequence[tuple[Member, Part]], plan: LoadPlan, end_reason: str | None) -> list[str]:
    """What is not there of each worker's part, in words; empty where all brought all of it."""
    found = []
    for member, part in parts:
        if part.done is None:
            in_flight = max(0, part.started - part.finished)
            behind = max(0, part.finished - part.records)
            text = f"{member.name} was lost: {part.records:,} of its records were received, {in_flight:,} of its "
            text += "requests were in flight when it was last heard of"
            text += f", {behind:,} more had ended by then" if behind else ""
            found.append(text + "; up to a second of what it did after that is not known" + _unsent(part, plan))
            continue
        missing = int(part.done["records"]) - part.records
        if missing > 0:
            found.append(f"{member.name} made {missing:,} records for which it found no room: the master was too slow")
        elif part.stopping in ("interrupted", "master_gone") and part.stopping != end_reason:
            why = "was interrupted" if part.stopping == "interrupted" else "heard nothing of the master"
            found.append(f"{member.name} {why} and ended its part early{_unsent(part, plan)}")
    return found


def _unsent(part: Part, plan: LoadPlan) -> str:
    """What its share still was, of a run with a number of requests."""
    if plan.requests is None:
        return "; its share of what was to come was not sent"
    left = part_of(plan.requests, part.share) - part.started
    return (
        f"; {left:,} of its share of {part_of(plan.requests, part.share):,} requests were not sent" if left > 0 else ""
    )
