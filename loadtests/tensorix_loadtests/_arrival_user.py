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
from tensorix_loadtests.prompts import Prompt
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
        arrival, (prompt, call) = taken
        origin = Origin(
            intended_ns=loop.start_ns + arrival.offset_ns, schedule_index=arrival.index, step_id=arrival.step_id
        )
        with loop.serving():
            if prompt is None:
                self._send(call, origin)
            else:
                self._say(prompt, call, origin)

    def _prepare(self, arrival: Arrival) -> tuple[Prompt | None, Call]:
        """The request, made before its time has come, and the prompt that it asks."""
        if arrival.kind == MODELS:
            return None, Call.list_models()
        prompt = self._next_prompt(
            number=arrival.index,
            prompt_tokens=arrival.prompt_tokens,
            answer_tokens=arrival.answer_tokens,
            hash_ids=arrival.hash_ids,
        )
        return prompt, self._call_of(prompt, arrival.kind == CHAT_STREAMED)


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
