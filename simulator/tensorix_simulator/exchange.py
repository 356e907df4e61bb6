"""One request and its response: what the truth says of it, and the headers that every response has."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from tensorix_simulator.faults.credit import Credit
from tensorix_simulator.faults.fault_text import Fault, FaultKind
from tensorix_simulator.faults.faulty_answer import FaultyAnswer
from tensorix_simulator.faults.injected import INJECTED_ERROR
from tensorix_simulator.faults.plan import Form, Plan
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.requests import Request
from tensorix_simulator.http.wire import Headers, head
from tensorix_simulator.limits.ledger import NO_END, NO_LEDGER, Ledger
from tensorix_simulator.limits.rate_headers import AnswerKind, RateHeaders
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.style import Context, Refusal, Style
from tensorix_simulator.truth import TruthLog

__all__ = ["Exchange"]

_MOST_ID = 200
_NO_TOKENS = {"prompt_tokens": 0, "completion_tokens": 0, "reasoning_tokens": 0}


class Exchange:
    """Writes an arrival line and an end line, and in between answers."""

    __slots__ = (
        "_body_bytes", "_rate_headers", "_truth", "_usage", "alias", "chat", "connection", "credit", "ended", "faults",
        "injected", "kind", "ledger", "model", "number", "refusal", "request", "request_id", "settings", "status",
        "style",
    )  # fmt: skip

    def __init__(
        self,
        truth: TruthLog,
        request: Request,
        connection: Connection,
        number: int,
        settings: SimulatorSettings,
        style: Style,
    ) -> None:
        """`settings` hold for the whole of it, also where they are changed meanwhile."""
        self._truth = truth
        self.request = request
        self.connection = connection
        self.number = number
        self.settings = settings
        self.style = style
        self.request_id = request.headers.get("x-request-id", "")[:_MOST_ID] or f"req-{uuid.uuid4().hex}"
        self.alias: str | None = None
        self.ledger: Ledger | None = None
        """None until the key is known."""
        self._rate_headers: RateHeaders | None = None
        self.kind = AnswerKind.ERROR
        self.chat = False
        self.model = ""
        self.refusal: Refusal | None = None
        self.faults: Plan | None = None
        """What goes wrong with it; from the decision on only what will be seen of that."""
        self.injected: Fault | None = None
        """What came instead of an answer."""
        self.credit: Credit | None = None
        self._usage: Mapping[str, Any] = {}
        self._body_bytes: int | None = None
        self.status = 0
        self.ended = False

    def belongs_to(self, ledger: Ledger, rate_headers: RateHeaders) -> None:
        """The key is known, and with it the limits that hold; nothing is charged yet."""
        self.alias = ledger.alias
        self.ledger = ledger
        self._rate_headers = rate_headers

    def settle(self, tokens: int) -> None:
        """Charge what was really used, once."""
        if self.ledger is not None:
            self.ledger.settle(tokens)

    def spend(self, tokens: int) -> None:
        """Take from what the key has paid for, once."""
        credit, self.credit = self.credit, None
        if credit is not None and self.alias is not None:
            credit.spend(self.alias, tokens)

    def _suffer(self, decision: str, tokens: int) -> str | None:
        """Keep of the faults what will be seen; returns their names."""
        if self.faults is None:
            return None
        form = Form.REFUSED
        if self.status == 0:
            form = Form.NONE
        elif self.request.method == "HEAD":
            form = Form.REFUSED
        elif self.injected is not None or decision == "admitted":
            form = Form.STREAM if self.kind is AnswerKind.STREAM else Form.WHOLE
        self.faults = self.faults.narrowed(form, tokens, self.injected)
        if self.faults.of(FaultKind.CONNECTION_CLOSE) is not None:
            self.request.keep_alive = False
            self.connection.close_after()
        return self.faults.text

    def decide(self, decision: str, status: int, plan: Mapping[str, Any] | None = None) -> None:
        """Write the arrival line."""
        self.status = status
        request = self.request
        self._truth.write(
            "arrival",
            {
                "n": self.number,
                "connection": request.connection,
                "request_id": self.request_id,
                "traceparent": request.headers.get("traceparent", "")[:_MOST_ID] or None,
                "key_alias": self.alias,
                "method": request.method,
                "path": request.path,
                "arrival_ns": request.arrival_ns,
                "arrival_read_ns": request.arrival_read_ns,
                "arrival_kernel_ns": request.arrival_kernel_ns,
                "arrival_unix_ns": request.arrival_unix_ns,
                "body_ns": request.body_ns,
                "decided_ns": time.monotonic_ns(),
                "decision": decision,
                "status": status,
                **(self.ledger.decided() if self.ledger else NO_LEDGER),
                "fault": self._suffer(decision, (plan or {}).get("reply_tokens", 0)),
                **(plan or {}),
            },
        )

    def refuse(self, refusal: Refusal) -> None:
        """Decide against it, and say so."""
        self.kind = AnswerKind.REFUSED if refusal.status == 429 else AnswerKind.ERROR
        self.refusal = refusal
        self.decide(refusal.decision, refusal.status)
        body, headers = self.style.refusal(refusal, self._context())
        self.answer(body, headers)

    def error_body(self) -> bytes:
        """The body of a server's error in the set style."""
        return self.style.refusal(INJECTED_ERROR, self._context())[0]

    def _context(self) -> Context:
        now_ns = time.monotonic_ns()
        return Context(
            settings=self.settings,
            kind=self.kind,
            chat=self.chat,
            request_id=self.request_id,
            call_id=self.request.headers.get("x-litellm-call-id", "")[:_MOST_ID],
            alias=self.alias,
            model=self.model,
            elapsed_ns=now_ns - (self.request.body_ns or now_ns),
            refusal=self.refusal,
            body_bytes=self._body_bytes,
            remaining=self.ledger.remaining if self.ledger else {},
            over=self.ledger.over if self.ledger else None,
            usage=self._usage,
        )

    def head(self, content: Headers) -> bytes:
        """The response's head: the id, what remains for the key, and `content`'s headers."""
        if self.ledger is not None:
            self.ledger.look_again()
        headers: Headers = [*self.style.headers(self._context()), *self._limit_headers(), *content]
        if not self.request.keep_alive:
            headers.append(("connection", "close"))
        elif not self.request.http11:
            headers.append(("connection", "keep-alive"))
        return head(self.status, headers, self.style.server)

    def _limit_headers(self) -> Headers:
        if self.ledger is None or self._rate_headers is None:
            return []
        return self._rate_headers.of(self.settings, self.kind, self.ledger)

    def answer(self, body: bytes, headers: Headers | None = None, facts: Mapping[str, Any] | None = None) -> None:
        """Send a whole response and end. `facts` are the tokens, as `end` takes them."""
        content: Headers = [*(headers or [])]
        self._usage = facts or {}
        self._body_bytes = len(body)
        if self.status != 204:
            content.append(("content-type", "application/json"))
            if self.faults is not None:
                head_only = self.request.method == "HEAD"
                FaultyAnswer(self, self.faults, body, content, facts, head_only=head_only).start()
                return
            content.append(("content-length", str(len(body))))
        sent_ns = self.connection.send(self.head(content) + (b"" if self.request.method == "HEAD" else body))
        self.end("complete", headers_sent_ns=sent_ns, last_sent_ns=sent_ns, facts=facts)
        self.connection.finish()

    def end(
        self,
        ended: str,
        *,
        headers_sent_ns: int | None = None,
        last_sent_ns: int | None = None,
        chunk_sent_ns: list[int] | None = None,
        lateness_ns: list[int] | None = None,
        blocked: int = 0,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the end line, once. `facts` are its tokens and what else is known of a completion."""
        if self.ended:
            return
        self.ended = True
        if ended == "client_gone" and self.connection.was_reset:
            ended = "reset"
        # What has not been settled by now has made no tokens.
        self.settle(0)
        self._truth.write(
            "end",
            {
                "n": self.number,
                "request_id": self.request_id,
                "status": self.status,
                "ended": ended,
                "headers_sent_ns": headers_sent_ns,
                "first_token_sent_ns": chunk_sent_ns[0] if chunk_sent_ns else None,
                "last_sent_ns": last_sent_ns,
                "chunk_sent_ns": chunk_sent_ns or [],
                "lateness_ns": lateness_ns or [],
                "blocked": blocked,
                "end_ns": time.monotonic_ns(),
                **_NO_TOKENS,
                **(facts or {}),
                **(self.ledger.ended() if self.ledger else NO_END),
            },
        )
