"""Who is hit: by time, by what a request asks for, and by rate.

A rate is decided by the simulator's seed, the request (method, target and body), how often that came before, and the
fault's text. So the same requests meet the same faults, in whatever order connections bring them, and a fault that is
added leaves the others' victims alone.
"""

from __future__ import annotations

import hashlib
import json
from copy import copy

from tensorix_api.errors import SettingsError
from tensorix_simulator.faults.fault_text import Fault, FaultKind, parse_fault, parse_header
from tensorix_simulator.faults.plan import Plan, Stalled
from tensorix_simulator.http.requests import Request
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["HEADER", "FaultChoice"]

HEADER = "x-simulator-fault"
"""By which a request asks for faults of its own."""

_MOST_REQUESTS = 100_000
_CHAT, _MODELS = "/chat/completions", "/models"
_OF_MODELS = (FaultKind.VANISH, FaultKind.APPEAR)
_OF_SERVER = (FaultKind.REFUSE, FaultKind.OUTAGE)


class FaultChoice:
    """Chooses, by the settings as they are."""

    def __init__(self, settings: SimulatorSettings, pacer: Pacer, since_ns: int) -> None:
        """Scheduled times count from `since_ns`."""
        self._pacer = pacer
        self.since_ns = since_ns
        self.held: set[Stalled] = set()
        """Whole bodies that are stalled."""
        self._seen: dict[bytes, int] = {}
        self.change(settings)

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other settings."""
        faults = [parse_fault(text) for text in settings.faults]
        self._settings = settings
        self.of_server = tuple(fault for fault in faults if fault.kind in _OF_SERVER)
        self._of_models = [fault for fault in faults if fault.kind in _OF_MODELS]
        self._slow = [fault for fault in faults if fault.kind is FaultKind.SLOW_READING]
        away = (*_OF_SERVER, *_OF_MODELS, FaultKind.SLOW_READING)
        self._of_requests = [fault for fault in faults if fault.kind not in away]
        self._with_models: dict[tuple[str, ...], SimulatorSettings] = {}

    def forget(self, since_ns: int) -> None:
        """As if no request had come yet and the simulator had just started."""
        self.since_ns = since_ns
        self._seen.clear()

    def read_head(self, request: Request) -> None:
        """Say whether a request's body, which is still to come, is read slowly."""
        asked = request.headers.get(HEADER) if self._settings.fault_header else None
        if not self._slow and asked is None:
            return
        faults = list(self._slow)
        if asked is not None and "slow" in asked:
            try:
                faults += [fault for fault in parse_header(asked) if fault.kind is FaultKind.SLOW_READING]
            except SettingsError:
                return
        chosen = self._chosen(faults, request, self._page(request), with_body=False)
        if chosen:
            request.slow, request.bytes_per_s = chosen[0].text, chosen[0].bytes_per_s

    def plan(self, request: Request) -> Plan | None:
        """The faults that hit a request; None for none. Raises SettingsError for what its header asks wrongly."""
        asked = request.headers.get(HEADER) if self._settings.fault_header else None
        if (not self._of_requests and asked is None and request.slow is None) or request.method == "OPTIONS":
            return None
        faults = list(self._of_requests)
        if asked is not None:
            faults += [fault for fault in parse_header(asked) if fault.kind is not FaultKind.SLOW_READING]
        chosen = self._chosen(faults, request, self._page(request))
        if request.slow is not None:
            chosen.insert(0, parse_fault(request.slow))
        return Plan(tuple(chosen), self._pacer, self.held) if chosen else None

    def of_reading(self, request: Request) -> Plan | None:
        """Only that it was read slowly, of a request that never was whole."""
        return None if request.slow is None else Plan((parse_fault(request.slow),), self._pacer, self.held)

    def _page(self, request: Request) -> str:
        page = request.path.removeprefix(self._settings.prefix)
        if page == _CHAT:
            return "chat"
        return "models" if page == _MODELS or page.startswith(_MODELS + "/") else ""

    def _chosen(self, faults: list[Fault], request: Request, page: str, *, with_body: bool = True) -> list[Fault]:
        elapsed_ns = request.arrival_ns - self.since_ns
        held = [fault for fault in faults if fault.holds(elapsed_ns) and fault.on in ("all", page)]
        if any(fault.kind is FaultKind.OUT_OF_CREDIT for fault in held) and page != "chat":
            held = [fault for fault in held if fault.kind is not FaultKind.OUT_OF_CREDIT]
        if any(fault.model is not None for fault in held):
            model = _model(request.body) if page == "chat" else None
            held = [fault for fault in held if fault.model is None or fault.model == model]
        if all(fault.rate >= 1 for fault in held):
            return held
        drawn = self._drawn(request, with_body)
        return [fault for fault in held if fault.rate >= 1 or _share(drawn + fault.text.encode()) < fault.rate]

    def _drawn(self, request: Request, with_body: bool) -> bytes:
        """What the draws of this request start from: other bytes each time that it comes."""
        digest = hashlib.blake2b(request.method.encode() + b" " + request.target + b" ", digest_size=16)
        digest.update(request.body if with_body else request.headers.get("content-length", "").encode() + b" head")
        key = digest.digest()
        if len(self._seen) >= _MOST_REQUESTS:
            self._seen.clear()
        times = self._seen.get(key, 0)
        self._seen[key] = times + 1
        return b"%d %d %s " % (self._settings.seed, times, key)

    def settings_at(self, now_ns: int) -> SimulatorSettings:
        """The settings with the models that are there at a time."""
        if not self._of_models:
            return self._settings
        elapsed_ns, names = now_ns - self.since_ns, list(self._settings.models)
        for fault in self._of_models:
            there = fault.holds(elapsed_ns) is (fault.kind is FaultKind.APPEAR)
            if fault.name in names and not there:
                names.remove(fault.name)
            elif fault.name not in names and there and fault.kind is FaultKind.APPEAR:
                names.append(fault.name)
        models = tuple(names)
        if models not in self._with_models:
            # A copy rather than a replacement: all models may be gone, which no setting could say.
            self._with_models[models] = settings = copy(self._settings)
            object.__setattr__(settings, "models", models)
        return self._with_models[models]


def _share(text: bytes) -> float:
    """A number from 0 to 1 that follows from the text."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64


def _model(body: bytearray) -> str | None:
    try:
        data = json.loads(bytes(body))
    except (ValueError, RecursionError):
        return None
    model = data.get("model") if isinstance(data, dict) else None
    return model if isinstance(model, str) else None
