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
    """The ticket of one reply. Lets go of the batch and the calls at its end, so as to leave no cycle behind."""

    __slots__ = ("_batch", "_due", "_generation", "queue_ns", "whole")

    def __init__(self, batch: Batch[_Work], due: TokenDue, whole: bool) -> None:
        self._batch = batch
        self._due: TokenDue | None = due
        self._generation: Generation[_Work] | None = None
        self.whole = whole
        self.queue_ns = 0

    def arrive(self, at_ns: int, prompt_tokens: int, tokens: int, sequences: int) -> bool:
        """Get into the batch, or in line before it; False where there is no room."""
        generation: Generation[_Work] = Generation(self, at_ns, prompt_tokens, tokens, sequences)
        if not self._batch.arrive(generation):
            return False
        self._generation = generation
        return True

    def deliver(self, due_ns: int) -> None:
        """Its next token is due, or its last where it is sent whole."""
        generation, due = self._generation, self._due
        if generation is None or due is None:
            return
        assert generation.started_ns is not None
        self.queue_ns = generation.started_ns - generation.at_ns
        if generation.tokens_left <= 0:
            self._generation = self._due = None
            due(due_ns)
        elif not due(due_ns):
            self.cancel()

    def cancel(self) -> None:
        """No more calls. A place in the queue is free at once, a slot at the end of the step."""
        if (generation := self._generation) is None:
            return
        self._generation = self._due = None
        self._batch.leave(generation)
        ended_ns = time.monotonic_ns() if generation.started_ns is None else generation.started_ns
        self.queue_ns = ended_ns - generation.at_ns


class Batched:
    """Tokens are due at the ends of the batch's steps, which follow from arrivals, not from the loop's lateness."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self.batch: Batch[_Work] = Batch(BatchModel(step_ns=1e6))
        # Whose tokens of the step that ended last are still to be handed out: one at a time, so that the pacer looks
        # at sockets and other jobs in between.
        self._owed: deque[_Work] = deque()
        self._owed_ns = 0
        self._planned = False

    def begin(
        self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool, sequences: int = 1
    ) -> Ticket | None:
        """Put a reply into the batch, or in line before it."""
        work = _Work(self.batch, due, whole)
        if not work.arrive(start_ns, prompt_tokens, reply.tokens, sequences):
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
                    self._owed.append(generation.owner)
        if self._owed:
            try:
                self._owed.popleft().deliver(self._owed_ns)
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
