"""Where what a process saw goes: into the run folder, or to another process that writes it."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from tensorix_api.errors import RunFolderError, TensorixError
from tensorix_loadtests._clock import SO_TIMESTAMPNS
from tensorix_loadtests._session import Session
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.prompts import source_of
from tensorix_records import RequestRecord, Run

__all__ = ["FolderSink", "Sink"]

logger = logging.getLogger("tensorix_loadtests")

_PACKAGES = ("tensorix-toolkit", "locust", "gevent", "httptools", "pyarrow")


class Sink(Protocol):
    """Takes records and events, and keeps them from the next `flush` on. All but `add_gaps` raise RunFolderError."""

    @property
    def path(self) -> Path | None: ...

    def add(self, record: RequestRecord) -> None: ...

    def add_gaps(self, model: str | None, chunk_unix_ns: Sequence[int], /) -> None: ...

    def event(self, kind: str, **fields: Any) -> None: ...

    def flush(self) -> None: ...

    def close(self, end_reason: str) -> None:
        """No more will come: the run, or this process's part of it, ended for this reason."""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class FolderSink:
    """A run folder that this process makes, writes and closes."""

    def __init__(self, run: Run, process_id: str) -> None:
        self.run = run
        self._writer = run.writer(process_id)
        self.add = self._writer.add
        self.add_gaps = self._writer.add_gaps
        self.event = self._writer.event
        self.flush = self._writer.flush

    @classmethod
    def create(
        cls,
        out: Path,
        plan: LoadPlan,
        session: Session,
        model: str,
        *,
        user_classes: Mapping[str, Mapping[str, float]] | None = None,
    ) -> FolderSink:
        """Make the folder, with a manifest that says what was asked for. Raises RunFolderError."""
        asked = plan.public_dict() | {"model": model}
        if user_classes is not None:
            del asked["mix"]
            asked["user_classes"] = user_classes
        run = Run.create(
            out,
            {
                "run_id": session.run_id,
                "kind": "load",
                "asked": asked,
                "key_alias": session.key_alias,
                "limits": {
                    "requests": plan.limits.requests,
                    "tokens": plan.limits.tokens,
                    "window_s": plan.limits.window_s,
                    "told": list(plan.limits.told),
                },
                "label": plan.label,
                "prompts": source_of(plan),
                "versions": _versions(),
                "machine": {
                    "host": session.host,
                    "platform": platform.platform(),
                    "cpus": os.cpu_count(),
                    "process": os.getpid(),
                },
                "clocks": {
                    "stamps": "monotonic",
                    "receive_stamps": "kernel" if SO_TIMESTAMPNS is not None else "user",
                    "offset_uncertainty_ns": session.clock.uncertainty_ns,
                },
                "started_unix_ns": time.time_ns(),
                "ended_unix_ns": None,
                "end_reason": None,
            },
        )
        return cls(run, session.process_id)

    @classmethod
    def resume(cls, run: Run, session: Session) -> FolderSink:
        """Go on in a folder that is there; its manifest says so. Raises RunFolderError."""
        self = cls(run, session.process_id)
        manifest = run.manifest
        resumed = {
            "at_unix_ns": time.time_ns(),
            "process": os.getpid(),
            "ended_unix_ns": manifest.get("ended_unix_ns"),
            "end_reason": manifest.get("end_reason"),
        }
        before = manifest.get("resumed")
        run.update_manifest(
            resumed=[*(before if isinstance(before, list) else []), resumed], ended_unix_ns=None, end_reason=None
        )
        return self

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.run.path

    def close(self, end_reason: str) -> None:
        """Write what is left, say in the manifest how it ended, and compact the folder."""
        trouble: RunFolderError | None = None
        try:
            self._writer.close()
        except RunFolderError as error:
            trouble = error
        try:
            # Of all processes that wrote here.
            saturated = [event for event in self.run.events() if event.get("kind") == "saturated"]
            self.run.update_manifest(ended_unix_ns=time.time_ns(), end_reason=end_reason, saturated=saturated)
            self.run.compact()
        except TensorixError as error:
            # What is there can be reported all the same; it only stays in its streams.
            logger.warning("%s", error)
            trouble = trouble or RunFolderError(str(error))
        if trouble:
            raise trouble
