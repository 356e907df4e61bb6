"""Latency of a model that is served in one continuous batch, as engines such as vLLM do. A pure state machine.

The model. At most `slots` requests run at once, at most `queue` wait, in the order in which they came; one that comes
when `slots + queue` are there is turned away. The engine works in steps, one after the other, and is idle when nobody
is there; then an arrival takes a slot and begins a step at once. Between two steps, and only there, requests leave
their slots and those that wait take free ones.

One step decodes a token of every sequence whose prompt is done (a request for n choices is n sequences) and processes
prompts, in the order in which their requests got slots, up to `prompt_tokens_per_step` tokens in all; what is left of
a prompt is for the next step (an empty prompt counts as one token). A long prompt so holds
decoding up by a bounded time (chunked prefill). A step takes

    (step + step_per_sequence * sequences decoded + prompt tokens processed / prompt_tokens_per_s) * noise

where noise is lognormal of mean 1 and `noise` is its sigma, drawn once a step. A request's first token is there at the
end of the step that finishes its prompt, and one more (of each choice) at the end of each step from then on; with the
last its slot is free. Where a client goes, its place in the queue is free at once, its slot at the end of the step.

All times are whole ns of whichever clock the caller has, and are computed from arrivals and from earlier times, not
from when the caller gets round to asking: the same seed and the same arrivals give the same times.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Generic, TypeVar

from tensorix_simulator.latency.slots import Slots

__all__ = ["PROMPT_TOKENS_PER_STEP", "Batch", "BatchModel", "Generation"]

PROMPT_TOKENS_PER_STEP = 2_048
"""The bound on a step's prompt tokens where none is given; of the order that engines have by default."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModel:
    """How long a step takes; times in ns."""

    step_ns: float
    step_per_sequence_ns: float = 0.0
    prompt_tokens_per_s: float = math.inf
    prompt_tokens_per_step: int = PROMPT_TOKENS_PER_STEP
    noise: float = 0.0

    def length_ns(self, decoded: int, prompt_tokens: int) -> float:
        """Of a step without noise."""
        return self.step_ns + self.step_per_sequence_ns * decoded + prompt_tokens * 1e9 / self.prompt_tokens_per_s


@dataclass(eq=False, slots=True)
class Generation(Generic[T]):
    """A request in the engine. `owner` is the caller's."""

    owner: T
    at_ns: int
    """When it came."""
    prompt_left: int
    """Prompt tokens still to be processed; at least 1 at first, so that each request is in one step of prompts."""
    tokens_left: int
    """Tokens a choice still to come."""
    sequences: int = 1
    """Choices: sequences decoded side by side."""
    started_ns: int | None = None
    """When it got its slot; None while it waits."""
    gone: bool = False

    def __post_init__(self) -> None:
        self.prompt_left = max(1, self.prompt_left)


class Batch(Generic[T]):
    """The engine. Whoever drives it calls `step` when `next_ns` has come."""

    def __init__(self, model: BatchModel, slots: int | None = None, queue: int | None = None, seed: int = 0) -> None:
        """`model` and `line`'s bounds may be changed at any time, and hold from the next step on."""
        self.model = model
        self.line: Slots[Generation[T]] = Slots(slots, queue)
        self.next_ns: int | None = None
        """The end of the step under way; None: idle."""
        self._idle_since_ns = 0
        self._running: list[Generation[T]] = []
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Draw noise from here on as from the beginning."""
        self._noise = random.Random(seed)  # noqa: S311 - times, not secrets

    def arrive(self, generation: Generation[T]) -> bool:
        """A request comes; False where it is turned away.

        To be told in the order of `at_ns`. One that is told late, after the end of a step before which it had come,
        takes part from the next step on.
        """
        if not self.line.join(generation):
            return False
        if self.next_ns is None:
            self._begin(max(generation.at_ns, self._idle_since_ns))
        return True

    def leave(self, generation: Generation[T]) -> None:
        """The client went. It gets no more tokens."""
        generation.gone = True
        self.line.quit(generation)

    def step(self) -> list[Generation[T]]:
        """End the step under way, and begin the next. Returns who got a token, in the order of their slots.

        They got it at what `next_ns` was before; those with no `tokens_left` are over.
        """
        end_ns = self.next_ns
        if end_ns is None:
            raise RuntimeError("an idle engine has no step to end")
        served: list[Generation[T]] = []
        staying: list[Generation[T]] = []
        for generation in self._running:
            if generation.gone:
                self.line.release()
                continue
            if not generation.prompt_left:
                generation.tokens_left -= 1
                served.append(generation)
                if generation.tokens_left <= 0:
                    self.line.release()
                    continue
            staying.append(generation)
        self._running = staying
        self._begin(end_ns)
        return served

    def _begin(self, start_ns: int) -> None:
        """Begin a step at `start_ns`; with nobody there, when the next one comes or not at all."""
        if not self._running:
            next_at_ns = self.line.next_at_ns
            if next_at_ns is None:
                self.next_ns, self._idle_since_ns = None, start_ns
                return
            # One that was told already and comes later than `start_ns`: the caller is behind.
            start_ns = max(start_ns, next_at_ns)
        while (admitted := self.line.take(start_ns)) is not None:
            admitted.started_ns = start_ns
            self._running.append(admitted)
        left, decoded = self.model.prompt_tokens_per_step, 0
        for generation in self._running:
            if not generation.prompt_left:
                decoded += generation.sequences
            elif left:
                processed = min(left, generation.prompt_left)
                generation.prompt_left -= processed
                left -= processed
        length_ns = self.model.length_ns(decoded, self.model.prompt_tokens_per_step - left)
        sigma = self.model.noise
        if sigma:
            length_ns *= math.exp(self._noise.gauss(0.0, sigma) - sigma * sigma / 2)
        # At least 1 ns: a step of no length would never end a round of the caller's.
        self.next_ns = start_ns + max(1, round(length_ns))
