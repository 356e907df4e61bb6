"""Replies whose times are drawn for each alone, whatever else goes on; slots and a queue bound them if set."""

from __future__ import annotations

import time

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.latency.slots import Slots
from tensorix_simulator.latency.timing import Ticket, TokenDue

__all__ = ["Independent"]


class _Work:
    """The ticket of one reply. Lets go of the calls at its end: no cycle holds them then, nor the pacer's heap."""

    __slots__ = ("_timing", "at_ns", "due", "over", "queue_ns", "reply", "whole")

    def __init__(self, timing: Independent, at_ns: int, reply: Reply, due: TokenDue, whole: bool) -> None:
        self._timing = timing
        self.at_ns = at_ns
        self.reply: Reply | None = reply
        self.due: TokenDue | None = due
        self.whole = whole
        self.queue_ns = 0
        self.over = False

    def cancel(self) -> None:
        """No more calls."""
        self._timing.cancel(self)


class Independent:
    """Each reply takes the times that were drawn for it, from when it has a slot.

    Its slot is free when its last token was due, so that who waits starts then, however late the loop comes round.
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._line: Slots[_Work] = Slots()

    def bound(self, slots: int | None, queue: int | None) -> None:
        """From now on so many at once, and so many that wait; what runs or waits already stays."""
        self._line.slots, self._line.queue = slots, queue
        self._fill(time.monotonic_ns())

    def begin(
        self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool, sequences: int = 1
    ) -> Ticket | None:
        """Plan the first token, or the last where the reply is sent whole, as soon as there is a slot."""
        work = _Work(self, start_ns, reply, due, whole)
        if not self._line.join(work):
            return None
        self._fill(start_ns)
        return work

    def _fill(self, at_ns: int) -> None:
        """Let those who wait have the slots that are free since `at_ns`."""
        while (work := self._line.take()) is not None:
            self._start(work, max(at_ns, work.at_ns))

    def _start(self, work: _Work, start_ns: int) -> None:
        work.queue_ns = start_ns - work.at_ns
        reply, work.reply = work.reply, None
        assert reply is not None
        next_gap_ns = reply.next_gap_ns

        def job(due_ns: int) -> int | None:
            due = work.due
            if due is None:
                return None
            try:
                if due(due_ns):
                    return due_ns + int(next_gap_ns())
            except BaseException:
                self._free(work, due_ns)
                raise
            self._free(work, due_ns)
            return None

        self._pacer.add(start_ns + reply.ttft_ns + (reply.rest_ns() if work.whole else 0), job)

    def _free(self, work: _Work, at_ns: int) -> None:
        if not work.over:
            work.over, work.due = True, None
            self._line.release()
            self._fill(at_ns)

    def cancel(self, work: _Work) -> None:
        """Its client has gone: its slot, or its place in the queue, is free."""
        now_ns = time.monotonic_ns()
        if not work.over and self._line.quit(work):
            work.over, work.due, work.reply = True, None, None
            work.queue_ns = now_ns - work.at_ns
        else:
            self._free(work, now_ns)
