"""What the simulator answers: the documented contract, and the limits, keys and settings behind it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from tensorix_api.limiters import AllOf, Charging, Cost, Decision, FixedWindow, Limiter
from tensorix_simulator.chat.completion import Completion
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest, read_chat_request
from tensorix_simulator.chat.replies import Reply, ReplyMaker
from tensorix_simulator.http.requests import Request
from tensorix_simulator.settings import SimulatorSettings, alias_of
from tensorix_simulator.truth import TruthLog
from tensorix_simulator.http.wire import Headers, encode_json, error_body

__all__ = ["Service"]

_LISTED_SINCE = 1_735_689_600
_SERVED: Mapping[str, tuple[str, ...]] = {
    "/chat/completions": ("POST", "OPTIONS"),
    "/models": ("GET", "HEAD", "OPTIONS"),
}


class Service:
    """Serves requests of all connections. Each key has limits of its own, from its first request on."""

    def __init__(self, settings: SimulatorSettings, truth: TruthLog, pacer: Pacer) -> None:
        self.settings = settings
        self._truth = truth
        self._pacer = pacer
        self._replies = ReplyMaker()
        self._limiters: dict[str, AllOf] = {}
        self._count = 0
        self.running: set[Completion] = set()
        """Completions that are not whole yet."""

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other settings. What keys have used so far stays used; streams under way go on as planned."""
        self.settings = settings
        self._limiters = {alias: self._limits(old) for alias, old in self._limiters.items()}
        self._truth.write("settings", {"at_ns": time.monotonic_ns(), "settings": settings.to_dict()})

    def reset(self) -> None:
        """Forget what keys have used and which requests came before."""
        self._limiters.clear()
        self._replies.forget()
        self._truth.write("reset", {"at_ns": time.monotonic_ns()})

    def stop(self) -> None:
        """Write the end of everything that is under way."""
        for completion in tuple(self.running):
            completion.stop()

    def _limits(self, old: AllOf | None = None) -> AllOf:
        """A key's limits as they are set now; windows that `old` has are kept, with the new limit and length."""
        kept = {limiter.name: limiter for limiter in old.limiters} if old else {}
        limiters: list[Limiter] = []
        for resource, limit in (("requests", self.settings.rpm), ("tokens", self.settings.tpm)):
            if limit is None:
                continue
            window = kept.get(resource)
            if not isinstance(window, FixedWindow):
                window = FixedWindow("requests" if resource == "requests" else "tokens", limit, self.settings.window_ns)
            window.limit, window.window_ns = limit, self.settings.window_ns
            limiters.append(window)
        return AllOf(limiters)

    # Requests.

    def _exchange(self, request: Request, connection: Connection) -> Exchange:
        self._count += 1
        return Exchange(self._truth, request, connection, self._count)

    def unserved(self, request: Request, connection: Connection) -> None:
        """Put down a request whose client went before it was whole, or before its turn came."""
        exchange = self._exchange(request, connection)
        exchange.decide("incomplete", 0)
        exchange.end("client_gone")

    def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request, now or by and by."""
        exchange = self._exchange(request, connection)
        if request.problem == "too_large":
            most = self.settings.max_body_bytes
            _refuse(exchange, "too_large", 413, f"The request body is larger than {most} bytes.", "request_too_large")
            return
        if request.problem is not None:
            _refuse(exchange, "malformed", 400, "The request is not valid HTTP.", "invalid_http")
            return
        path, prefix = request.path, self.settings.prefix
        allowed = _SERVED.get(path[len(prefix) :]) if path.startswith(prefix) else None
        if allowed is not None and request.method == "OPTIONS":
            exchange.decide("admitted", 204)
            exchange.answer(b"", [("allow", ", ".join(allowed))])
        elif not self._authorise(exchange):
            _refuse(exchange, "unauthorised", 401, "Invalid API key provided", "invalid_api_key")
        elif allowed is None:
            _refuse(exchange, "not_found", 404, f"Invalid URL ({request.method} {path[:200]})", "not_found")
        elif request.method not in allowed:
            message = f"Not allowed to {request.method} on {path[:200]}"
            _refuse(exchange, "not_allowed", 405, message, "method_not_allowed", [("allow", ", ".join(allowed))])
        elif request.method == "POST":
            self._chat(exchange)
        else:
            self._models(exchange)

    def _authorise(self, exchange: Exchange) -> bool:
        """Find the key's limits; False where the key is missing or not valid."""
        scheme, _, key = exchange.request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if not key:
            return False
        exchange.alias = alias_of(key)
        valid = self.settings.valid_keys
        if scheme.lower() != "bearer" or exchange.alias in self.settings.invalid_keys:
            return False
        if valid is not None and exchange.alias not in (*valid, *self.settings.no_credit_keys):
            return False
        if exchange.alias not in self._limiters:
            self._limiters[exchange.alias] = self._limits()
        exchange.limiter = self._limiters[exchange.alias]
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
        message = f"Rate limit exceeded: {limit} {unit} per API key. Please try again later."
        headers = self._retry_after(decision, now_ns)
        _refuse(exchange, f"refused_{decision.binding}", 429, message, "rate_limit_exceeded", headers)
        return False

    def _retry_after(self, decision: Decision, now_ns: int) -> Headers:
        if self.settings.retry_after == "fixed60":
            return [("retry-after", "60")]
        if self.settings.retry_after == "honest" and decision.retry_at_ns is not None:
            return [("retry-after", str(math.ceil((decision.retry_at_ns - now_ns) / 1e9)))]
        return []

    def _models(self, exchange: Exchange) -> None:
        if self.settings.counting.models and not self._admit(exchange, Cost(1, 0)):
            return
        exchange.decide("admitted", 200)
        listed = [
            {"id": name, "object": "model", "created": _LISTED_SINCE, "owned_by": name.split("/")[0]}
            for name in self.settings.models
        ]
        exchange.answer(encode_json({"object": "list", "data": listed}))

    def _chat(self, exchange: Exchange) -> None:
        settings, body = self.settings, bytes(exchange.request.body)
        if exchange.alias in settings.no_credit_keys:
            _refuse(exchange, "no_credit", 402, "Insufficient credits: top up your account.", "insufficient_credits")
            return
        request = read_chat_request(body, settings)
        if isinstance(request, BadParameter):
            if not settings.counting.bad_requests or self._admit(exchange, Cost(1, 0)):
                _refuse(exchange, "bad_request", 400, request.message, request.code, param=request.param)
            return
        charging = Charging(settings.charging)
        most = (request.max_tokens or settings.default_max_tokens) * request.n
        reserved = charging.reserved(request.prompt_tokens, most)
        if not self._admit(exchange, Cost(1, reserved)):
            return
        reply = self._replies.make(settings, body, request)
        if reply.fails:
            self._fail(exchange)
            return
        exchange.decide("admitted", 200, _plan(request, reply, reserved))
        Completion(exchange, request, reply, charging, self._pacer, self.running).start()

    def _fail(self, exchange: Exchange) -> None:
        """An injected error: the request counts, its tokens do not."""
        if exchange.limiter is not None and exchange.grant is not None:
            exchange.limiter.settle(time.monotonic_ns(), exchange.grant, Cost(exchange.grant.cost.requests, 0))
        _refuse(exchange, "injected_error", 500, "The server had an error: try again later.", "internal_error")


_KINDS = {401: "authentication_error", 402: "insufficient_credits", 429: "rate_limit_error", 500: "server_error"}


def _refuse(
    exchange: Exchange,
    decision: str,
    status: int,
    message: str,
    code: str,
    headers: Headers | None = None,
    param: str | None = None,
) -> None:
    exchange.decide(decision, status)
    exchange.answer(error_body(message, _KINDS.get(status, "invalid_request_error"), code, param), headers)


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
