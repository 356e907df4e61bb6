"""A chat completion on its way out: streamed token by token at its due times, or whole at the last of them."""

from __future__ import annotations

import time
import uuid
from typing import Any

from tensorix_api.limiters import Charging, Cost
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.chat.parameters import ChatRequest
from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.http.wire import Headers, StreamText, encode_json

__all__ = ["Completion"]

_BLOCKED_WAIT_NS = 2_000_000


class Completion:
    """Answers one admitted request. Tokens are charged for what was sent, also where the client goes early."""

    __slots__ = (
        "_blocked", "_charging", "_created", "_exchange", "_headers_ns", "_held_ns", "_identity", "_lateness", "_pacer",
        "_reply", "_request", "_running", "_sent", "_text", "_token",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        request: ChatRequest,
        reply: Reply,
        charging: Charging,
        pacer: Pacer,
        running: set[Completion],
    ) -> None:
        """`running` holds it from its start to its end."""
        self._exchange = exchange
        self._request = request
        self._reply = reply
        self._charging = charging
        self._pacer = pacer
        self._running = running
        self._identity = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._text: StreamText | None = None
        self._token = 0
        self._headers_ns: int | None = None
        self._sent: list[int] = []
        self._lateness: list[int] = []
        self._blocked = 0
        self._held_ns: int | None = None

    def start(self) -> None:
        """Send the head of a stream, and plan the rest."""
        exchange, request, reply = self._exchange, self._request, self._reply
        exchange.connection.on_gone = self._gone
        self._running.add(self)
        start_ns = exchange.request.body_ns or time.monotonic_ns()
        if not request.stream:
            self._pacer.add(start_ns + reply.ttft_ns + reply.rest_ns(), self._send_whole)
            return
        chunked = exchange.request.http11
        content: Headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        if chunked:
            content.append(("transfer-encoding", "chunked"))
        else:
            # Only the end of the connection can end such a body.
            exchange.request.keep_alive = False
            exchange.connection.close_after()
        self._text = StreamText(
            identity=self._identity,
            created=self._created,
            model=request.model,
            n=request.n,
            include_usage=request.include_usage,
            chunked=chunked,
        )
        roles = b"".join(self._text.role(choice) for choice in range(request.n))
        self._headers_ns = exchange.connection.send(exchange.head(content) + roles)
        self._pacer.add(start_ns + reply.ttft_ns, self._send_token)

    def _send_token(self, due_ns: int) -> int | None:
        """Send the next token of each choice; returns when the one after it is due."""
        exchange, reply, index = self._exchange, self._reply, self._token
        if exchange.ended:
            return None
        connection, text = exchange.connection, self._text
        if connection.blocked:
            self._blocked += 1
            self._held_ns = due_ns if self._held_ns is None else self._held_ns
            return time.monotonic_ns() + _BLOCKED_WAIT_NS
        if self._held_ns is not None:
            due_ns, self._held_ns = self._held_ns, None
        assert text is not None
        reasoning = index < reply.reasoning_tokens
        if self._request.n == 1:
            data = text.token(0, reply.token(0, index), reasoning)
        else:
            data = b"".join(
                text.token(choice, reply.token(choice, index), reasoning) for choice in range(self._request.n)
            )
        sent_ns = connection.send(data)
        self._sent.append(sent_ns)
        self._lateness.append(sent_ns - due_ns)
        self._token = index + 1
        if self._token < reply.tokens:
            return due_ns + int(reply.next_gap_ns())
        self._finish_stream(text)
        return None

    def _finish_stream(self, text: StreamText) -> None:
        self._settle()
        parts = [text.finish(choice, self._reply.finish_reason) for choice in range(self._request.n)]
        if self._request.include_usage:
            parts.append(text.usage(self._usage()))
        sent_ns = self._exchange.connection.send(b"".join(parts) + text.done())
        self._end("complete", sent_ns)
        self._exchange.connection.finish()

    def _send_whole(self, due_ns: int) -> None:
        """Send a reply that is not streamed."""
        if self._exchange.ended:
            return
        self._token = self._reply.tokens
        self._settle()
        body = {
            "id": self._identity,
            "object": "chat.completion",
            "created": self._created,
            "model": self._request.model,
            "choices": [self._choice(index) for index in range(self._request.n)],
            "usage": self._usage(),
        }
        self._running.discard(self)
        self._exchange.answer(encode_json(body), counts=self._counts())

    def _choice(self, index: int) -> dict[str, Any]:
        reply = self._reply
        message: dict[str, Any] = {"role": "assistant"}
        if reply.reasoning_tokens:
            message["reasoning_content"] = reply.text(index, 0, reply.reasoning_tokens)
        message["content"] = reply.text(index, reply.reasoning_tokens, reply.tokens)
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}

    def _counts(self) -> dict[str, int]:
        """What was sent so far, of all choices."""
        n = self._request.n
        return {
            "prompt_tokens": self._request.prompt_tokens,
            "completion_tokens": self._token * n,
            "reasoning_tokens": min(self._token, self._reply.reasoning_tokens) * n,
        }

    def _usage(self) -> dict[str, Any]:
        counts = self._counts()
        usage: dict[str, Any] = {
            "prompt_tokens": counts["prompt_tokens"],
            "completion_tokens": counts["completion_tokens"],
            "total_tokens": counts["prompt_tokens"] + counts["completion_tokens"],
        }
        if counts["reasoning_tokens"]:
            usage["completion_tokens_details"] = {"reasoning_tokens": counts["reasoning_tokens"]}
        return usage

    def _settle(self) -> None:
        exchange, counts = self._exchange, self._counts()
        if exchange.limiter is not None and exchange.grant is not None:
            tokens = self._charging.settled(counts["prompt_tokens"], counts["completion_tokens"])
            actual = Cost(exchange.grant.cost.requests, tokens)
            exchange.limiter.settle(time.monotonic_ns(), exchange.grant, actual)
            exchange.grant = None

    def _end(self, ended: str, last_sent_ns: int | None) -> None:
        self._running.discard(self)
        self._exchange.end(
            ended,
            headers_sent_ns=self._headers_ns,
            last_sent_ns=last_sent_ns,
            chunk_sent_ns=self._sent,
            lateness_ns=self._lateness,
            blocked=self._blocked,
            counts=self._counts(),
        )

    def _gone(self, ended: str = "client_gone") -> None:
        """The client closed, or the simulator stops, before the reply was whole."""
        self._settle()
        self._end(ended, self._sent[-1] if self._sent else self._headers_ns)

    def stop(self) -> None:
        """The simulator stops."""
        self._gone("stopped")
