"""What came back from one request, whatever it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tensorix_api.errors import STATUS_MEANING, ErrorKind, Phase, kind_of_status
from tensorix_api.ratelimit_headers import RateLimits
from tensorix_probes.result import Phases, Request

__all__ = ["Answer", "Certificate", "Failure", "StreamEvent"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no whole answer."""

    kind: ErrorKind
    phase: Phase
    text: str
    """On one line, bounded and redacted."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the server showed of itself; seconds of Unix time."""

    not_after_unix_s: float
    subject: str
    issuer: str
    tls_version: str | None = None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a stream and when it was read, in ns from the start of the sending."""

    at_ns: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request's answer. Where `failure` is set, what came before it is there all the same."""

    request_id: str
    trace_id: str
    span_id: str
    kind: str
    method: str | None = None
    """None: only a handshake."""
    path: str = ""
    started_unix_ns: int
    started_monotonic_ns: int
    phases: Phases
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    """Of what is no stream: at most 4 MiB."""
    events: tuple[StreamEvent, ...] = ()
    """Of a stream: at most 100,000."""
    failure: Failure | None = None
    """Set where there is no whole answer, and on a redirect: it leads away from whom was asked. A 429 or 500 that came
    whole is none.
    """
    limits: RateLimits = RateLimits()
    certificate: Certificate | None = None

    @property
    def error(self) -> Failure | None:
        """What `tensorix load` would call it: a status that is no success speaks before what became of its body."""
        status = self.status
        redirected = self.failure is not None and self.failure.kind is ErrorKind.UNEXPECTED_STATUS
        if status is None or status == 200 or redirected:
            return self.failure
        kind = kind_of_status(status) or ErrorKind.UNEXPECTED_STATUS
        return Failure(kind, Phase.HEADERS, f"status {status}: {STATUS_MEANING.get(status, 'not documented')}")

    @property
    def request(self) -> Request:
        """The request without what came back."""
        error = self.error
        return Request(
            span_id=self.span_id,
            request_id=self.request_id,
            method=self.method,
            path=self.path,
            started_unix_ns=self.started_unix_ns,
            started_monotonic_ns=self.started_monotonic_ns,
            phases=self.phases,
            status=self.status,
            error_kind=str(error.kind) if error else None,
            error_phase=str(error.phase) if error else None,
        )

    @property
    def is_stream(self) -> bool:
        """Whether the server said that it sends events."""
        return any(name.lower() == "content-type" and "text/event-stream" in text for name, text in self.headers)

    def json(self) -> Any:
        """The body as JSON, None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None
