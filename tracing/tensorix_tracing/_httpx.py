"""What `send` of an httpx or httpx2 client becomes: each request to the API is an attempt of a call.

Where the call was opened above (by an openai client) the request joins it, by a context variable; else it is the call.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import Token
from functools import cache
from types import ModuleType
from typing import Any
from weakref import ref

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from tensorix_tracing._attempts import Attempt
from tensorix_tracing._body import EVENTS, Body
from tensorix_tracing._call import BUSY, CURRENT, Call
from tensorix_tracing._errors import COMPLETED, Ending
from tensorix_tracing._passing import PassingBody
from tensorix_tracing._reading import read_whole
from tensorix_tracing._telemetry import Telemetry, operation_of, server_of

__all__ = ["HTTP_MODULES", "current_task", "leave", "suppressed", "traced_async_send", "traced_send"]

log = logging.getLogger("tensorix_tracing")

_SUPPRESS_KEY = getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
HTTP_MODULES = ("httpx", "httpx2")
_MODELS = tuple(f"{name}._models" for name in HTTP_MODULES)
# A prompt larger than this is not taken apart for its parameters.
_PATHS = {"chat": b"/chat/completions", "models.list": b"/models"}
_LARGEST_REQUEST = 16 * 2**20


def suppressed(context: Context) -> bool:
    """Whether somebody (an exporter, say) asked that what it sends be not traced."""
    return bool(context.get(_SUPPRESS_KEY))


def current_task() -> ref[Any] | None:
    """The asyncio task that runs here, held weakly; None outside of asyncio."""
    import asyncio

    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return ref(task) if task is not None else None


def leave(token: Token[Any]) -> bool:
    """Put `CURRENT` back in a coroutine; False where it is not this coroutine's context.

    Which is so where the coroutine was dropped, and is closed by who happens to notice.
    """
    try:
        CURRENT.reset(token)
    except ValueError:
        return False
    return True


def _begin(telemetry: Telemetry, request: Any, task: ref[Any] | None) -> Call | None:
    """The call that a request on its own is, None for one that is not ours."""
    operation = operation_of(request.method, request.url.path)
    if operation is None:
        return None
    context = otel_context.get_current()
    server = None if suppressed(context) else server_of(request.url, telemetry.settings)
    if server is None:
        return None
    body = _body_of(request)
    begin = telemetry.begin_of(operation, server, body.get("model"))
    return Call(telemetry, begin, body, context, task, own=True)


def _body_of(request: Any) -> dict[str, Any]:
    """The request's JSON, as far as it lies ready: empty for what is streamed up, too large, or none."""
    try:
        content = request.content
        body = json.loads(content) if content and len(content) <= _LARGEST_REQUEST else {}
    except Exception:  # noqa: BLE001 - RequestNotRead is httpx's or httpx2's; anything else is no JSON
        return {}
    return body if isinstance(body, dict) else {}


def _half_read(error: BaseException) -> Any:
    """The response whose body `send` could not read to its end, None where no headers had come: its traceback knows."""
    at = error.__traceback__
    while at is not None:
        frame = at.tb_frame
        if frame.f_code.co_name in ("read", "aread") and frame.f_globals.get("__name__") in _MODELS:
            return frame.f_locals.get("self")
        at = at.tb_next
    return None


def _open(telemetry_of: Callable[[], Telemetry | None], request: Any, task: Any) -> Call | None:
    """The call that a request belongs to, of whose attempts it is the last from here on; None for what is not ours.

    Never raises: a request that cannot be followed is sent as it is.
    """
    try:
        call = CURRENT.get()
        if isinstance(call, str):
            return None
        if call is None:
            telemetry = telemetry_of()
            call = _begin(telemetry, request, task) if telemetry is not None else None
            if call is None:
                return None
        # The path as it was written: to decode it takes httpx longer than all of this.
        elif _PATHS[call.begin.operation] not in request.url.raw_path and (
            call.attempts or request.url.host != call.begin.server.host
        ):
            return None
        call.attempt(request)
        return call
    except Exception:
        log.debug("a request could not be followed", exc_info=True)
        return None


def _failed(call: Call, attempt: Attempt, error: BaseException, streamed: bool) -> None:
    response = None if streamed else _half_read(error)
    if response is not None:
        call.attempt_answered(attempt, response.status_code, response.headers)
    attempt.failed(error)
    if call.own:
        call.failed(error)


def _answered(call: Call, attempt: Attempt, response: Any, streamed: bool) -> Body | None:
    """The headers are here, and the body too unless it is streamed: then who follows it is returned. Never raises."""
    try:
        status = response.status_code
        call.attempt_answered(attempt, status, response.headers)
        if not streamed:
            _came_whole(call, attempt, status, response)
            return None
        ends_call = call.own or status < 400
        if response.is_stream_consumed:
            # A transport that is none of the network's may hand over what is there already.
            Body(call, attempt, ends_call=ends_call).came_whole(response.content)
            return None
        by_looks = call.passing and status < 400 and attempt.content_type == EVENTS and attempt.encoding is None
        body = (PassingBody if by_looks else Body)(call, attempt, ends_call=ends_call)
        body.response = ref(response)
        return body
    except Exception:
        log.debug("a response could not be followed", exc_info=True)
        if call.own and not call.reading:
            call.end(COMPLETED)
        return None


def _came_whole(call: Call, attempt: Attempt, status: int, response: Any) -> None:
    content = response.content
    if call.own and status < 400 and _is_stream(call, attempt, content):
        Body(call, attempt, ends_call=True).came_whole(content)
        return
    wrong = read_whole(call, status, content)
    if wrong is not None:
        call.error_type = wrong
    if call.own:
        if status >= 400:
            call.refused(status)
        else:
            call.end(Ending(None, wrong, is_error=True) if wrong else COMPLETED)


def _is_stream(call: Call, attempt: Attempt, content: bytes) -> bool:
    """Whether a response that was read whole is a stream of events."""
    return attempt.content_type == EVENTS or (call.streamed and content.lstrip()[:5] in (b"data:", b"event"))


def _quietly(act: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except Exception:
        log.debug("a request could not be followed", exc_info=True)
        return None


def traced_send(
    module: ModuleType, telemetry: Callable[[], Telemetry | None], original: Callable[..., Any]
) -> Callable[..., Any]:
    """What takes the place of `send`, the client first among its arguments, for clients of `module` (httpx or httpx2).

    `telemetry` gives None where requests are traced only as attempts of somebody else's call.
    """
    stream_class = _stream_class(module)

    def send(client: Any, request: Any, **options: Any) -> Any:
        call = _open(telemetry, request, None)
        if call is None:
            return original(client, request, **options)
        attempt, streamed = call.attempts[-1], bool(options.get("stream"))
        # Where an HTTP client's own instrumentation is active its span hangs from this one, and not beside it.
        attached = otel_context.attach(attempt.context) if attempt.context is not None else None
        # What is sent below, by an authentication for instance, is no attempt of this call.
        token = CURRENT.set(BUSY)
        try:
            response = original(client, request, **options)
        except BaseException as error:
            _quietly(_failed, call, attempt, error, streamed)
            raise
        finally:
            CURRENT.reset(token)
            if attached is not None:
                otel_context.detach(attached)
        body = _answered(call, attempt, response, streamed)
        if body is not None:
            response.stream = stream_class(response.stream, body)
        return response

    return send


def traced_async_send(
    module: ModuleType, telemetry: Callable[[], Telemetry | None], original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """The same for an asynchronous client."""
    stream_class = _async_stream_class(module)

    async def send(client: Any, request: Any, **options: Any) -> Any:
        call = _open(telemetry, request, _quietly(current_task))
        if call is None:
            return await original(client, request, **options)
        attempt, streamed = call.attempts[-1], bool(options.get("stream"))
        # Where an HTTP client's own instrumentation is active its span hangs from this one, and not beside it.
        attached = otel_context.attach(attempt.context) if attempt.context is not None else None
        # What is sent below, by an authentication for instance, is no attempt of this call.
        token = CURRENT.set(BUSY)
        try:
            response = await original(client, request, **options)
        except BaseException as error:
            _quietly(_failed, call, attempt, error, streamed)
            raise
        finally:
            if leave(token) and attached is not None:
                otel_context.detach(attached)
        body = _answered(call, attempt, response, streamed)
        if body is not None:
            response.stream = stream_class(response.stream, body)
        return response

    return send


@cache
def _stream_class(module: ModuleType) -> type[Any]:
    """A byte stream of a module that tells a `Body` of what passes; httpx insists on subclasses of its own."""

    class TracedStream(module.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, inner: Any, body: Body) -> None:
            self._inner = inner
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            body, clock = self._body, time.perf_counter_ns
            try:
                for piece in self._inner:
                    parts = body.take(piece, clock())
                    if parts is None:
                        yield piece
                        continue
                    yield from parts
            except GeneratorExit:
                raise
            except BaseException as error:
                _quietly(body.failed, error)
                raise
            _quietly(body.exhausted)

        def __getattr__(self, name: str) -> Any:
            # httpx2 keeps with its stream how long the response took.
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(self._inner, name)

        def close(self) -> None:
            if self._body.call.open:
                self._body.closed()
            self._inner.close()

        def __del__(self) -> None:
            if self._body.call.open:
                self._body.dropped()

    return TracedStream


@cache
def _async_stream_class(module: ModuleType) -> type[Any]:
    """The same to be read asynchronously."""

    class TracedAsyncStream(module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, inner: Any, body: Body) -> None:
            self._inner = inner
            self._body = body

        async def __aiter__(self) -> AsyncIterator[bytes]:
            body, clock = self._body, time.perf_counter_ns
            try:
                async for piece in self._inner:
                    parts = body.take(piece, clock())
                    if parts is None:
                        yield piece
                        continue
                    for part in parts:
                        yield part
            except GeneratorExit:
                raise
            except BaseException as error:
                _quietly(body.failed, error)
                raise
            _quietly(body.exhausted)

        def __getattr__(self, name: str) -> Any:
            # httpx2 keeps with its stream how long the response took.
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(self._inner, name)

        async def aclose(self) -> None:
            if self._body.call.open:
                self._body.closed()
            await self._inner.aclose()

        def __del__(self) -> None:
            if self._body.call.open:
                self._body.dropped()

    return TracedAsyncStream
