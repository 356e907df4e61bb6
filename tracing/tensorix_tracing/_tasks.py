"""Whether the task or greenlet that reads a stream was stopped: a dropped stream is often found when both are gone."""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorix_tracing._call import Call

__all__ = ["Watch", "watch"]


class Watch:
    """Told by a task or greenlet when it ends; holds it and the call weakly, and is held by both."""

    def __init__(self, call: Call, doer: Any, link: Callable[[Any], Any], unlink: Callable[[Any], Any]) -> None:
        self._doer = weakref.ref(doer)
        self._callback = partial(_done, weakref.ref(call))
        self._unlink = unlink
        link(self._callback)

    @property
    def doer(self) -> Any:
        """The task or greenlet, None if it is gone."""
        return self._doer()

    def stopping(self) -> bool:
        """Whether it was stopped, or is about to be."""
        doer = self._doer()
        return doer is not None and _was_stopped(doer)

    def leave(self) -> None:
        """The call has ended: a task that makes many calls is not to remember them all."""
        doer = self._doer()
        if doer is not None:
            with contextlib.suppress(Exception):
                self._unlink(self._callback)


def watch(call: Call) -> Watch | None:
    """Watch whoever runs here on behalf of a call; None where that is neither a task of asyncio nor a greenlet."""
    gevent = sys.modules.get("gevent")
    if gevent is not None:
        greenlet = gevent.getcurrent()
        if hasattr(greenlet, "rawlink"):
            return Watch(call, greenlet, greenlet.rawlink, _weakly(greenlet, "unlink"))
    task = call.task() if call.task is not None else None
    if task is None:
        return None
    return Watch(call, task, task.add_done_callback, _weakly(task, "remove_done_callback"))


def _weakly(thing: Any, name: str) -> Callable[[Any], Any]:
    """A method whose object is held weakly: a stopped task holds its frames, and those the stream."""
    held = weakref.ref(thing)

    def act(argument: Any) -> Any:
        found = held()
        return getattr(found, name)(argument) if found is not None else None

    return act


def _done(call_ref: weakref.ref[Call], doer: Any) -> None:
    call = call_ref()
    if call is not None and _was_stopped(doer):
        call.stopped = True


def _was_stopped(doer: Any) -> bool:
    if hasattr(doer, "cancelling"):
        return bool(doer.cancelled() or (not doer.done() and doer.cancelling() > 0))
    return bool(doer.dead and type(getattr(doer, "value", None)).__name__ == "GreenletExit")
