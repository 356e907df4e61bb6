"""An open loop: one sequence of arrivals for all users, who each take the next, wait for its time and send it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gevent.event import Event
from gevent.hub import get_hub

from tensorix_api.errors import TensorixError
from tensorix_loadtests._alarm import Alarm
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._share import part_of
from tensorix_loadtests.schedules import Arrival
from tensorix_records import RequestRecord

__all__ = ["OpenLoop"]

_LEAST_SPARE = 4
_SPARE_SHARE = 8
# The first users are started meanwhile.
_LEAD_NS = 50_000_000
# Starting a user takes a tenth of a millisecond or two: no more at once than leave an arrival's time alone.
_MOST_AT_ONCE = 10
# So many are counted of those that a run leaves unsent: about a second's work.
_MOST_COUNTED = 500_000


class OpenLoop:
    """Hands each arrival to one user, at its time or, where none is free then, as soon as one is.

    One of the free users waits for the next arrival, the others behind it; who was free last goes first, so that
    connections are used while they are warm. Some users are always kept spare, up to the most that may be: a server
    that stands still meets those who come on time all the same.
    """

    def __init__(
        self,
        run: LoadRun,
        arrivals: Iterator[Arrival],
        *,
        add_users: Callable[[int], None],
    ) -> None:
        asked = run.plan.arrivals
        assert asked is not None
        self.run = run
        self.most_users = max(1, part_of(asked.most_users, run.share))
        self.start_ns = 0
        """The schedule's start on the monotonic clock."""
        self._arrivals = arrivals
        self._add_users = add_users
        self._next: Arrival | None = None
        self._prepared: Any = None
        self._exhausted = False
        self._begun = Event()
        self._alarm = Alarm()
        self._taken = False
        """Whether a user waits for the next arrival just now."""
        self._behind: list[Event] = []
        self._busy = 0
        self._handed = 0
        self._unsent: set[int] = set()
        """Handed to a user, and no record yet."""
        self._waited_ns = 0
        run.open_loop = self
        run.listeners.append(self)

    def common_start_ns(self) -> int:
        """When to begin: where several processes share the run, the instant that was agreed on; else at once."""
        agreed = self.run.begins_unix_ns
        return time.monotonic_ns() + _LEAD_NS if agreed is None else agreed - self.run.session.clock.offset_ns

    def begin(self, start_ns: int) -> None:
        """The schedule starts at this instant of the monotonic clock, which may be a little ahead."""
        self.start_ns = start_ns
        self.run.note(
            "schedule",
            start_unix_ns=self.run.session.clock.unix_ns(start_ns),
            most_users=self.most_users,
        )
        self._begun.set()
        self._top_up()

    # a user's side

    def take(self, prepare: Callable[[Arrival], Any]) -> tuple[Arrival, Any] | None:
        """Wait for the next arrival's time; that arrival, and what `prepare` made of it beforehand. None: no more come.

        Killed while it waits, a user leaves the arrival to the next.
        """
        self._wait_for_turn()
        try:
            self._begun.wait()
            arrival = self._peek()
            if arrival is None:
                return None
            prepared = prepare(arrival)
            due_ns = self.start_ns + arrival.offset_ns
            self._alarm.wait_until(due_ns)
            if self.run.stopped.is_set():
                return None
            self._next = None
            self._handed += 1
            self._unsent.add(arrival.index)
            self._busy += 1
            return arrival, prepared
        finally:
            self._pass_turn()

    def _wait_for_turn(self) -> None:
        if not self._taken:
            self._taken = True
            return
        turn = Event()
        self._behind.append(turn)
        try:
            turn.wait()
        except BaseException:
            if turn in self._behind:
                self._behind.remove(turn)
            else:
                self._pass_turn()
            raise

    def _pass_turn(self) -> None:
        if self._behind:
            self._behind.pop().set()
        else:
            self._taken = False
        if not self._exhausted:
            # Once this user's request is on its way.
            get_hub().loop.run_callback(self._top_up)

    def _peek(self) -> Arrival | None:
        """The next arrival, which stays the next; None where there are no more, or none may be sent any more."""
        if self._next is None and not self._exhausted:
            try:
                self._next = next(self._arrivals, None)
            except TensorixError as error:
                self.run.stop("schedule_broken", str(error))
            self._exhausted = self._next is None
            self._end_if_all_answered()
        return None if self.run.stopped.is_set() else self._next

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around a request that was taken: at the end of the last one the run is over."""
        try:
            yield
        finally:
            self._busy -= 1
            self._end_if_all_answered()

    def _end_if_all_answered(self) -> None:
        if self._exhausted and not self._busy:
            self.run.stop("schedule")

    # users

    def _top_up(self) -> None:
        """Start users until some are spare again."""
        if self._exhausted or self.run.stopped.is_set():
            return
        users = self.run.users()
        spare = max(_LEAST_SPARE, users // _SPARE_SHARE)
        missing = min(spare - (users - self._busy), self.most_users - users, _MOST_AT_ONCE)
        if missing > 0:
            self._add_users(missing)

    # how it stands

    @property
    def all_taken(self) -> bool:
        """Whether every arrival has a user."""
        return self._exhausted

    def overdue_ns(self) -> int:
        """For how long an arrival has been waiting for a user, 0 where none is."""
        if self._taken or self._exhausted or not self._begun.is_set():
            return 0
        # Nobody takes it: all are busy, so it is looked at here.
        arrival = self._peek()
        return 0 if arrival is None else max(0, time.monotonic_ns() - self.start_ns - arrival.offset_ns)

    def on_record(self, record: RequestRecord) -> None:
        """A scheduled request has a record: it was sent."""
        if record.schedule_index is not None and record.intended_at_ns is not None:
            self._unsent.discard(record.schedule_index)
            self._waited_ns = max(self._waited_ns, (record.user_ready_at_ns or 0) - record.intended_at_ns)

    def on_second(self, second: Any) -> None:
        """Nothing: what this knows is in `second` already."""

    def second(self) -> dict[str, Any]:
        """What a word on each second adds of the open loop: the longest wait for a user, and whether more may come."""
        waited, self._waited_ns = max(self._waited_ns, self.overdue_ns()), 0
        return {
            "due": self._handed,
            "waited_for_user_max_ns": waited,
            "most_users_reached": self.run.users() >= self.most_users,
        }

    def close(self) -> None:
        """Say how much of the schedule was sent. The run is over."""
        self._alarm.close()
        rest = 0
        try:
            rest = sum(1 for _ in itertools.islice(self._arrivals, _MOST_COUNTED))
        except TensorixError:
            pass  # said when it was met
        not_sent = len(self._unsent) + (self._next is not None) + rest
        self.run.note(
            "schedule_ended",
            sent=self._handed - len(self._unsent),
            not_sent=not_sent,
            # Of a trace that is wrong somewhere nobody knows the rest.
            at_least=rest == _MOST_COUNTED or self.run.end_reason == "schedule_broken",
        )
