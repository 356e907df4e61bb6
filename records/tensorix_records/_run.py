"""A run: a folder with a manifest, the records and gap counts of each of its processes, and the events."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tensorix_api.errors import CannotWriteError, RunFolderError
from tensorix_records._compact import compact, read_rows, sync_folder
from tensorix_records._events import EVENTS_NAME, EventReader
from tensorix_records._follow import RunFollower
from tensorix_records._lock import locked
from tensorix_records._schema import SCHEMA
from tensorix_records._writer import RunWriter
from tensorix_records.gaps import GAP_SCHEMA

__all__ = ["FORMAT", "Run"]

FORMAT = 1
"""The version of the folder's layout. A column that is added does not change it: older files read it as null."""

_MANIFEST = "manifest.json"


def _manifest_bytes(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n"


def _free_place(folder: Path) -> Path:
    """The folder in which something is made for a run at `folder`: itself where it is there and empty, else its parent.

    Raises RunFolderError where something else is there, OSError where that cannot be told.
    """
    if (folder / _MANIFEST).exists():
        raise RunFolderError(f"{folder} is already a run: choose another folder, or remove it first")
    if folder.is_dir():
        if any(folder.iterdir()):
            raise RunFolderError(f"{folder} is not empty: choose another folder for the run")
        return folder
    if folder.exists() or folder.is_symlink():
        raise RunFolderError(f"{folder} is a file: choose another name for the run's folder")
    if "\0" in str(folder):
        # Python takes such a name for one that is only not there yet.
        raise ValueError("it holds a null character")
    if not folder.parent.is_dir():
        raise RunFolderError(f"{folder.parent} is no folder: make it first, or choose another place for the run")
    return folder.parent


class Run:
    """A run folder. `Run.create` makes one, `Run.open` takes one that is there; it may be growing meanwhile.

    It is read by any number of processes at any time. Each process that writes has one `writer`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @staticmethod
    def check_creatable(path: str | os.PathLike[str]) -> None:
        """Raise RunFolderError, with what to do instead, where no run can be made at `path`. Leaves nothing behind."""
        folder = Path(path)
        try:
            trial = _free_place(folder)
        except (OSError, ValueError) as error:
            # A name that is too long or holds a null, a folder above that may not be looked into.
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunFolderError(f"{str(folder)!r} cannot be a run's folder ({reason}): choose another") from error
        try:
            # Tried rather than asked for: permissions do not tell of read-only and full file systems.
            with tempfile.TemporaryFile(dir=trial):
                pass
        except OSError as error:
            raise RunFolderError(f"{trial} cannot be written to ({error.strerror}): choose another folder") from error

    @classmethod
    def create(cls, path: str | os.PathLike[str], manifest: dict[str, Any]) -> Run:
        """Make the folder and its manifest: `format`, `ended_unix_ns` and `end_reason` (null) and what is given.

        `manifest` holds at least `run_id`, and never a key. Raises RunFolderError as `check_creatable` does, and
        TypeError for what JSON does not know (a Secret).
        """
        cls.check_creatable(path)
        if not isinstance(manifest.get("run_id"), str):
            raise TypeError("the manifest of a run needs its `run_id`, a string")
        run = cls(Path(path).absolute())
        data = _manifest_bytes({"format": FORMAT, "ended_unix_ns": None, "end_reason": None} | manifest)
        try:
            run.path.mkdir(exist_ok=True)
            run._replace_manifest(data, new=True)
            sync_folder(run.path.parent)
        except FileExistsError:
            raise RunFolderError(f"{path} was made into a run by somebody else just now: choose another") from None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be made: {error.strerror}") from error
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Take a run that is there. Raises RunFolderError where there is none or a newer version made it."""
        run = cls(Path(path).absolute())
        _ = run.manifest
        return run

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it is now. Raises RunFolderError where it cannot be read."""
        path = self.path / _MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise RunFolderError(f"{self.path} is no run: it holds no {_MANIFEST}") from None
        except OSError as error:
            raise RunFolderError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError:
            manifest = None
        version = manifest.get("format") if isinstance(manifest, dict) else None
        if not isinstance(manifest, dict) or not isinstance(version, int):
            raise RunFolderError(f"{path} is damaged or not a run's: it does not say its format")
        if version > FORMAT:
            raise RunFolderError(f"{self.path} has format {version}, newer than {FORMAT}: upgrade tensorix-toolkit")
        return manifest

    def update_manifest(self, **changes: Any) -> None:
        """Change entries of the manifest: a reader sees all of it before or all of it after, a crash too.

        Raises RunFolderError where it cannot be written, TypeError for what JSON does not know (a Secret).
        """
        with locked(self.path):
            data = _manifest_bytes(self.manifest | changes)
            try:
                self._replace_manifest(data)
            except OSError as error:
                raise CannotWriteError(f"{self.path / _MANIFEST} cannot be written: {error.strerror}") from error

    def _replace_manifest(self, data: bytes, *, new: bool = False) -> None:
        trial = self.path / f"{_MANIFEST}.new"
        # "x": of two processes that make the same folder into a run at once, one is told.
        with trial.open("xb" if new else "wb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                trial.unlink()
                raise
        trial.replace(self.path / _MANIFEST)
        sync_folder(self.path)

    def writer(self, process_id: str, *, now_unix_ns: Callable[[], int] = time.time_ns) -> RunWriter:
        """The writer of one process; `process_id` is its own within the run. Raises RunFolderError."""
        return RunWriter(self.path, process_id, now_unix_ns=now_unix_ns)

    def records(self, columns: Sequence[str] | None = None) -> Any:
        """The records as a `pyarrow.Table`, every whole batch that is there; with `columns`, only those.

        Raises KeyError for a column that no record has.
        """
        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        return read_rows(self.path, "records", schema)[0]

    def gap_counts(self) -> Any:
        """The counted gaps between chunks as a table: `second_unix`, `model`, `bucket`, `count`, each key once."""
        table, _ = read_rows(self.path, "gaps", GAP_SCHEMA)
        grouped = table.group_by(["second_unix", "model", "bucket"]).aggregate([("count", "sum")])
        return pa.table(
            [grouped["second_unix"], grouped["model"], grouped["bucket"], grouped["count_sum"]], schema=GAP_SCHEMA
        ).sort_by([("second_unix", "ascending"), ("model", "ascending"), ("bucket", "ascending")])

    def events(self) -> list[dict[str, Any]]:
        """The events in the order in which they were written."""
        return EventReader(self.path / EVENTS_NAME).events()

    def findings(self, *, rows: bool = True) -> list[str]:
        """What is not as an orderly run leaves it, in plain words: cut files, lines left out, a missing end, and what
        its own processes know to be lost. Without `rows`, not what is found by reading records and gap counts.
        """
        events = EventReader(self.path / EVENTS_NAME)
        events.events()
        found = self.file_findings("records") + self.file_findings("gaps") if rows else []
        found += events.findings()
        manifest = self.manifest
        if manifest.get("ended_unix_ns") is None:
            found.append(f"{_MANIFEST} holds no end: the run was killed, or is still going on")
        return found + [str(text) for text in manifest.get("losses") or ()]

    def file_findings(self, kind: Literal["records", "gaps"]) -> list[str]:
        """What was found wrong in the files of records or of gap counts."""
        return read_rows(self.path, kind, SCHEMA if kind == "records" else GAP_SCHEMA)[1]

    def compact(self) -> None:
        """Move records and gap counts into Parquet files and remove the streams; any number of times, at any time.

        What a living process still writes is left as it is. Raises RunFolderError where it cannot be written.
        """
        with locked(self.path):
            compact(self.path, "records", SCHEMA)
            compact(self.path, "gaps", GAP_SCHEMA)

    def follow(self) -> RunFollower:
        """A follower that gives each record and each event once, from the beginning."""
        return RunFollower(self.path)
