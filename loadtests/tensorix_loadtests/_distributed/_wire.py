"""The messages between master and workers: their names, and what both sides must agree on."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

__all__ = [
    "ACK",
    "BEGIN",
    "CANCEL",
    "CLOCK",
    "DONE",
    "GO",
    "GONE_S",
    "HELLO",
    "PARCEL",
    "PARCEL_BYTES",
    "PLAN",
    "PREPARED",
    "READY",
    "REFUSED",
    "SENT_SHARE",
    "STOP",
    "STOPPING",
    "disagreement",
    "self_description",
]

HELLO: Final = "tensorix_hello"
CLOCK: Final = "tensorix_clock"
PLAN: Final = "tensorix_plan"
PREPARED: Final = "tensorix_prepared"
REFUSED: Final = "tensorix_refused"
BEGIN: Final = "tensorix_begin"
READY: Final = "tensorix_ready"
GO: Final = "tensorix_go"
PARCEL: Final = "tensorix_parcel"
ACK: Final = "tensorix_ack"
STOPPING: Final = "tensorix_stopping"
STOP: Final = "tensorix_stop"
CANCEL: Final = "tensorix_cancel"
DONE: Final = "tensorix_done"

PARCEL_BYTES: Final = 48 << 10
"""The most bytes of records in one message: a larger one keeps the worker's event loop from its streams."""
GONE_S: Final = 10.0
"""Who was not heard of for so long is taken for gone; it may come back while the run goes on."""
SENT_SHARE: Final = frozenset({"requests", "schedule", "budget"})
"""Why a worker stops that has done its part: the others go on with theirs."""

_AGREED = ("tensorix-toolkit", "locust")


def self_description() -> dict[str, Any]:
    """Who this process is: versions, host, process, and which boot of which kernel it runs on."""
    versions = {"python": platform.python_version()}
    for package in _AGREED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return {"versions": versions, "host": socket.gethostname(), "process": os.getpid(), "boot": boot}


def disagreement(mine: Mapping[str, Any], theirs: Any) -> str | None:
    """What keeps the two from one run, in words; None where nothing does. Of Locust the first two numbers must agree.

    Records are Arrow batches without their columns, so both sides need the same version of this package.
    """
    if not isinstance(theirs, Mapping):
        return "it does not say its versions"
    for package in _AGREED:
        here, there = str(mine.get(package)), str(theirs.get(package))
        same = here == there if package != "locust" else here.split(".")[:2] == there.split(".")[:2]
        if not same:
            return f"it has {package} {there}, the master {here}: install the same version on both"
    return None
