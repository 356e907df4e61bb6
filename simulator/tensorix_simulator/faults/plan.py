"""What goes wrong with one request: the faults that hit it, and which of them can be seen in its response."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from tensorix_simulator.faults.fault_text import Fault, FaultKind
from tensorix_simulator.latency.pacing import Pacer

__all__ = ["Form", "Plan", "Stalled"]


class Form(StrEnum):
    """What a response is, as far as it can go wrong."""

    STREAM = "stream"
    WHOLE = "whole"
    """A body of known length, asked for or an injected error."""
    REFUSED = "refused"
    """An error that would have come without a fault, too, or a head alone."""
    NONE = "none"


_SUITED = {
    Form.STREAM: {
        FaultKind.STALL,
        FaultKind.CUT,
        FaultKind.MALFORMED,
        FaultKind.ERROR_EVENT,
        FaultKind.NO_DONE,
        FaultKind.SPLIT,
        FaultKind.COMMENTS,
        FaultKind.CONNECTION_CLOSE,
    },
    Form.WHOLE: {
        FaultKind.STALL,
        FaultKind.CUT,
        FaultKind.MALFORMED,
        FaultKind.CONTENT_LENGTH,
        FaultKind.CONNECTION_CLOSE,
    },
    Form.REFUSED: {FaultKind.STALL, FaultKind.CONNECTION_CLOSE},
    Form.NONE: set[FaultKind](),
}
# Of these, a response can have one.
_ENDINGS = (
    FaultKind.CUT,
    FaultKind.MALFORMED,
    FaultKind.ERROR_EVENT,
    FaultKind.NO_DONE,
    FaultKind.CONTENT_LENGTH,
)
_INSTEAD = (FaultKind.STATUS, FaultKind.RESET)


class Stalled(Protocol):
    """An answer that waits."""

    def stop(self) -> None:
        """Give it up: the simulator stops."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The faults of one request, in the order in which they were set: of two that exclude each other the first wins."""

    faults: tuple[Fault, ...]
    pacer: Pacer
    held: set[Stalled]
    """Whole bodies that are stalled, of all requests."""

    @property
    def instead(self) -> Fault | None:
        """The status or reset that comes instead of an answer."""
        return next((fault for fault in self.faults if fault.kind in _INSTEAD), None)

    def of(self, kind: FaultKind) -> Fault | None:
        """The first of a kind."""
        return next((fault for fault in self.faults if fault.kind is kind), None)

    @property
    def ending(self) -> Fault | None:
        """What is wrong with the body, or with how it ends."""
        return next((fault for fault in self.faults if fault.kind in _ENDINGS), None)

    def stall(self, where: str) -> Fault | None:
        """The stall before the `headers`, before the `first token` or amid the `chunks`."""
        return next((fault for fault in self.faults if fault.kind is FaultKind.STALL and fault.where == where), None)

    def narrowed(self, form: Form, tokens: int, injected: Fault | None) -> Plan:
        """Only what will be seen in a response of this form and, of a stream, of so many tokens.

        `injected` is what came instead of an answer.
        """
        kept: list[Fault] = []
        taken: set[str] = set()
        for fault in self.faults:
            if fault is injected or fault.kind is FaultKind.SLOW_READING:
                kept.append(fault)
                continue
            if fault.kind not in _SUITED[form] or (form is Form.STREAM and fault.after > tokens):
                continue
            if form is Form.REFUSED and fault.kind is FaultKind.STALL and fault.where != "headers":
                continue
            place = "ending" if fault.kind in _ENDINGS else f"{fault.kind} {fault.where}"
            if place not in taken:
                taken.add(place)
                kept.append(fault)
        return replace(self, faults=tuple(kept))

    @property
    def text(self) -> str | None:
        """As the truth names them; None where there is none."""
        return "; ".join(fault.text for fault in self.faults) or None
