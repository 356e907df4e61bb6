"""Users whose tasks fail before they have sent anything: Locust starts such a task again at once, and for ever."""

from __future__ import annotations

from typing import Any

from tensorix_loadtests._load_run import LoadRun

__all__ = ["TaskErrors"]


class TaskErrors:
    """Listens to `user_error` and ends the run as a defect at the `most`-th exception in a row.

    In a row means that no request began or ended in between: a task that fails now and then, in a locustfile of one's
    own, ends nothing.
    """

    def __init__(self, run: LoadRun, *, most: int, where: str) -> None:
        self._run = run
        self._most = most
        self._where = where
        self._row = 0
        self._requests = -1

    def __call__(self, exception: BaseException, **_: Any) -> None:
        """Count one exception of a user's task, as Locust's event tells of it."""
        requests = self._run.started + self._run.finished
        self._row = self._row + 1 if requests == self._requests else 1
        self._requests = requests
        if self._row >= self._most:
            times = "" if self._row == 1 else f" {self._row} times with no request in between"
            self._run.stop("defect", f"a user's task failed{times} ({type(exception).__name__}): {self._where}")
