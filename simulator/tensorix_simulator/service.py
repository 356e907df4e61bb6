"""What the simulator answers: the documented contract, and the limits, keys and settings behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from tensorix_api.errors import SettingsError
from tensorix_api.limiters import Charging, Cost
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest
from tensorix_simulator.chat.replies import Reply, ReplyMaker
from tensorix_simulator.completion import Completion
from tensorix_simulator.exchange import Exchange
from tensorix_simulator.faults.choice import HEADER, FaultChoice
from tensorix_simulator.faults.credit import Credit
from tensorix_simulator.faults.fault_text import Fault, FaultKind
from tensorix_simulator.faults.injected import INJECTED_ERROR, injected_refusal
from tensorix_simulator.faults.schedule import Door, Outages
from tensorix_simulator.http.connection import Connection
from tensorix_simulator.http.requests import Request
from tensorix_simulator.http.wire import encode_json
from tensorix_simulator.latency.modes import Latency
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.limits.admission import Admission
from tensorix_simulator.limits.rate_headers import AnswerKind
from tensorix_simulator.refusals import NO_CREDIT, OVERLOADED, UNAUTHORISED, astray_refusal, bad_request, unreadable
from tensorix_simulator.settings import SimulatorSettings, alias_of
from tensorix_simulator.styles.litellm import LiteLLM
from tensorix_simulator.styles.style import Reading, Refusal, Style
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
        self._admission = Admission(settings, pacer)
        self._style: Style = _STYLES[settings.style]()
        self._latency = Latency(pacer, settings)
        self._credit = Credit()
        self._pacer = pacer
        self.faults = FaultChoice(settings, pacer, time.monotonic_ns())
        self._outages: Outages | None = None
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
        self._admission.change(settings)
        self._latency.change(settings)
        self._truth.write("settings", {"at_ns": time.monotonic_ns(), "settings": settings.to_dict()})
        self.faults.change(settings)
        self._follow_outages()

    def reset(self) -> None:
        """Forget what keys have used and which requests came before."""
        self._admission.forget()
        self._replies.forget()
        self._latency.forget()
        self._credit.forget()
        at_ns = time.monotonic_ns()
        self._truth.write("reset", {"at_ns": at_ns})
        self.faults.forget(at_ns)
        self._follow_outages()

    def begin(self, door: Door, at_ns: int) -> None:
        """From now on scheduled faults count, from `at_ns`; outages close the door."""
        self.faults.since_ns = at_ns
        self._outages = Outages(self._pacer, door, self._tell_outage)
        self._follow_outages()

    def _follow_outages(self) -> None:
        if self._outages is not None:
            self._outages.set(self.faults.of_server, self.faults.since_ns)

    def _tell_outage(self, what: str, at_ns: int, fault: Fault) -> None:
        self._truth.write("outage", {"at_ns": at_ns, "what": what, "fault": fault.text})

    def stop(self) -> None:
        """Write the end of everything that is under way."""
        self._admission.stop()
        for completion in tuple(self.running):
            completion.stop()
        for answer in tuple(self.faults.held):
            answer.stop()

    # Requests.

    def _exchange(self, request: Request, connection: Connection) -> Exchange:
        self._count += 1
        return Exchange(self._truth, request, connection, self._count, self.settings, self._style)

    def unserved(self, request: Request, connection: Connection) -> None:
        """Put down a request whose connection ended before it was whole, or before its turn came."""
        exchange = self._exchange(request, connection)
        if request.slow is not None:
            exchange.faults = self.faults.of_reading(request)
        exchange.decide("incomplete", 0)
        exchange.end(request.problem if request.problem in ("idle", "unanswered") else "client_gone")

    def serve(self, request: Request, connection: Connection) -> None:
        """Answer one request, now or by and by."""
        exchange = self._exchange(request, connection)
        # Before anything is refused: what remains is said on every response of a key that is known.
        authorised = request.problem != "malformed" and self._authorise(exchange)
        if request.problem is not None:
            exchange.refuse(unreadable(request.problem, self.settings.max_body_bytes))
            return
        try:
            exchange.faults = self.faults.plan(request)
        except SettingsError as error:
            exchange.refuse(
                Refusal(decision="bad_request", status=400, message=str(error), code="invalid_fault", param=HEADER)
            )
            return
        path, prefix = request.path, self.settings.prefix
        page = path[len(prefix) :] if path.startswith(prefix) else ""
        style = exchange.style
        allowed = style.methods(page)
        astray = astray_refusal(request.method, path, allowed)
        exchange.chat = page == "/chat/completions"
        if request.method == "OPTIONS" and "OPTIONS" in allowed:
            exchange.decide("admitted", 204)
            exchange.answer(b"", [("allow", ", ".join(allowed))])
        elif astray is not None and style.routes_first:
            exchange.refuse(astray)
        elif not authorised:
            exchange.refuse(UNAUTHORISED)
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
        self._admission.identify(exchange, alias)
        return True

    def _models(self, exchange: Exchange, name: str) -> None:
        """The list, or one model where a name is given."""
        if self.settings.counting.models:
            self._admission.ask(exchange, Cost(1, 0), None, lambda: self._list(exchange, name))
        else:
            self._list(exchange, name)

    def _list(self, exchange: Exchange, name: str) -> None:
        models = self.faults.settings_at(exchange.request.arrival_ns).models
        if name and name not in models:
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
        if self._inject(exchange):
            return
        exchange.kind = AnswerKind.MODELS
        exchange.decide("admitted", 200)
        style = exchange.style
        exchange.answer(encode_json(style.model(name) if name else style.models(models)))

    def _chat(self, exchange: Exchange) -> None:
        settings = self.faults.settings_at(exchange.request.arrival_ns)
        body = bytes(exchange.request.body)
        reading = exchange.style.read(body, settings)
        if self._without_credit(exchange):
            exchange.refuse(replace(NO_CREDIT, model=reading.model))
            return
        if reading.cost is not None:
            self._admission.ask(exchange, reading.cost, reading.model, lambda: self._complete(exchange, reading, body))
        else:
            self._complete(exchange, reading, body)

    def _complete(self, exchange: Exchange, reading: Reading, body: bytes) -> None:
        """Answer a chat completion that the limits let pass."""
        settings, request = exchange.settings, reading.request
        if isinstance(request, BadParameter):
            # The request counts, where it does, its tokens do not.
            exchange.settle(0)
            exchange.refuse(bad_request(request, reading.model))
            return
        charging, reserved = Charging(settings.charging), reading.cost.tokens if reading.cost else 0
        reply = self._replies.make(settings, request)
        if reply.fails:
            # The request counts, its tokens do not.
            exchange.settle(0)
            exchange.refuse(replace(INJECTED_ERROR, model=request.model))
            return
        exchange.model = request.model
        if self._inject(exchange):
            return
        exchange.credit = self._credit
        exchange.kind = AnswerKind.STREAM if request.stream else AnswerKind.COMPLETION
        completion = Completion(exchange, request, reply, charging, self.running)
        waited = exchange.ledger is not None and exchange.ledger.waited_ns
        start_ns = (not waited and exchange.request.body_ns) or time.monotonic_ns()
        ticket = self._latency.begin(
            start_ns, request.prompt_tokens, reply, completion.due(), whole=not request.stream, sequences=request.n
        )
        if ticket is None:
            exchange.settle(0)
            exchange.refuse(replace(OVERLOADED, model=request.model))
            return
        exchange.decide("admitted", 200, _plan(request, reply, reserved))
        completion.start(ticket)

    def _without_credit(self, exchange: Exchange) -> bool:
        settings = exchange.settings
        if exchange.alias in settings.no_credit_keys or self._credit.spent(exchange.alias, settings.credit_tokens):
            return True
        exchange.injected = exchange.faults.of(FaultKind.OUT_OF_CREDIT) if exchange.faults else None
        return exchange.injected is not None

    def _inject(self, exchange: Exchange) -> bool:
        """Answer as a fault wants it, where one does. The request counts, its tokens do not."""
        fault = exchange.faults.instead if exchange.faults else None
        if fault is None:
            return False
        exchange.injected = fault
        exchange.settle(0)
        if fault.kind is FaultKind.RESET:
            exchange.decide("injected_reset", 0)
            exchange.end("reset")
            exchange.connection.reset()
        else:
            exchange.refuse(injected_refusal(fault.status, exchange.settings.retry_after, exchange.model or None))
        return True


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
