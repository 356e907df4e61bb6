"""Putting the hooks in and taking them out: on one client, or on the classes of all."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib import import_module
from types import MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from tensorix_api.errors import SettingsError
from tensorix_tracing._httpx import HTTP_MODULES, traced_async_send, traced_send
from tensorix_tracing._openai import traced_async_request, traced_request
from tensorix_tracing._others import OURS
from tensorix_tracing._settings import settings_from
from tensorix_tracing._telemetry import Telemetry
from tensorix_tracing._watch import OPEN, end_at_exit

__all__ = ["instrument", "uninstrument"]

log = logging.getLogger("tensorix_tracing")

_MISSING: Any = object()


class _Hook:
    """One attribute of a client or a class, replaced; `take_out` puts things back as they were."""

    def __init__(self, on: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        # The hook and what it took the place of are held by each other and by what it is on, here weakly: a bound
        # method would keep its client alive.
        self._on = ref(on)
        self._name = name
        original = getattr(on, name) if isinstance(on, type) else _unbound(on, name)
        function = wraps(original)(wrap(original))
        setattr(function, OURS, vars(on).get(name, _MISSING))
        self._function = ref(function)
        # Bound by the interpreter itself, so that a client's hook costs no frame more than a class's.
        setattr(on, name, function if isinstance(on, type) else MethodType(function, on))

    def take_out(self) -> None:
        """Nothing is done where somebody else has hooked in on top since."""
        on, function = self._on(), self._function()
        if on is None or function is None:
            return
        there = vars(on).get(self._name)
        if getattr(there, "__func__", there) is not function:
            return
        before = getattr(function, OURS)
        if before is _MISSING:
            delattr(on, self._name)
        else:
            setattr(on, self._name, before)


def _unbound(client: Any, name: str) -> Callable[..., Any]:
    """A client's method as a function that takes the client first; one that stands in the client itself goes before."""
    own = vars(client).get(name)
    if own is None:
        function: Callable[..., Any] = getattr(type(client), name)
        return function

    @wraps(own)
    def without_client(_: Any, *arguments: Any, **named: Any) -> Any:
        return own(*arguments, **named)

    return without_client


class _HttpHook:
    """The hook on one HTTP client, which openai clients may share and which may be traced for itself besides."""

    def __init__(self, client: Any) -> None:
        self.telemetry: Telemetry | None = None
        self.users: WeakSet[Any] = WeakSet()
        self._hook = _hook_send(client, lambda: self.telemetry)

    def take_out(self) -> None:
        """Nobody needs it any more."""
        self.telemetry = None
        self._hook.take_out()


class _Traced:
    """What was put on one client; `is_copy` of one that was instrumented, by `with_options`."""

    def __init__(self, telemetry: Telemetry, hooks: list[_Hook], http_client: Any, *, is_copy: bool) -> None:
        self.telemetry = telemetry
        self.is_copy = is_copy
        self.hooks = hooks
        self.http_client = ref(http_client)


_traced: WeakKeyDictionary[Any, _Traced] = WeakKeyDictionary()
_http_hooks: WeakKeyDictionary[Any, _HttpHook] = WeakKeyDictionary()
_everywhere: list[tuple[Telemetry, list[_Hook]]] = []


def instrument(client: Any, **options: Any) -> Any:
    """See `tensorix_tracing.instrument`."""
    if client is None:
        telemetry = Telemetry(settings_from(**options))
        _take_out_everywhere()
        _everywhere.append((telemetry, _hook_classes(telemetry)))
    else:
        kind = _kind_of(client)
        host = _host_of(client)
        settings = settings_from(client_host=host, **options)
        if host is not None and not settings.touches(host.rpartition(":")[0], int(host.rpartition(":")[2])):
            log.warning("the client sends to %s, which is not among hosts: its calls are not traced", host)
        telemetry = Telemetry(settings)
        uninstrument(client)
        _trace_client(client, kind, telemetry)
    end_at_exit()
    return client


def uninstrument(client: Any = None) -> None:
    """See `tensorix_tracing.uninstrument`."""
    if client is not None:
        _let_go(client)
        return
    for one in list(_traced):
        _let_go(one)
    _take_out_everywhere()
    if not len(OPEN):
        atexit.unregister(OPEN.abandon_all)


def _trace_client(client: Any, kind: str, telemetry: Telemetry, *, is_copy: bool = False) -> None:
    hooks: list[_Hook] = []
    http_client = client
    if kind == "openai":
        http_client = client._client
        wrap = traced_async_request if isinstance(client, sys.modules["openai"].AsyncOpenAI) else traced_request
        hooks.append(_Hook(client, "request", lambda original: wrap(telemetry, original)))
        hooks += [
            _Hook(client, name, lambda original: _traced_copy(telemetry, original)) for name in ("copy", "with_options")
        ]
    http_hook = _http_hooks.get(http_client)
    if http_hook is None:
        http_hook = _http_hooks[http_client] = _HttpHook(http_client)
    http_hook.users.add(client)
    if kind != "openai":
        http_hook.telemetry = telemetry
    _traced[client] = _Traced(telemetry, hooks, http_client, is_copy=is_copy)


def _traced_copy(telemetry: Telemetry, original: Callable[..., Any]) -> Callable[..., Any]:
    def copy(client: Any, *arguments: Any, **named: Any) -> Any:
        made = original(client, *arguments, **named)
        if telemetry.active and made not in _traced:
            _trace_client(made, "openai", telemetry, is_copy=True)
        return made

    return copy


def _let_go(client: Any) -> None:
    traced = _traced.pop(client, None)
    if traced is None:
        return
    for hook in reversed(traced.hooks):
        hook.take_out()
    http_client = traced.http_client()
    http_hook = _http_hooks.get(http_client) if http_client is not None else None
    if http_hook is not None and http_client is not None:
        if http_hook.telemetry is traced.telemetry:
            http_hook.telemetry = None
        http_hook.users.discard(client)
        if not http_hook.users:
            http_hook.take_out()
            del _http_hooks[http_client]
    if not traced.is_copy:
        # Its copies go with it.
        traced.telemetry.forget()
        for other, its in list(_traced.items()):
            if its.telemetry is traced.telemetry:
                _let_go(other)


def _take_out_everywhere() -> None:
    for telemetry, hooks in _everywhere:
        for hook in reversed(hooks):
            hook.take_out()
        telemetry.forget()
    _everywhere.clear()


def _hook_classes(telemetry: Telemetry) -> list[_Hook]:
    """Hooks on the classes of every package that is installed; what is not installed is left out."""
    hooks: list[_Hook] = []

    def current() -> Telemetry | None:
        return telemetry if telemetry.active else None

    try:
        openai = import_module("openai")
    except ImportError:
        pass
    else:
        hooks.append(_Hook(openai.OpenAI, "request", lambda original: traced_request(telemetry, original)))
        hooks.append(_Hook(openai.AsyncOpenAI, "request", lambda original: traced_async_request(telemetry, original)))
    for module in _http_modules():
        hooks += [_hook_send(kind, current) for kind in (module.Client, module.AsyncClient)]
    return hooks


def _hook_send(on: Any, telemetry: Callable[[], Telemetry | None]) -> _Hook:
    """The hook on `send` of an HTTP client or of a class of them."""
    kind = on if isinstance(on, type) else type(on)
    module = next(
        module
        for module in map(sys.modules.get, HTTP_MODULES)
        if module is not None and issubclass(kind, module.Client | module.AsyncClient)
    )
    wrap = traced_async_send if issubclass(kind, module.AsyncClient) else traced_send
    return _Hook(on, "send", lambda original: wrap(module, telemetry, original))


def _http_modules() -> list[ModuleType]:
    """Those of httpx and httpx2 that are installed."""
    found = []
    with suppress(ImportError):
        found.append(import_module("httpx"))
    with suppress(ImportError):
        found.append(import_module("httpx2"))
    return found


def _kind_of(client: Any) -> str:
    openai = sys.modules.get("openai")
    if openai is not None and isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        return "openai"
    for name in HTTP_MODULES:
        module = sys.modules.get(name)
        if module is not None and isinstance(client, module.Client | module.AsyncClient):
            return name
    what = client.__name__ if isinstance(client, type) else type(client).__name__
    raise SettingsError(f"{what} cannot be instrumented: give a client of openai, httpx or httpx2, or none for all")


def _host_of(client: Any) -> str | None:
    """Where a client sends, None for one that was given no base URL."""
    url = client.base_url
    if not url.host:
        return None
    return f"{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"
