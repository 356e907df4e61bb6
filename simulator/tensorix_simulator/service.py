"""What the simulator answers: the documented contract, and the limits, keys and settings behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from tensorix_api.limiters import Charging, Cost, Decision
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest
from tensorix_simulator.chat.replies import Reply, ReplyMaker
from tensorix_simulator.completion import Completion
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.requests import Request
from tensorix_simulator.http.wire import Headers, encode_json
from tensorix_simulator.latency.modes import Latency
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.limits.key_limits import KeyLimits
from tensorix_simulator.limits.rate_headers import AnswerKind
from tensorix_simulator.settings import SimulatorSettings, alias_of
from tensorix_simulator.styles.litellm import LiteLLM
from tensorix_simulator.styles.style import Refusal, Style
from tensorix_simulator.styles.tensorix import Tensorix
from tensorix_simulator.truth import TruthLog

__all__ = ["Service"]

_STYLES: Mapping[str, type[Style]] = {"tensorix": Tensorix, "litellm": LiteLLM}


class Service:
    """Serves requests of all connections. Each key has limits of its own, from its first request on."""

    def __init__(self, settings: SimulatorSettings, truth: TruthLog, pacer: Pacer) -> None:
        self.settings = settings
        self._truth = truth
        self._replies = ReplyMaker()
        self._limits = KeyLimits(settings)
        self._style: Style = _STYLES[settings.style]()
        self._latency = Latency(pacer, settings)
        self._count = 0
        self.running: set[Completion] = set()
        """Completions that are not whole yet."""
        self.on_change: list[Callable[[SimulatorSettings], None]] = []
        """Told of other settings, besides."""

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other settings. What keys have used so far stays used; streams under way go on as planned."""
        self.settings = settings
        for told in self.on_change:
            told(settings)
        self._style = _STYLES[settings.style]()
        self._limits.change(settings)
        self._latency.change(settings)
        self._truth.write("settings", {"at_ns": time.monotonic_ns(), "settings": settings.to_dict()})

    def reset(self) -> None:
        """Forget what keys have used and which requests came before."""
        self._limits.forget()
        self._replies.forget()
        self._latency.forget()
        self._truth.write("reset", {"at_ns": time.monotonic_ns()})

    def stop(self) -> None:
        """Write the end of everything that is under way."""
        for completion in tuple(self.running):
            completion.stop()

    # Requests.

    def _exchange(self, request: Request, connection: Connection) -> Exchange:
        self._count += 1
        return Exchange(self._truth, request, connection, self._count, self.settings, self._style)

    def unserved(self, request: Request, connection: Connection) -> None:
        """Put down a request whose client went before it was whole, or before its turn came."""
        exchange = self._exchange(request, connection)
        exchange.decide("incomplete", 0)
        exchange.end("idle" if request.problem == "idle" else "client_gone")

    def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request, now or by and by."""
        exchange = self._exchange(request, connection)
        if request.problem is not None:
            exchange.refuse(_unreadable(request.problem, self.settings.max_body_bytes))
            return
        path, prefix = request.path, self.settings.prefix
        page = path[len(prefix) :] if path.startswith(prefix) else ""
        style = exchange.style
        allowed = style.methods(page)
        astray = _astray(request.method, path, allowed)
        exchange.chat = page == "/chat/completions"
        if request.method == "OPTIONS" and "OPTIONS" in allowed:
            exchange.decide("admitted", 204)
            exchange.answer(b"", [("allow", ", ".join(allowed))])
        elif astray is not None and style.routes_first:
            exchange.refuse(astray)
        elif not self._authorise(exchange):
            exchange.refuse(_UNAUTHORISED)
        elif astray is not None:
            exchange.refuse(astray)
        elif exchange.chat:
            self._chat(exchange)
        else:
            self._models(exchange, page.removeprefix("/models").removeprefix("/"))

    def _authorise(self, exchange: Exchange) -> bool:
        """Find the key's limits; False where the key is missing or not valid."""
        scheme, _, key = exchange.request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if not key:
            return False
        exchange.alias = alias = alias_of(key)
        valid = self.settings.valid_keys
        if scheme.lower() not in exchange.style.schemes or alias in self.settings.invalid_keys:
            return False
        if valid is not None and alias not in (*valid, *self.settings.no_credit_keys):
            return False
        exchange.belongs_to(alias, self._limits.of(alias))
        return True

    def _admit(self, exchange: Exchange, cost: Cost) -> bool:
        """Charge the key; where its limit is spent, answer with 429."""
        assert exchange.limiter is not None
        now_ns = time.monotonic_ns()
        decision = exchange.limiter.admit(now_ns, cost)
        exchange.grant = decision.grant
        if decision.admitted:
            return True
        if self.settings.counting.refused:
            exchange.limiter.charge(now_ns, Cost(1, 0))
        limits = {"requests": (self.settings.rpm, "RPM"), "tokens": (self.settings.tpm, "TPM")}
        limit, unit = limits[decision.binding or "requests"]
        exchange.refuse(
            Refusal(
                decision=f"refused_{decision.binding}",
                status=429,
                message=f"Rate limit exceeded: {limit} {unit} per API key. Please try again later.",
                code="rate_limit_exceeded",
                headers=self._retry_after(decision, now_ns),
            )
        )
        return False

    def _retry_after(self, decision: Decision, now_ns: int) -> Headers:
        if self.settings.retry_after == "fixed60":
            return [("retry-after", "60")]
        if self.settings.retry_after == "honest" and decision.retry_at_ns is not None:
            return [("retry-after", str(math.ceil((decision.retry_at_ns - now_ns) / 1e9)))]
        return []

    def _models(self, exchange: Exchange, name: str) -> None:
        """The list, or one model where a name is given."""
        if self.settings.counting.models and not self._admit(exchange, Cost(1, 0)):
            return
        if name and name not in self.settings.models:
            message = f"The model '{name[:200]}' does not exist."
            exchange.refuse(
                Refusal(
                    decision="not_found",
                    status=404,
                    message=message,
                    code="model_not_found",
                    param="model",
                    model=name[:200],
                )
            )
            return
        exchange.kind = AnswerKind.MODELS
        exchange.decide("admitted", 200)
        style = exchange.style
        exchange.answer(encode_json(style.model(name) if name else style.models(self.settings.models)))

    def _chat(self, exchange: Exchange) -> None:
        settings, body = self.settings, bytes(exchange.request.body)
        if exchange.alias in settings.no_credit_keys:
            exchange.refuse(_NO_CREDIT)
            return
        reading = exchange.style.read(body, settings)
        if reading.cost is not None and not self._admit(exchange, reading.cost):
            return
        request = reading.request
        if isinstance(request, BadParameter):
            # The request counts, where it does, its tokens do not.
            exchange.settle(0)
            exchange.refuse(_bad_request(request, reading.model))
            return
        charging, reserved = Charging(settings.charging), reading.cost.tokens if reading.cost else 0
        reply = self._replies.make(settings, body, request)
        if reply.fails:
            # The request counts, its tokens do not.
            exchange.settle(0)
            exchange.refuse(replace(_INJECTED, model=request.model))
            return
        exchange.model = request.model
        exchange.kind = AnswerKind.STREAM if request.stream else AnswerKind.COMPLETION
        completion = Completion(exchange, request, reply, charging, self.running)
        due = completion.token_due if request.stream else completion.whole_due
        start_ns = exchange.request.body_ns or time.monotonic_ns()
        ticket = self._latency.begin(
            start_ns, request.prompt_tokens, reply, due, whole=not request.stream, sequences=request.n
        )
        if ticket is None:
            exchange.settle(0)
            exchange.refuse(replace(_OVERLOADED, model=request.model))
            return
        exchange.decide("admitted", 200, _plan(request, reply, reserved))
        completion.start(ticket)


_UNAUTHORISED = Refusal(
    decision="unauthorised",
    status=401,
    message="Invalid API key provided",
    code="invalid_api_key",
)
_NO_CREDIT = Refusal(
    decision="no_credit",
    status=402,
    message="Insufficient credits: top up your account.",
    code="insufficient_credits",
)
_INJECTED = Refusal(
    decision="injected_error",
    status=500,
    message="The server had an error: try again later.",
    code="internal_error",
)
_OVERLOADED = Refusal(
    decision="overloaded",
    status=503,
    message="The server is overloaded: try again later.",
    code="overloaded",
)


def _astray(method: str, path: str, allowed: tuple[str, ...]) -> Refusal | None:
    """What to say to a path or method that there is not."""
    if not allowed:
        message = f"Invalid URL ({method} {path[:200]})"
        return Refusal(decision="not_found", status=404, message=message, code="not_found")
    if method in allowed:
        return None
    return Refusal(
        decision="not_allowed",
        status=405,
        message=f"Not allowed to {method} on {path[:200]}",
        code="method_not_allowed",
        headers=[("allow", ", ".join(allowed))],
    )


def _bad_request(bad: BadParameter, model: str | None) -> Refusal:
    return Refusal(decision="bad_request", status=400, message=bad.message, code=bad.code, param=bad.param, model=model)


def _unreadable(problem: str, most: int) -> Refusal:
    if problem == "too_large":
        message = f"The request body is larger than {most} bytes."
        return Refusal(decision="too_large", status=413, message=message, code="request_too_large")
    return Refusal(decision="malformed", status=400, message="The request is not valid HTTP.", code="invalid_http")


def _plan(request: ChatRequest, reply: Reply, reserved: int) -> dict[str, object]:
    return {
        "model": request.model,
        "stream": request.stream,
        "completions": request.n,
        "max_tokens": request.max_tokens,
        "prompt_tokens": request.prompt_tokens,
        "reply_tokens": reply.tokens,
        "reserved_tokens": reserved,
    }
