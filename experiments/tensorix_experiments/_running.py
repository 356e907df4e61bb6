"""A run of the engine from its start to its end, and what a search has left to spend on runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tensorix_api.errors import TensorixError
from tensorix_api.secret import Secret
from tensorix_loadtests.engine_process import Engine
from tensorix_loadtests.plan import LoadPlan
from tensorix_records import Run

__all__ = ["Budget", "run_plan"]

_POLL_S = 0.25
_REFUSED = ("unauthorised", "payment", "write_failed", "defect")


@dataclass(slots=True)
class Budget:
    """The most that a search may use, and what it has used; None: any amount."""

    requests: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    used_requests: int = 0
    used_tokens: int = 0
    began: float = 0.0

    def lacks(self, requests: int, a_request: int | None, seconds: float) -> str | None:
        """What is not enough for one more run that sends so many, in words; None where all is."""
        if self.requests is not None and self.used_requests + requests > self.requests:
            return (
                f"the next step takes up to {requests:,} requests, and {self.requests - self.used_requests:,} are left"
            )
        if self.tokens is not None:
            if a_request is None:
                return "without a bound on answers (--max-tokens) no cap of tokens can be kept"
            if self.used_tokens + requests * a_request > self.tokens:
                left = max(0, self.tokens - self.used_tokens)
                return f"the next step takes up to {requests * a_request:,} tokens, and {left:,} are left"
        passed = time.monotonic() - self.began
        if self.seconds is not None and passed + seconds > self.seconds:
            return f"the next step takes {seconds:,.0f} s, and {max(0.0, self.seconds - passed):,.0f} s are left"
        return None


def run_plan(plan: LoadPlan, folder: Path, key: Secret | None, warn: Callable[[str], None]) -> None:
    """Run a plan into a folder, and wait until its last request has ended.

    Raises TensorixError where it could not begin, or where the key is refused or the folder cannot be written: no
    further step would fare better. Interrupted, it ends the run in order first.
    """
    engine = Engine(plan, folder, key)
    lines: list[str] = []
    try:
        while engine.running():
            engine.wait(_POLL_S)
            lines += engine.new_lines()
    finally:
        if engine.running():
            engine.end()
        while engine.running():
            try:
                engine.wait(_POLL_S)
            except KeyboardInterrupt:
                # Asked again: what is in flight is cancelled, and the third time nothing is waited for.
                engine.stop()
        lines += engine.new_lines()
        engine.close()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    for line in lines:
        if line.startswith("warning: "):
            warn(line.removeprefix("warning: "))
    if not (folder / "manifest.json").exists():
        raise TensorixError(errors[-1] if errors else lines[-1] if lines else "the engine ended before the run began")
    reason = Run.open(folder).manifest.get("end_reason")
    if reason in _REFUSED or reason is None:
        raise TensorixError(errors[-1] if errors else f"a run ended early ({reason or engine.killed_by}): see {folder}")
