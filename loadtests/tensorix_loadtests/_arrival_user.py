"""The user of an open loop: it sends whatever the schedule says next, at the time that it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from tensorix_loadtests._call import Call
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._open_loop import OpenLoop
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._users import ChatUser
from tensorix_loadtests.plan import CHAT_STREAMED, MODELS
from tensorix_loadtests.schedules import Arrival, arrivals

__all__ = ["ArrivalUser", "open_loop"]


class ArrivalUser(ChatUser):
    """Takes the next arrival, waits for its time and makes the request, of whichever kind it is."""

    def wait_time(self) -> float:
        """None: the schedule says when."""
        return 0.0

    def ask(self) -> None:
        """The next arrival. Raises StopUser where there is none."""
        loop = self.run_state.open_loop
        assert loop is not None
        # So that Locust may end it while it waits.
        self._state = LOCUST_STATE_WAITING
        taken = loop.take(self._prepare)
        if taken is None or self._state == LOCUST_STATE_STOPPING:
            raise StopUser
        self._state = LOCUST_STATE_RUNNING
        arrival, call = taken
        with loop.serving():
            self._send(
                call,
                Origin(
                    intended_ns=loop.start_ns + arrival.offset_ns,
                    schedule_index=arrival.index,
                    step_id=arrival.step_id,
                ),
            )

    def _prepare(self, arrival: Arrival) -> Call:
        """The request, made before its time has come."""
        if arrival.kind == MODELS:
            return Call.list_models()
        prompts = self.run_state.plan.prompts
        prompt = prompts[arrival.index % len(prompts)]
        return self._call(prompt, arrival.kind == CHAT_STREAMED, arrival.answer_tokens, {})


def open_loop(run: LoadRun, environment: Any) -> OpenLoop:
    """The open loop of a run whose runner has `ArrivalUser` as its one class; `begin` it once the first users stand.

    Raises SettingsError where the trace to replay cannot be read.
    """
    runner = environment.runner
    # A run that is resumed goes on behind what it has sent.
    past = run.past
    schedule = arrivals(run.plan, share=run.share, first_index=past.first_index, without=past.indexes)
    add: Callable[[Any], Any] = environment.user_classes[0]

    def add_users(number: int) -> None:
        # Not through the runner's own `spawn_users`, which counts all users anew for each that it starts.
        for _ in range(number):
            add(environment).start(runner.user_greenlets)

    return OpenLoop(run, schedule, add_users=add_users)
