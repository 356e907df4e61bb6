"""What a worker brings is written into the run folder: its numbers, records, gaps and events."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from tensorix_loadtests._distributed._member import Part
from tensorix_loadtests._load_run import LoadRun
from tensorix_records.parcels import records_in, shifted, unpack_gaps, unpack_records

__all__ = ["write_parcel"]


def write_parcel(part: Part, run: LoadRun, data: Mapping[str, Any], late: int) -> None:
    """Write what a worker brought, its Unix times moved by `late` ns. Raises RunFolderError where that fails."""
    part.started, part.finished, part.users = int(data["started"]), int(data["finished"]), int(data["users"])
    part.left = {str(kind): float(amount) for kind, amount in data["left"].items()}
    part.said_ns = time.monotonic_ns()
    if data["records"]:
        batch = shifted(unpack_records(data["records"]), late)
        part.writer.append(records=batch)
        part.records += batch.num_rows
        if run.listeners:
            for record in records_in(batch):
                for listener in run.listeners:
                    listener.on_record(record)
    if data["gaps"]:
        part.writer.append(gaps=shifted(unpack_gaps(data["gaps"]), late))
    for text in data["events"]:
        event = json.loads(text)
        event["t_unix_ns"] = int(event["t_unix_ns"]) + late
        if event["kind"] == "worker_second":
            run.workers[part.process_id] = event
        part.writer.event(event.pop("kind"), **event)
