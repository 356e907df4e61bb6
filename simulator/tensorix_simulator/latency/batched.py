"""The batch run in real time: one job of the pacer ends its steps and hands out the tokens."""

from __future__ import annotations

import time
from collections import deque

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.latency.batch import Batch, BatchModel, Generation
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.latency.timing import Ticket, TokenDue

__all__ = ["Batched"]


class _Work:
    """The ticket of one reply."""

    __slots__ = ("batch", "due", "generation", "queue_ns", "whole")

    def __init__(self, batch: Batch[_Work], due: TokenDue, whole: bool) -> None:
        self.batch = batch
        self.due = due
        self.whole = whole
        self.queue_ns = 0
        self.generation: Generation[_Work] | None = None

    def deliver(self, generation: Generation[_Work], due_ns: int) -> None:
        """Its next token is due, or its last where it is sent whole."""
        if generation.gone:
            return
        self.queue_ns = (generation.started_ns or generation.at_ns) - generation.at_ns
        if not self.due(due_ns) and generation.tokens_left > 0:
            self.batch.leave(generation)

    def cancel(self) -> None:
        """No more calls. A place in the queue is free at once, a slot at the end of the step."""
        generation = self.generation
        if generation is not None and not generation.gone:
            self.batch.leave(generation)
            self.queue_ns = (generation.started_ns or time.monotonic_ns()) - generation.at_ns


class Batched:
    """Tokens are due at the ends of the batch's steps, which follow from arrivals, not from the loop's lateness."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.batch: Batch[_Work] = Batch(BatchModel(step_ns=1e6))
        # Whose tokens of the step that ended last are still to be handed out: one at a time, so that the pacer looks
        # at sockets and other jobs in between.
        self._owed: deque[Generation[_Work]] = deque()
        self._owed_ns = 0
        self._planned = False

    def begin(
        self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool, sequences: int = 1
    ) -> Ticket | None:
        """Put a reply into the batch, or in line before it."""
        work = _Work(self.batch, due, whole)
        work.generation = Generation(work, start_ns, prompt_tokens, reply.tokens, sequences)
        if not self.batch.arrive(work.generation):
            return None
        if not self._planned and self.batch.next_ns is not None:
            self._planned = True
            self._pacer.add(self.batch.next_ns, self._turn)
        return work

    def _turn(self, due_ns: int) -> int | None:
        """End a step, or hand out one more of the tokens that it made."""
        if not self._owed:
            self._owed_ns = due_ns
            for generation in self.batch.step():
                if not (generation.owner.whole and generation.tokens_left):
                    self._owed.append(generation)
        if self._owed:
            generation = self._owed.popleft()
            try:
                generation.owner.deliver(generation, self._owed_ns)
            except BaseException:
                # The loop reports it; the others go on.
                if (next_ns := self._next()) is not None:
                    self._pacer.add(next_ns, self._turn)
                raise
        return self._next()

    def _next(self) -> int | None:
        if self._owed:
            return self._owed_ns
        self._planned = self.batch.next_ns is not None
        return self.batch.next_ns
