"""One request that is due at a time of its own."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Arrival"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that is due `offset_ns` after the schedule's start, whatever became of those before it."""

    index: int
    """In the whole schedule, from 0."""
    offset_ns: int
    kind: str
    """One of `tensorix_loadtests.plan.KINDS`."""
    step_id: int | None = None
    """The number of its stage, from 0; None in a replay."""
    prompt_tokens: int | None = None
    """As long as the prompt of the trace; None: as the plan has it."""
    answer_tokens: int | None = None
    hash_ids: tuple[int, ...] = ()
    """Of the blocks of its prompt: those that two prompts have in common at their beginning are the same text."""
