"""The experiment as a run: a look at the server first, then the design's actions, then the questions beside it."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tensorix_api.errors import ErrorKind, PreflightError, SettingsError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits._asking import Asker
from tensorix_experiments.limits._assessing import evidence_of
from tensorix_experiments.limits._bounds import Allowance, Bounds
from tensorix_experiments.limits._design import Send, experiment
from tensorix_experiments.limits._drive import Sending, play
from tensorix_experiments.limits._question import Question, a_chat
from tensorix_experiments.limits._side import side_questions
from tensorix_records import RequestRecord, Run
from tensorix_reports.limiter import fit
from tensorix_reports.limits import Wished, limits_report

__all__ = ["Ended", "LimitsExperiment", "run_limits"]

_FLUSH_S = 0.5
_WORTH_SAYING_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsExperiment:
    """What is asked of a server. Raises SettingsError, in one line."""

    settings: Settings
    bounds: Bounds
    window_s: float = 60.0
    """As documented."""
    second_key: Secret | None = None
    ca_bundle: str | None = None
    timeout_s: float = 60.0
    beside: bool = True
    """Whether to ask the questions beside the experiment, as far as the bounds allow."""
    label: str | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.window_s <= 86_400:
            raise SettingsError(f"the window is {self.window_s:g} s: give from 0.1 s to a day")
        if self.second_key is not None and self.second_key == self.settings.api_key:
            raise SettingsError("the second key is the first one: give another")


@dataclass(frozen=True, slots=True)
class Ended:
    """How an experiment went, as the manifest tells it too."""

    reason: str
    """`completed`, `bound` (one was met), `interrupted`, or `stopped` (the server, or what was asked)."""
    why: str | None
    """In words, where it is not `completed`."""
    wrong: bool
    """Whether it was stopped for a mistake in what was asked."""
    requests: int
    tokens: int
    seconds: float


def run_limits(
    asked: LimitsExperiment,
    folder: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Ended:
    """Make the run at `folder`. `say` is told of each step, in a line.

    Raises PreflightError where the server cannot be used as asked, before a folder is made, and RunFolderError.
    Ctrl-C ends it in order: what was seen is there.
    """
    Run.check_creatable(folder)
    return _Experiment(asked, folder, say, warn).run()


class _Experiment:
    """An experiment under way."""

    def __init__(
        self, asked: LimitsExperiment, folder: Path, say: Callable[[str], None], warn: Callable[[str], None]
    ) -> None:
        self._asked, self._folder, self._say, self._warn = asked, folder, say, warn
        self._run_id = str(uuid4())
        self._sending: Sending | None = None
        self._run: Run | None = None
        self._began_s = time.monotonic()
        self._completed = False

    def run(self) -> Ended:
        interrupted = False
        try:
            asyncio.run(self._whole())
        except KeyboardInterrupt:
            if self._run is None:
                raise
            interrupted = True
        return self._close(interrupted=interrupted)

    async def _whole(self) -> None:
        asked = self._asked
        asker = Asker(asked.settings, self._run_id, ca_bundle=asked.ca_bundle, timeout_s=asked.timeout_s)
        try:
            first: list[Any] = []
            sending = Sending(asker, Allowance(asked.bounds, asker.now_s), first.append, window_s=asked.window_s)
            self._sending = sending
            model = await self._look(sending)
            self._run = Run.create(self._folder, self._manifest(model))
            writer = self._run.writer("experiment")
            try:
                for record in first:
                    writer.add(record)

                def tell(action: Send) -> None:
                    # Said beforehand: until a window on the server's clock comes it may be silent for a minute.
                    now_s = asker.now_s
                    at_s, wait_s = max(action.at_s, now_s), action.at_s - now_s
                    known = {"why": action.why, "at_most": action.count, "in_flight": action.in_flight}
                    writer.event("step", t_unix_ns=round(asker.unix_s(at_s) * 1e9), **known)
                    soon = f" (in {wait_s:.0f} s)" if wait_s >= _WORTH_SAYING_S else ""
                    self._say(f"{now_s - sending.allowance.began_s:6.1f} s  {action.why}{soon}")

                flushing = asyncio.create_task(_flush_again_and_again(writer.flush))

                def keep(record: RequestRecord) -> None:
                    if flushing.done():
                        flushing.result()
                    writer.add(record)

                sending.keep = keep
                try:
                    await self._ask_all(sending, a_chat(model), tell, writer.flush)
                finally:
                    flushing.cancel()
                    # Where a write failed, that ends the run: its error is raised here.
                    with suppress(asyncio.CancelledError):
                        await flushing
            finally:
                writer.close()
        finally:
            await asker.aclose()

    async def _look(self, sending: Sending) -> str:
        """The model to ask: the one that was named, else the first that is listed."""
        settings = self._asked.settings
        reply = await sending.ask(Question(asked="models"), "preflight", judged=False)
        if reply is None:
            raise SettingsError("the bounds allow no request: raise --max-requests or --max-minutes")
        record, model = reply.record, settings.model or (reply.models[0] if reply.models else None)
        said = f"{record.error_message or ''}" + (f" ({record.status})" if record.status else "")
        kind = record.error_kind
        if kind == ErrorKind.AUTHENTICATION:
            which = "wants a key: set" if settings.api_key is None else "refused the key: check"
            raise PreflightError(f"{settings.base_url} {which} TENSORIX_API_KEY. The server said: {said}")
        if record.outcome == "cancelled":
            raise KeyboardInterrupt
        answered = record.status is not None and kind != ErrorKind.PAYMENT and record.status < 500
        if record.outcome != "success" and not (settings.model and answered):
            raise PreflightError(f"{settings.base_url} cannot be used: {said.strip() or kind}")
        if model is None:
            raise PreflightError(f"{settings.base_url} lists no models: name one with --model")
        if record.outcome == "success" and reply.models and model not in reply.models:
            self._warn(f"the server does not list the model {model!r}")
        return model

    async def _ask_all(
        self, sending: Sending, question: Question, tell: Callable[[Send], None], flush: Callable[[], None]
    ) -> None:
        asker, asked = sending.asker, self._asked
        now_s = asker.now_s

        def ahead_s() -> float:
            # Each response may say more of the server's clock.
            return asker.unix_s(0.0) + asker.clock.offset_s

        actions = experiment(
            now_s=now_s,
            unix_s=now_s + ahead_s(),
            window_s=asked.window_s,
            most_requests=asked.bounds.requests - sending.allowance.requests,
            assess=lambda answers: fit(evidence_of(answers, ahead_s()), window_s=asked.window_s),
        )
        await play(actions, sending, question, tell=tell)
        self._completed = sending.may_go_on
        if not asked.beside or not sending.may_go_on:
            return
        assert self._run is not None
        flush()
        main = limits_report(self._run, Wished(window_s=asked.window_s)).main
        if main is not None:
            await side_questions(sending, question, main.fit, second_key=asked.second_key, tell=tell)

    def _manifest(self, model: str) -> dict[str, Any]:
        asked, settings = self._asked, self._asked.settings
        return {
            "run_id": self._run_id,
            "kind": "experiment",
            "label": asked.label or f"The limits of {model}",
            "asked": {
                "experiment": "limits",
                "base_url": settings.base_url,
                "model": model,
                "window_s": asked.window_s,
                "bounds": asdict(asked.bounds),
            },
            "key_alias": settings.api_key.alias if settings.api_key else None,
            # Nobody told these of this key: the window is what the documentation says.
            "limits": {"requests": None, "tokens": None, "window_s": asked.window_s, "told": []},
            "machine": {"host": platform.node(), "platform": platform.platform(), "cpus": os.cpu_count()},
            "clocks": {"stamps": "monotonic", "receive_stamps": "user"},
            "started_unix_ns": time.time_ns(),
        }

    def _close(self, *, interrupted: bool) -> Ended:
        sending, run = self._sending, self._run
        assert sending is not None
        assert run is not None
        allowance, clock = sending.allowance, sending.asker.clock
        why = "it was interrupted" if interrupted else sending.stopped or allowance.spent
        reason = "interrupted" if interrupted else "stopped" if sending.stopped else "completed"
        if reason == "completed" and not self._completed:
            reason = "bound"
        ended = Ended(
            reason=reason,
            why=None if reason == "completed" else why,
            wrong=sending.wrong,
            requests=allowance.requests,
            tokens=allowance.tokens,
            seconds=time.monotonic() - allowance.began_s,
        )
        run.update_manifest(
            ended_unix_ns=time.time_ns(),
            end_reason=reason,
            end_why=ended.why,
            spent={"requests": ended.requests, "tokens": ended.tokens, "seconds": ended.seconds},
            server_clock={
                "offset_s": clock.offset_s,
                "uncertainty_s": clock.uncertainty_s,
                "readings": clock.readings,
            },
        )
        run.compact()
        return ended


async def _flush_again_and_again(flush: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_FLUSH_S)
        flush()
