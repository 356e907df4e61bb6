"""What `request` of an openai client becomes: the call that its attempts, retries included, are joined to.

Every method of the SDK that is traced ends there (`create`, `parse`, `stream`, `list`, with raw and with streaming
responses), synchronous and not, from openai 1.x on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Literal
from weakref import ref

from opentelemetry import context as otel_context

from tensorix_tracing._call import BUSY, CURRENT, Call
from tensorix_tracing._errors import COMPLETED, Ending
from tensorix_tracing._httpx import current_task, leave, suppressed
from tensorix_tracing._others import Others
from tensorix_tracing._telemetry import Telemetry

__all__ = ["traced_async_request", "traced_request"]

log = logging.getLogger("tensorix_tracing")

OTHERS = Others()
CONTEXTS: Any = getattr(otel_context, "_RUNTIME_CONTEXT", otel_context)
"""Where the API's functions of the same names look as well, each after a call of its own."""


def _begin(telemetry: Telemetry, client: Any, options: Any, task: ref[Any] | None) -> Call | Literal["busy"] | None:
    """The call that a request of an openai client is; None for one that is not ours. Never raises.

    BUSY for one that somebody else tells of: what goes out for it by httpx is no call either.
    """
    try:
        body = options.json_data
        if type(body) is not dict:
            body = {}
        elif options.extra_json:
            body = {**body, **options.extra_json}
        # The property of the same name takes the newest SDK longer than all the rest of this.
        url, method, path = client.__dict__.get("_base_url") or client.base_url, options.method, options.url
        model = body.get("model")
        if type(model) is not str:
            model = None
        known = telemetry.begins.get((id(url), method, path, model))
        begin = (known or telemetry.begin_of_client(url, method, path, model))[1]
        if begin is None or not telemetry.active or CURRENT.get() is not None:
            return None
        context = CONTEXTS.get_current()
        if context and suppressed(context):
            return None
        if OTHERS.active(client):
            return BUSY
        call = Call(telemetry, begin, body, context, task, own=False)
        if call.streamed and call.content is None and (body.get("n") or 1) == 1:
            # Who asks for the response itself reads it as he likes.
            headers = options.headers
            raw = type(headers) is dict and headers.get("X-Stainless-Raw-Response") == "stream"
            call.passing = not raw and _reader_closes()
        return call
    except Exception:
        log.debug("a call could not be followed", exc_info=True)
        return None


@cache
def _reader_closes() -> bool:
    """Whether openai's own reader closes the response where it cannot go on: not in every release."""
    return "close" in sys.modules["openai"].Stream.__stream__.__code__.co_names


def _returned(call: Call) -> None:
    """The SDK has its result, and nothing is left to be read: the call is over."""
    call.end(Ending(None, call.error_type, is_error=True) if call.error_type else COMPLETED)


def traced_request(telemetry: Telemetry, original: Callable[..., Any]) -> Callable[..., Any]:
    """What takes the place of `request`, the client first among its arguments."""

    def request(client: Any, cast_to: Any, options: Any, *arguments: Any, **named: Any) -> Any:
        call = _begin(telemetry, client, options, None)
        if call is None:
            return original(client, cast_to, options, *arguments, **named)
        if isinstance(call, str):
            token = CURRENT.set(BUSY)
            try:
                return original(client, cast_to, options, *arguments, **named)
            finally:
                CURRENT.reset(token)
        token, attached = CURRENT.set(call), CONTEXTS.attach(call.context)
        try:
            result = original(client, cast_to, options, *arguments, **named)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            CURRENT.reset(token)
            CONTEXTS.detach(attached)
        if not call.reading:
            _returned(call)
        return result

    return request


def traced_async_request(
    telemetry: Telemetry, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """The same for an asynchronous client."""

    async def request(client: Any, cast_to: Any, options: Any, *arguments: Any, **named: Any) -> Any:
        call = _begin(telemetry, client, options, current_task())
        if call is None:
            return await original(client, cast_to, options, *arguments, **named)
        if isinstance(call, str):
            token = CURRENT.set(BUSY)
            try:
                return await original(client, cast_to, options, *arguments, **named)
            finally:
                leave(token)
        token, attached = CURRENT.set(call), otel_context.attach(call.context)
        try:
            result = await original(client, cast_to, options, *arguments, **named)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            if leave(token):
                otel_context.detach(attached)
        if not call.reading:
            _returned(call)
        return result

    return request
