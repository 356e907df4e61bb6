"""A run that was recorded, as a trace to send again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, MODELS
from tensorix_loadtests.schedules._traces import Traced
from tensorix_records import Run

__all__ = ["read_run"]

_COLUMNS = ("start_unix_ns", "intended_at_ns", "logical_id", "scenario", "endpoint", "stream", "prompt_tokens")


def read_run(path: Path) -> Iterator[Traced]:
    """The requests of a run, when they were due (in a closed loop: sent), by kind and with the lengths that it saw.

    Retries are left out, as is the question for the models before the run. Raises SettingsError where it is no run.
    """
    # A tenth of a second to import, which only a replay is made to wait for.
    import pyarrow.compute as pc

    try:
        table = Run.open(path).records([*_COLUMNS, "completion_tokens"])
    except RunFolderError as error:
        raise SettingsError(f"nothing to replay: {error}") from None
    starts = table.column("start_unix_ns")
    table = table.append_column(
        "due", pc.call_function("add", [starts, pc.fill_null(table.column("intended_at_ns"), 0)])
    )
    tried: set[str] = set()
    # By start: the attempts of a scheduled request were all due at once.
    for row in table.sort_by([("due", "ascending"), ("start_unix_ns", "ascending")]).to_pylist():
        # Not by `attempt`: that of a request whose idle connection was closed under it begins at 2.
        logical_id = row["logical_id"]
        if row["scenario"] == "preflight" or logical_id in tried:
            continue
        if logical_id is not None:
            tried.add(logical_id)
        models = row["endpoint"].endswith("/models")
        kind = MODELS if models else CHAT_STREAMED if row["stream"] else CHAT_UNSTREAMED
        yield Traced(row["due"], row["prompt_tokens"], row["completion_tokens"], kind=kind)
