"""A chat completion on its way: token by token as they fall due, or whole at the last of them; then settled."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator
from typing import Any

from tensorix_api.limiters import Charging
from tensorix_simulator.chat.choices import Choice
from tensorix_simulator.chat.parameters import ChatRequest
from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.chat.words import CYCLE
from tensorix_simulator.delivery import Delivery
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.faults.faulty_delivery import FaultyDelivery
from tensorix_simulator.http.wire import Headers, encode_json
from tensorix_simulator.latency.timing import Ticket, TokenDue
from tensorix_simulator.styles.style import StreamEvents

__all__ = ["Completion"]


def _chunk(events: StreamEvents, number: int, choice: Choice, index: int) -> bytes:
    """The event of a choice's token; nothing where it has ended, or has nothing to show."""
    if index < choice.plain:
        return events.token(number, choice.token(index), index < choice.reasoning_tokens)
    if index >= choice.tokens or (delta := choice.script[index - choice.plain]) == {"content": ""}:
        return b""
    return events.delta(number, delta)


def _choice(number: int, choice: Choice) -> dict[str, Any]:
    return {"index": number, "message": choice.message(), "logprobs": None, "finish_reason": choice.finish_reason}


class Completion:
    """Answers one admitted request. Tokens are charged for what was made, also where the client goes early."""

    __slots__ = (
        "_charging", "_created", "_delivery", "_events", "_exchange", "_identity", "_reply", "_request", "_running",
        "_ticket", "_token",
    )  # fmt: skip

    def __init__(
        self, exchange: Exchange, request: ChatRequest, reply: Reply, charging: Charging, running: set[Completion]
    ) -> None:
        """`running` holds it from its start to its end."""
        self._exchange = exchange
        self._request = request
        self._reply = reply
        self._charging = charging
        self._running = running
        self._identity = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._delivery = Delivery(exchange.connection)
        self._events: StreamEvents | None = None
        self._ticket: Ticket | None = None
        self._token = 0

    def due(self) -> TokenDue:
        """What is to be called when a token is due, or when the whole is."""
        if not self._request.stream:
            return self.whole_due
        if len(self._reply.choices) == 1 and not self._reply.choices[0].script:
            words = self._words()
            next(words)
            # Not kept here: what is under way would hold itself, and the collector of cycles sleeps meanwhile.
            return words.send
        return self.token_due

    def start(self, ticket: Ticket) -> None:
        """Send the head of a stream; from now on tokens may fall due."""
        exchange, request = self._exchange, self._request
        self._ticket = ticket
        exchange.connection.on_gone = self._gone
        self._running.add(self)
        if not request.stream:
            return
        chunked = exchange.request.http11
        content: Headers = [("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache")]
        if chunked:
            content.append(("transfer-encoding", "chunked"))
        else:
            # Only the end of the connection can end such a body.
            exchange.request.keep_alive = False
            exchange.connection.close_after()
        self._events = events = exchange.style.stream(
            identity=self._identity,
            created=self._created,
            model=request.model,
            n=request.n,
            include_usage=request.include_usage,
            chunked=chunked,
        )
        if exchange.faults is not None:
            self._delivery = FaultyDelivery(
                exchange.connection,
                exchange.faults,
                chunked=chunked,
                error_event=exchange.error_body,
                on_broken=self._gone,
            )
        roles = b"".join(events.role(choice) for choice in range(request.n))
        self._delivery.begin(exchange.head(content), roles)

    def token_due(self, due_ns: int) -> bool:
        """Send the next token of each choice; returns whether there are more."""
        index, events = self._token, self._events
        assert events is not None
        choices = enumerate(self._reply.choices)
        data = b"".join(_chunk(events, number, choice, index) for number, choice in choices)
        self._token = index + 1
        # Nothing is shown of a token that only ends a text.
        if data:
            self._delivery.token(due_ns, data)
        if self._token < self._reply.tokens:
            return True
        self._finish_stream(events)
        return False

    def _words(self) -> Generator[bool, int, None]:
        """`token_due` for one choice of plain words, which is nearly every stream: a few calls less for each chunk."""
        due_ns = yield True
        events, choice = self._events, self._reply.choices[0]
        assert events is not None
        token, send = events.token, self._delivery.token
        start, reasoning = choice.start, choice.reasoning_tokens
        for index in range(choice.plain - 1):
            self._token = index + 1
            send(due_ns, token(0, (start + index) % CYCLE, index < reasoning))
            due_ns = yield True
        self._token = choice.plain
        send(due_ns, token(0, choice.token(choice.plain - 1), choice.plain <= reasoning))
        self._finish_stream(events)
        yield False

    def _finish_stream(self, events: StreamEvents) -> None:
        if self._exchange.faults is None:
            # Else the stream may be stalled, and is in flight until its end.
            self._settle()
        parts = [events.finish(number, choice.finish_reason) for number, choice in enumerate(self._reply.choices)]
        if self._request.include_usage:
            parts.append(events.usage(self._usage()))
        self._delivery.finish(b"".join(parts) + events.done(), self._streamed)

    def _streamed(self, sent_ns: int) -> None:
        self._settle()
        self._end("complete", sent_ns)
        self._exchange.connection.finish()

    def whole_due(self, due_ns: int) -> bool:
        """Send a reply that is not streamed."""
        self._token = self._reply.tokens
        self._settle()
        body = self._exchange.style.completion(
            identity=self._identity,
            created=self._created,
            model=self._request.model,
            choices=[_choice(number, choice) for number, choice in enumerate(self._reply.choices)],
            usage=self._usage(),
        )
        self._running.discard(self)
        self._exchange.answer(encode_json(body), facts=self._facts())
        return False

    def _counts(self) -> dict[str, int]:
        """What was made so far, of all choices."""
        made, choices = self._token, self._reply.choices
        return {
            "prompt_tokens": self._request.prompt_tokens,
            "completion_tokens": sum(min(made, choice.tokens) for choice in choices),
            "reasoning_tokens": sum(min(made, choice.reasoning_tokens) for choice in choices),
        }

    def _facts(self) -> dict[str, Any]:
        return {**self._counts(), "queue_ns": self._ticket.queue_ns if self._ticket else 0}

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
        counts = self._counts()
        self._exchange.spend(counts["prompt_tokens"] + counts["completion_tokens"])
        self._exchange.settle(self._charging.settled(counts["prompt_tokens"], counts["completion_tokens"]))

    def _end(self, ended: str, last_sent_ns: int | None) -> None:
        self._running.discard(self)
        delivery = self._delivery
        delivery.stop()
        self._exchange.end(
            ended,
            headers_sent_ns=delivery.headers_ns,
            last_sent_ns=last_sent_ns,
            chunk_sent_ns=delivery.sent_ns.tolist(),
            lateness_ns=delivery.lateness_ns.tolist(),
            blocked=delivery.blocked,
            facts=self._facts(),
        )

    def _gone(self, ended: str = "client_gone") -> None:
        """The client closed, or the simulator stops, before the reply was whole."""
        if self._ticket is not None:
            self._ticket.cancel()
        self._settle()
        self._end(ended, self._delivery.last_ns)

    def stop(self) -> None:
        """The simulator stops."""
        self._gone("stopped")
