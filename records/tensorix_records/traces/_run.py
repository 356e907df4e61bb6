"""Files of spans into a run folder."""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_api.settings import Settings
from tensorix_records._record import RequestRecord
from tensorix_records._run import Run
from tensorix_records.traces._documents import documents
from tensorix_records.traces._join import Join
from tensorix_records.traces._seen import Seen
from tensorix_records.traces._span import is_otlp, spans_of

__all__ = ["TraceRun", "write_trace_run"]

_DOCUMENTED = {"requests": 60, "tokens": 2_000_000}


@dataclass(frozen=True, slots=True)
class TraceRun:
    """A run made of spans, and what was found in the files."""

    run: Run
    seen: Seen


def write_trace_run(
    files: Sequence[Path],
    out: Path,
    *,
    limits: Mapping[str, float | None] | None = None,
    complete: bool = False,
    label: str | None = None,
) -> TraceRun:
    """Read files of spans and make the run folder `out` of them.

    `limits` are those of the key as far as they are told: `requests`, `tokens`, `window_s`; `complete` says that every
    request of the key is there, so that the reports judge the limiter's windows. Raises SettingsError for a
    file that cannot be read or is no OTLP JSON, and where no span is of a call to a chat API; RunFolderError as
    `Run.create` and where it cannot be written. Whatever is raised, no folder is left.
    """
    Run.check_creatable(out)
    for path in files:
        # Before anything is made; what is no regular file can be read only once.
        if path.is_file() and not any(is_otlp(value) for value in documents(path, Seen())):
            raise _no_otlp(path)
    seen, run_id = Seen(), str(uuid.uuid4())
    records = _records(files, run_id, seen)
    first = next(records, None)
    if first is None:
        names = ", ".join(path.name for path in files)
        raise SettingsError(f"no span of a call to a chat API in {names}: {seen.spans:,} spans are of other work")
    run = Run.create(
        out,
        {
            "run_id": run_id,
            "kind": "traces",
            "label": label,
            "complete": complete,
            "files": [path.name for path in files],
            "read_unix_ns": time.time_ns(),
        },
    )
    writer = run.writer("spans")
    try:
        writer.add(first)
        for record in records:
            writer.add(record)
        writer.close()
        run.compact()
        run.update_manifest(
            limits=_limits(limits or {}, seen),
            spans=seen.to_dict(),
            started_unix_ns=seen.first_unix_ns,
            ended_unix_ns=seen.last_unix_ns,
            end_reason="spans",
        )
    except BaseException:
        # A part of the spans would look like all of them.
        with contextlib.suppress(RunFolderError):
            writer.close()
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return TraceRun(run, seen)


def _records(files: Sequence[Path], run_id: str, seen: Seen) -> Iterator[RequestRecord]:
    join = Join(run_id, seen)
    for path in files:
        found = False
        for value in documents(path, seen):
            if not is_otlp(value):
                seen.lines_skipped += 1
                continue
            found = True
            for span in spans_of(value):
                yield from join.add(span)
        if not found:
            raise _no_otlp(path)
    yield from join.rest()


def _no_otlp(path: Path) -> SettingsError:
    return SettingsError(f"{str(path)!r} holds no OTLP JSON: give files as a collector's file exporter writes them")


def _limits(told: Mapping[str, float | None], seen: Seen) -> dict[str, Any]:
    """What is known of the key: what was told, else what is documented where only that server was called."""
    known = {name: value for name, value in told.items() if value is not None}
    documented = set(seen.servers) == {Settings().host}
    return {"window_s": 60.0} | (dict(_DOCUMENTED) if documented else {}) | known | {"told": list(known)}
