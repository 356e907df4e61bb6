"""The Locust user classes, as they are or subclassed: `ChatUser` asks a model, `ModelListUser` lists the models."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gevent
from locust import User
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING, TaskSet

from tensorix_api.errors import SettingsError
from tensorix_loadtests._back_off import BackOff
from tensorix_loadtests._call import Call
from tensorix_loadtests._client import LoadClient
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._recording import Result
from tensorix_loadtests.prompts import Prompt
from tensorix_records import RequestRecord

__all__ = ["ChatUser", "ModelListUser", "RequestFailed"]

_user_numbers = itertools.count()


class RequestFailed(Exception):  # noqa: N818 - Locust's table shows the name
    """What Locust's request event carries for a request that did not succeed."""


def _ask(user: Any) -> None:
    """The task that a class has unless it declares its own."""
    user.ask()


class _ApiUser(User):
    """One user: a connection of its own, one request after the other, holding back when told to."""

    abstract = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Locust adds a subclass's tasks to those it inherits; who declares tasks does not want the default one too.
        if any(task is not _ask for task in cls.tasks):
            cls.tasks = [task for task in cls.tasks if task is not _ask]

    def on_start(self) -> None:
        """Get ready; Locust calls it when the user starts. A subclass that overrides it calls this one first."""
        run = getattr(self.environment, "tensorix_run", None)
        if run is None:
            # No run folder could be made: the reason was said where it was found.
            raise StopUser
        self.run_state: LoadRun = run
        self.user_id = next(_user_numbers)
        self.client = LoadClient(
            run.session, user_class=type(self).__name__, user_id=self.user_id, on_result=self._on_result
        )
        self._back_off = BackOff(run.plan.limits.window_s, random.Random())  # noqa: S311 - spreads waits, hides nothing
        self._ready_ns = time.monotonic_ns()
        self._logical_numbers = itertools.count()

    def on_stop(self) -> None:
        """Close the connection; Locust calls it when the user ends."""
        if client := getattr(self, "client", None):
            client.close()

    def ask(self) -> None:
        """The default task."""
        raise NotImplementedError

    def _pause(self, seconds: float) -> float:
        """A pause that the user makes of its own: until its end it is not ready to send."""
        self._ready_ns = max(self._ready_ns, time.monotonic_ns() + round(seconds * 1e9))
        return seconds

    def _send(self, call: Call, origin: Origin) -> RequestRecord:
        """Make a request when it may be made, and again after a 429 as often as the plan says; the last record.

        Raises StopUser where none may be made any more.
        """
        retries = self.run_state.plan.spending.most_retries
        if retries and origin.logical_id is None:
            logical_id = f"{self.run_state.session.process_id}-u{self.user_id}-{next(self._logical_numbers)}"
            origin = replace(origin, logical_id=logical_id)
        record = self._attempt(call, origin, retries)
        while record.outcome == "throttled" and retries:
            retries -= 1
            origin = replace(origin, attempt=record.attempt + 1)
            record = self._attempt(call, origin, retries)
        return record

    def _attempt(self, call: Call, origin: Origin, retries: int) -> RequestRecord:
        """One attempt, and the wait that it asks for."""
        came_ns = time.monotonic_ns()
        passed = self.run_state.enter(call, self.user_id, origin)
        if passed is None:
            raise StopUser
        origin = replace(
            origin,
            user_ready_ns=self._ready_ns,
            held_ns=self.run_state.asked_ns - came_ns,
            reserved_tokens=passed.reserved_tokens,
            ledger_remaining_requests=passed.ledger_remaining_requests,
            ledger_remaining_tokens=passed.ledger_remaining_tokens,
        )
        # What was passed is settled with the record, before anybody else hears of it.
        self._passed = passed
        may_resend = partial(self.run_state.may_resend, passed)
        self.client.send(call, origin, key=passed.key, may_resend=may_resend, on_start=passed.started)
        record = self._record
        wait_s = self._back_off.after(record)
        if passed.paced and self._back_off.refusals == 1 and record.outcome == "throttled":
            # The gate has learned from it and waits for all of the key's users; one alone would wait the longer.
            wait_s = 0.0
        # What has a time of its own comes then, whatever became of the one before.
        if wait_s and (origin.schedule_index is None or (retries and record.outcome == "throttled")):
            self._hold_back(wait_s)
        self._ready_ns = time.monotonic_ns()
        return record

    def _hold_back(self, wait_s: float) -> None:
        """Sleep as Locust's `wait` does, so that a run that ends does not wait for it."""
        if self._state == LOCUST_STATE_STOPPING or self.run_state.stopped.is_set():
            return
        self._state = LOCUST_STATE_WAITING
        gevent.sleep(wait_s)
        if self._state == LOCUST_STATE_STOPPING:
            raise StopUser
        self._state = LOCUST_STATE_RUNNING

    def _on_result(self, result: Result) -> None:
        result = self.run_state.leave(self._passed, result)
        record = self._record = result.record
        self._answer = result.text
        # The record first: what a listener of the event does cannot touch it.
        self.run_state.on_result(result)
        exception = None
        if record.outcome != "success":
            status = f"{record.status} " if record.status else ""
            exception = RequestFailed(f"{status}{record.error_kind}: {record.error_message}")
        kind = "" if record.stream is None else " streamed" if record.stream else " not streamed"
        self.environment.events.request.fire(
            request_type=record.method,
            name=record.endpoint + kind,
            response_time=(record.end_at_ns or 0) / 1e6,
            response_length=record.response_bytes or 0,
            exception=exception,
            context=self.context(),
        )


class ChatUser(_ApiUser):
    """A user that chats: each asks, reads the whole answer, and asks again.

    Class attributes that a subclass may set; None takes the run's setting:
    `stream`, `model`, `prompts` (taken in turn), `max_tokens`, `temperature`, `body` (further fields of the request).
    Override `ask`, or declare tasks that call `self.chat(…)`.
    """

    abstract = False
    stream: bool = True
    model: str | None = None
    prompts: Sequence[str] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    body: Mapping[str, Any] | None = None
    tasks: list[TaskSet | Callable[..., Any]] = [_ask]  # noqa: RUF012 - as Locust declares it
    _prompt_numbers = itertools.count()

    def ask(self) -> None:
        """Ask the next prompt: of the class's own in turn, else of the run's."""
        if self.prompts:
            self.chat(self.prompts[next(self._prompt_numbers) % len(self.prompts)])
            return
        prompt = self._next_prompt(user_id=self.user_id)
        self._say(prompt, self._call_of(prompt, self.stream), Origin())

    def _next_prompt(self, **asked: Any) -> Prompt:
        """See `Prompts.next`. A file that turns out wrong ends the run: raises StopUser."""
        try:
            return self.run_state.prompts.next(**asked)
        except SettingsError as error:
            self.run_state.stop("prompts_broken", str(error))
            raise StopUser from None

    def _call_of(self, prompt: Prompt, stream: bool) -> Call:
        """The request that asks a prompt of the run's."""
        return self._call(prompt.messages, stream, prompt.max_tokens, prompt.body, prompt)

    def _say(self, prompt: Prompt, call: Call, origin: Origin) -> RequestRecord:
        """Send a prompt of the run's; its conversation goes on with the answer."""
        self._answer = None
        record = self._send(call, replace(origin, conversation_id=prompt.conversation_id, turn=prompt.turn))
        self.run_state.prompts.answered(prompt, self._answer)
        return record

    def chat(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        stream: bool | None = None,
        max_tokens: int | None = None,
        scenario: str | None = None,
        **body: Any,
    ) -> RequestRecord:
        """Ask a prompt (text, or a list of messages) and return the record of what came of it.

        Further keywords are fields of the request's body. Raises StopUser when the run takes no more requests.
        """
        call = self._call(prompt, stream, max_tokens, body)
        return self._send(call, Origin(scenario=scenario))

    def _call(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        stream: bool | None,
        max_tokens: int | None,
        body: Mapping[str, Any],
        known: Prompt | None = None,
    ) -> Call:
        plan = self.run_state.plan
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        # A prompt that bounds its answer by the newer name would contradict itself.
        bound = None if "max_completion_tokens" in body else self.max_tokens or plan.max_tokens
        return Call.chat(
            messages,
            model=(known.model if known else None) or self.model or self.run_state.model,
            stream=self.stream if stream is None else stream,
            max_tokens=max_tokens or bound,
            include_usage=plan.include_usage,
            temperature=self.temperature if self.temperature is not None else plan.temperature,
            extra={**plan.body, **(self.body or {}), **body},
            prompt_tokens=known.tokens if known else None,
            keep_text=known.wants_answer if known else False,
        )

    def wait_time(self) -> float:
        """Seconds between an answer and the next question: the plan's think time, by default none."""
        think = self.run_state.plan.think_time
        if think is None:
            return 0.0
        mean_s = think.mean_s
        if think.kind == "exponential":
            return self._pause(random.expovariate(1 / mean_s))
        if think.kind == "uniform":
            return self._pause(random.uniform(0, 2 * mean_s))  # noqa: S311 - a pause is no secret
        return self._pause(mean_s)


class ModelListUser(_ApiUser):
    """A user that lists the models, again and again; between two lists it waits `wait_time`, a second by default."""

    abstract = False
    tasks: list[TaskSet | Callable[..., Any]] = [_ask]  # noqa: RUF012 - as Locust declares it

    def wait_time(self) -> float:
        """Seconds between two lists: a list is quick, so without a pause these users would crowd out the rest."""
        return self._pause(1.0)

    def ask(self) -> None:
        """List the models."""
        self.list_models()

    def list_models(self, *, scenario: str | None = None) -> RequestRecord:
        """List the models and return the record of what came of it."""
        return self._send(Call.list_models(), Origin(scenario=scenario))
