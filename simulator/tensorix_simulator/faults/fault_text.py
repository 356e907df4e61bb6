"""Faults as a person writes them: `status 503, rate 5%`, `cut after 3 chunks by reset`, `outage, from 20s to 35s`.

The same in the settings, on the command line and in a request's header. First comes what happens (`FORMS`), then, in
any order and with or without commas, to whom and when (`CLAUSES`). Times count from the simulator's start or its last
reset. Where no rate is given every request is hit, where no time is given always.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

from tensorix_api.durations import TIME, UNITS, nanoseconds
from tensorix_api.errors import SettingsError

__all__ = ["CLAUSES", "FORMS", "Fault", "FaultKind", "parse_fault", "parse_header"]


class FaultKind(StrEnum):
    """What happens."""

    STATUS = "status"
    OUT_OF_CREDIT = "out of credit"
    REFUSE = "refuse"
    OUTAGE = "outage"
    RESET = "reset"
    STALL = "stall"
    CUT = "cut"
    MALFORMED = "malformed"
    ERROR_EVENT = "error event"
    NO_DONE = "no done"
    SPLIT = "split"
    COMMENTS = "comments"
    SLOW_READING = "slow reading"
    CONNECTION_CLOSE = "connection close"
    CONTENT_LENGTH = "content length"
    VANISH = "vanish"
    APPEAR = "appear"


FORMS = {
    "status 503": "an error of this status (400 to 599), in the set style's form, instead of the answer",
    "out of credit": "402 on chat completions",
    "refuse": "new connections are refused",
    "outage": "new connections are refused, and those that are open reset",
    "reset": "the connection is reset when the request is read, before a byte of an answer",
    "stall 30s before headers": "nothing is sent for so long",
    "stall 30s before first token": "the headers are sent, then nothing for so long",
    "stall 30s after 3 chunks": "a stream stops for so long after so many chunks; a whole body half way",
    "cut after 3 chunks": "a stream's connection ends (FIN) after so many chunks, 1 if none are named; a whole body "
    "half way",
    "cut after 3 chunks by reset": "the same by a reset (RST)",
    "malformed after 3 chunks": "the next chunk is broken JSON; a whole body is",
    "error event after 3 chunks": "an error object as the next event, and the end of the stream",
    "no done": "a stream ends without [DONE]",
    "split": "each byte of a stream's events is sent by itself, in a chunk of HTTP's of its own",
    "comments": "a comment (: ping) before each chunk of a stream",
    "comments every 100ms": "a comment as often as that, from the headers on",
    "slow reading 1000 bytes/s": "a request's body is read no faster",
    "connection close": "the response is the last of its connection, and says so",
    "content length too long": "a whole body's length is overstated: the client waits for what never comes",
    "content length too short": "a whole body's length is understated: the rest comes where a response should",
    "vanish NAME": "the model of that name is not there",
    "appear NAME": "the model of that name is there, and only then",
}
"""How each kind is written, and what it does."""

CLAUSES = {
    "rate 5%": "the share of the requests that are hit, chosen by the seed",
    "from 20s": "from then on",
    "from 20s to 35s": "for that time",
    "on chat": "only chat completions; or `on models`, or `on all` (the default)",
    "model NAME": "only chat completions of this model",
}
"""What may follow."""

_TIME = f"({TIME})"
_AFTER = r"(?: after (\d{1,6}) chunks?)?"
_LONGEST_NS = 10**15
_WHOLE_SERVER = (FaultKind.REFUSE, FaultKind.OUTAGE, FaultKind.VANISH, FaultKind.APPEAR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault. Which of the fields mean something depends on the kind; times are ns."""

    text: str
    """As it was written."""
    kind: FaultKind
    status: int = 0
    time_ns: int = 0
    """How long a stall lasts, or how far comments are apart (0: one a chunk)."""
    after: int = 0
    """After so many chunks."""
    where: str = ""
    """Of a stall: `headers`, `first token` or `chunks`. Of a content length: `long` or `short`."""
    by_reset: bool = False
    bytes_per_s: int = 0
    name: str = ""
    """Of the model that appears or vanishes."""
    rate: float = 1.0
    from_ns: int = 0
    to_ns: int | None = None
    on: str = "all"
    model: str | None = None

    def holds(self, since_ns: int) -> bool:
        """Whether its time is, so long after the start."""
        return self.from_ns <= since_ns and (self.to_ns is None or since_ns < self.to_ns)


_KINDS: tuple[tuple[FaultKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern + r"(?: |$)"))
    for kind, pattern in (
        (FaultKind.STATUS, r"status ([45]\d\d)"),
        (FaultKind.OUT_OF_CREDIT, "out of credit"),
        (FaultKind.REFUSE, "refuse"),
        (FaultKind.OUTAGE, "outage"),
        (FaultKind.RESET, "reset"),
        (FaultKind.STALL, rf"stall {_TIME} (?:before (headers|first token)|after (\d{{1,6}}) chunks?)"),
        (FaultKind.CUT, rf"cut{_AFTER}( by reset)?"),
        (FaultKind.MALFORMED, rf"malformed{_AFTER}"),
        (FaultKind.ERROR_EVENT, rf"error event{_AFTER}"),
        (FaultKind.NO_DONE, "no done"),
        (FaultKind.SPLIT, "split"),
        (FaultKind.COMMENTS, rf"comments(?: every {_TIME})?"),
        (FaultKind.SLOW_READING, r"slow reading (\d{1,9}) ?bytes/s"),
        (FaultKind.CONNECTION_CLOSE, "connection close"),
        (FaultKind.CONTENT_LENGTH, "content length too (long|short)"),
        (FaultKind.VANISH, r"vanish (\S+)"),
        (FaultKind.APPEAR, r"appear (\S+)"),
    )
)
_RATE = re.compile(r"rate (\d+(?:\.\d+)?) ?%(?: |$)")
_FROM = re.compile(rf"from {_TIME}(?: to {_TIME})?(?: |$)")
_ON = re.compile(r"on (chat|models|all)(?: |$)")
_MODEL = re.compile(r"model (\S+)(?: |$)")


@lru_cache(maxsize=1024)
def parse_fault(text: str) -> Fault:
    """Read one fault. Raises SettingsError that names the kinds."""
    plain = re.sub(r"[\s,]+", " ", text).strip(" ")
    for kind, pattern in _KINDS:
        if match := pattern.match(plain):
            return _with_clauses(_made(kind, text.strip(), match.groups()), plain[match.end() :])
    raise _wrong(text)


def _made(kind: FaultKind, text: str, found: tuple[str | None, ...]) -> Fault:
    fault = Fault(text=text, kind=kind)
    if kind is FaultKind.STATUS:
        return replace(fault, status=int(found[0] or 0))
    if kind is FaultKind.STALL:
        time_ns = _time_ns(text, found[0])
        return replace(fault, time_ns=time_ns, where=found[1] or "chunks", after=int(found[2] or 0))
    if kind in (FaultKind.CUT, FaultKind.MALFORMED, FaultKind.ERROR_EVENT):
        return replace(fault, after=int(found[0] or 1), by_reset=kind is FaultKind.CUT and found[1] is not None)
    if kind is FaultKind.COMMENTS and found[0] is not None:
        time_ns = _time_ns(text, found[0])
        if time_ns < 1_000_000:
            raise SettingsError(f"{text!r}: comments come every 1ms at most")
        return replace(fault, time_ns=time_ns)
    if kind is FaultKind.SLOW_READING:
        if int(found[0] or 0) == 0:
            raise SettingsError(f"{text!r}: a request is read at 1 byte/s at least")
        return replace(fault, bytes_per_s=int(found[0] or 0))
    if kind is FaultKind.CONTENT_LENGTH:
        return replace(fault, where=found[0] or "")
    if kind in (FaultKind.VANISH, FaultKind.APPEAR):
        return replace(fault, name=found[0] or "")
    return fault


def _with_clauses(fault: Fault, rest: str) -> Fault:
    given: set[str] = set()
    while rest:
        if match := _RATE.match(rest):
            if not 0 <= (rate := float(match[1]) / 100) <= 1:
                raise SettingsError(f"{fault.text!r}: a rate is from 0% to 100%")
            fault = replace(fault, rate=rate)
        elif match := _FROM.match(rest):
            from_ns = _time_ns(fault.text, match[1])
            to_ns = None if match[2] is None else _time_ns(fault.text, match[2])
            if to_ns is not None and to_ns <= from_ns:
                raise SettingsError(f"{fault.text!r}: it would end before it begins")
            fault = replace(fault, from_ns=from_ns, to_ns=to_ns)
        elif match := _ON.match(rest):
            fault = replace(fault, on=match[1])
        elif match := _MODEL.match(rest):
            fault = replace(fault, model=match[1])
        else:
            raise _wrong(fault.text)
        clause = match[0].split(" ", 1)[0]
        if clause in given:
            raise SettingsError(f"{fault.text!r}: {clause!r} is given twice")
        given.add(clause)
        rest = rest[match.end() :]
    _check_clauses(fault, given - {"from"})
    return fault


def _check_clauses(fault: Fault, given: set[str]) -> None:
    if fault.kind in _WHOLE_SERVER and given:
        raise SettingsError(f"{fault.text!r}: {fault.kind} is the whole server's and takes 'from' and 'to' only")
    if fault.kind is FaultKind.SLOW_READING and fault.model is not None:
        raise SettingsError(f"{fault.text!r}: the model is not known before the body is read")


def _time_ns(text: str, time: str | None) -> int:
    time_ns = round(nanoseconds(time or "") or 0)
    if time_ns > _LONGEST_NS:
        raise SettingsError(f"{text!r}: a time is at most {_LONGEST_NS // 10**9} s")
    return time_ns


def _wrong(text: str) -> SettingsError:
    kinds, clauses = "; ".join(FORMS), "; ".join(CLAUSES)
    why = "a status is from 400 to 599; " if re.match(r"\s*status\s+\d", text) else ""
    return SettingsError(
        f"{text[:200]!r} is no fault: {why}write one of {kinds}; and after it, as needed, {clauses}; "
        f"times with a unit ({UNITS})"
    )


def parse_header(text: str) -> tuple[Fault, ...]:
    """Read the faults that a request asks for itself, with semicolons between them. Raises SettingsError."""
    faults = tuple(parse_fault(part.strip()) for part in text.split(";"))
    for fault in faults:
        if fault.kind in _WHOLE_SERVER:
            raise SettingsError(
                f"{fault.text!r} is the whole server's and cannot be asked for by a request: one of "
                + "; ".join(form for form in FORMS if form.split(" ")[0] not in _WHOLE_SERVER)
            )
    return faults
