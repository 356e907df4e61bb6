"""A load test from start to verdict: start the engine, show its run as it grows, pass on Ctrl-C, have it reported."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tensorix_api.errors import RunFolderError, TensorixError
from tensorix_api.secret import Secret
from tensorix_cli._output import complain, say
from tensorix_cli._progress import Progress
from tensorix_cli._view import View, view
from tensorix_cli.exit_status import ExitStatus
from tensorix_loadtests.engine_process import Engine
from tensorix_loadtests.plan import LoadPlan
from tensorix_records import Run

__all__ = ["run_load"]

_POLL_S = 0.25
# A terminal's Ctrl-C can come twice: to the whole group, and once more from a parent that passes it on.
_SAME_PRESS_S = 0.3
_ORDERLY_ENDS = ("requests", "duration", "schedule", "budget", "interrupted")
_STOPPING = (
    "interrupted: no new requests, waiting for those in flight (Ctrl-C again cancels them)",
    "interrupted again: cancelling the requests in flight (once more kills the engine)",
    "killing the engine",
)


class _Interrupts:
    """Counts Ctrl-C and SIGTERM, and asks the engine to end each time; a terminal that closes asks it once."""

    def __init__(self) -> None:
        self.count = 0
        self._engine: Engine | None = None
        self._last = -_SAME_PRESS_S

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGHUP:
            # The shell may send it and then the system: it says nothing new the second time.
            signal.signal(number, signal.SIG_IGN)
            if self.count:
                return
        elif now - self._last < _SAME_PRESS_S:
            return
        self._last = now
        self.count += 1
        if self._engine is not None and number == signal.SIGHUP:
            self._engine.end()
        elif self._engine is not None:
            self._engine.stop()

    def go_to(self, engine: Engine) -> None:
        """From now on they are passed on to this engine, those that came before it too."""
        self._engine = engine
        if self.count:
            engine.end()


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    """The signals are taken here meanwhile, and mean afterwards what they meant before."""
    interrupts = _Interrupts()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # under nohup it stays unheard
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupts) for number in numbers}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            # The terminal does not come back: the report is written without it.
            if signal.getsignal(number) == interrupts:
                signal.signal(number, handler)


class _Lines:
    """What the engine says: warnings are shown as they come, an error is kept for the end."""

    def __init__(self, engine: Engine) -> None:
        self.error: str | None = None
        self.last: str | None = None
        self._engine = engine

    def show_new(self, screen: View) -> None:
        for line in self._engine.new_lines():
            self.last = line
            if line.startswith("error: "):
                self.error = line
            elif line.startswith(("warning: ", "note: ")):
                screen.note(line)


def _watch(engine: Engine, interrupts: _Interrupts, out: Path, progress: Progress, lines: _Lines) -> None:
    """Show the run until the engine has ended."""
    follower: Any = None
    told = 0
    with view() as screen:
        running = True
        while running:
            engine.wait(_POLL_S)
            running = engine.running()
            if follower is None:
                follower = _follow(out)
            now_ns = time.time_ns()
            if follower is not None:
                rows, events = follower.poll()
                progress.feed(rows, events, now_ns)
            lines.show_new(screen)
            for note in progress.notes:
                screen.note(note)
            progress.notes.clear()
            for text in _STOPPING[told : interrupts.count]:
                screen.note(text)
            told = interrupts.count
            screen.draw(progress, now_ns)


def _end_unseen(engine: Engine, error: Exception) -> None:
    """Nothing is sent that nobody sees: end the run in order, however long those in flight take."""
    engine.end()
    complain(f"the run cannot be shown ({type(error).__name__}): no new requests, waiting for those in flight")
    while engine.running():
        engine.wait(_POLL_S)


def _follow(out: Path) -> Any:
    """The follower of the run, or None before the engine has made it."""
    try:
        return Run.open(out).follow()
    except RunFolderError:
        return None


def run_load(
    plan: LoadPlan,
    out: Path,
    key: Secret | None,
    *,
    reported: bool = True,
    junit: Path | None = None,
    resume: bool = False,
) -> ExitStatus:
    """Run the plan into the folder `out`, report it, and hold it against its objectives; `junit` gets them as XML.
    With `resume` the run in that folder goes on.

    Raises TensorixError, with the engine's own line, where it could not begin: then there is no run to report. What
    kept it from being shown ends the run, and is raised when that has been reported.
    """
    if not resume:
        Run.check_creatable(out)
    scheduled_s = plan.arrivals.duration_s if plan.arrivals is not None else None
    progress = Progress(requests=plan.requests, duration_s=plan.duration_s or scheduled_s)
    unshown: Exception | None = None
    with _interrupts() as interrupts:
        engine = Engine(plan, out, key, resume=resume)
        lines = _Lines(engine)
        interrupts.go_to(engine)
        try:
            _watch(engine, interrupts, out, progress, lines)
        except Exception as error:  # noqa: BLE001  whatever it is: the engine must not go on without us
            unshown = error
            _end_unseen(engine, error)
        finally:
            engine.close()
    try:
        run = Run.open(out)
        manifest = run.manifest
    except RunFolderError:
        if interrupts.count:
            raise KeyboardInterrupt from None
        raise unshown or TensorixError(_why_not_begun(engine, lines)) from None
    if engine.killed_by:
        _compact(run)
    trouble = _trouble(engine, lines, manifest)
    if trouble:
        complain(f"error: {trouble}")
    if reported:
        from tensorix_cli._report import report

        report(out)
    else:
        say(f"Run: {out}")
    if unshown is not None:
        raise unshown
    if interrupts.count:
        return ExitStatus.INTERRUPTED
    standing = _standing(run, plan, junit, told=reported)
    if manifest.get("end_reason") == "refused":
        return ExitStatus.MISTAKE
    if trouble or not progress.succeeded or standing == "broken":
        return ExitStatus.NOT_DONE
    return ExitStatus.INCONCLUSIVE if standing == "unknown" else ExitStatus.DONE


def _standing(run: Run, plan: LoadPlan, junit: Path | None, *, told: bool) -> str | None:
    """What became of the objectives: met, broken, unknown; None where there are none. Written and said where asked."""
    if junit is not None:
        from tensorix_reports.load.junit import write_junit

        write_junit(run, junit)
        say(f"JUnit: {junit}")
    if not plan.goals.objectives:
        return None
    from tensorix_records.judging import verdict

    found = verdict(run)
    if not told:
        for one in found.judged:
            say(f"{one.objective.text}: {one.standing} ({one.reason})")
    return found.standing


def _compact(run: Run) -> None:
    """What the engine came to no more. A run that is not compacted can be reported too."""
    try:
        run.compact()
    except RunFolderError as error:
        complain(f"warning: {error}")


def _why_not_begun(engine: Engine, lines: _Lines) -> str:
    if lines.error:
        return lines.error.removeprefix("error: ")
    end = f"was killed by {engine.killed_by}" if engine.killed_by else f"ended with status {engine.status}"
    said = f": {lines.last}" if lines.last else ""
    return f"the engine {end} before the run began{said}"


def _trouble(engine: Engine, lines: _Lines, manifest: dict[str, Any]) -> str | None:
    """What kept the run from ending as it was asked to, in words; None where nothing did."""
    if engine.killed_by:
        return f"the engine was killed by {engine.killed_by}: what it had written until then is reported"
    if lines.error:
        return lines.error.removeprefix("error: ")
    reason = manifest.get("end_reason")
    if reason in _ORDERLY_ENDS and not engine.status:
        return None
    said = f": {lines.last}" if lines.last and engine.status else ""
    return f"the run ended early ({reason or 'for no reason given'}){said}"
