"""Calls and their attempts, which are spans of their own and may lie in other lines and files, put together."""

from __future__ import annotations

from collections.abc import Iterator

from tensorix_api import semantic_names as names
from tensorix_records._record import RequestRecord
from tensorix_records.traces._facts import kept_share, text
from tensorix_records.traces._seen import Seen
from tensorix_records.traces._span import Span
from tensorix_records.traces._to_record import attempts_of, kind_of, number_of, record_of_attempt, record_of_call

__all__ = ["Join"]

_Key = tuple[str, str]
_MOST_ATTEMPTS = 100


class Join:
    """Takes spans in any order and gives the records of what is whole.

    A call with one attempt is a record at once. One with several waits for their spans, which exporters send within
    seconds of it; `most` calls wait at the most, then the oldest is told of with what there is. Doubles are noticed
    among the last `remembered` spans.
    """

    def __init__(self, run_id: str, seen: Seen, *, most: int = 20_000, remembered: int = 200_000) -> None:
        self._run_id = run_id
        self._seen = seen
        self._most, self._remembered = most, remembered
        self._calls: dict[_Key, Span] = {}
        self._attempts: dict[_Key, list[Span]] = {}
        # In the order of their coming, so that the oldest can be forgotten.
        self._known: dict[int, None] = {}

    def add(self, span: Span | None) -> Iterator[RequestRecord]:
        """Take a span (None: one that could not be read), and give what is whole now."""
        self._seen.spans += 1
        if span is None:
            self._seen.unusable += 1
            return
        kind = kind_of(span)
        if kind is None:
            self._seen.other_spans += 1
        elif self._is_double(span):
            self._seen.doubles += 1
        elif kind == "attempt":
            key = (span.trace_id, span.parent_id)
            waiting = self._attempts.setdefault(key, [])
            if len(waiting) < _MOST_ATTEMPTS:
                waiting.append(span)
            call = self._calls.get(key)
            if call is not None and self._is_whole(key, call):
                yield from self._told(key)
        else:
            key = (span.trace_id, span.span_id)
            self._calls[key] = span
            if self._is_whole(key, span):
                yield from self._told(key)
        for waiting_for in (self._calls, self._attempts):
            if len(waiting_for) > self._most:
                yield from self._told(next(iter(waiting_for)))

    def rest(self) -> Iterator[RequestRecord]:
        """What still waits, at the end of the files."""
        for key in [*self._calls, *(key for key in self._attempts if key not in self._calls)]:
            yield from self._told(key)

    def _is_double(self, span: Span) -> bool:
        identity = int(span.trace_id + span.span_id, 16)
        if identity in self._known:
            return True
        self._known[identity] = None
        if len(self._known) > self._remembered:
            del self._known[next(iter(self._known))]
        return False

    def _is_whole(self, key: _Key, call: Span) -> bool:
        count = attempts_of(call)
        return count == 1 or len(self._attempts.get(key, ())) >= min(count, _MOST_ATTEMPTS)

    def _told(self, key: _Key) -> Iterator[RequestRecord]:
        call = self._calls.pop(key, None)
        attempts = self._attempts.pop(key, [])
        if call is None:
            for attempt in attempts:
                record = record_of_attempt(attempt, self._run_id, None)
                if record.outcome == "success":
                    # Its headers came; how it ended stands in the call's span.
                    self._seen.without_call += 1
                else:
                    yield self._counted(record, attempt)
            return
        count = attempts_of(call)
        last = next((attempt for attempt in attempts if number_of(attempt) == count), None) if count > 1 else None
        if len(attempts) < min(count, _MOST_ATTEMPTS) and count > 1:
            self._seen.without_attempts += 1
        for attempt in sorted(attempts, key=number_of):
            if attempt is not last and number_of(attempt) < count:
                yield self._counted(record_of_attempt(attempt, self._run_id, call), call)
        yield self._counted(record_of_call(call, self._run_id, last), call)

    def _counted(self, record: RequestRecord, span: Span) -> RequestRecord:
        seen = self._seen
        seen.records += 1
        seen.covers(record.start_unix_ns, record.start_unix_ns + (record.end_at_ns or 0))
        seen.name(seen.services, text(span.resource.get("service.name"), 100))
        seen.name(seen.servers, text(span.attributes.get(names.SERVER_ADDRESS), 100))
        seen.name(seen.sampled, kept_share(span.trace_state))
        return record
