"""The workers of a master: who has come, who is still heard of, and how they are spoken to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from locust.runners import STATE_MISSING

from tensorix_api.errors import SettingsError
from tensorix_loadtests._distributed import _wire as wire
from tensorix_loadtests._distributed._member import Member, Part

__all__ = ["Members"]

logger = logging.getLogger("tensorix_loadtests")


class Members:
    """All that have said hello to Locust's `runner`, a master. `on_new` is told of each that comes."""

    def __init__(self, runner: Any, on_new: Callable[[Member], None]) -> None:
        self.me = wire.self_description()
        self._runner = runner
        self._on_new = on_new
        self._members: dict[str, Member] = {}
        runner.register_message(wire.HELLO, self._on_hello)

    def listen(self, kind: str, handler: Callable[[Member, Mapping[str, Any]], None]) -> None:
        """Have `handler` take the messages of one kind, of workers that have said hello."""
        self._runner.register_message(kind, self._known(handler))

    def _known(self, handler: Callable[[Member, Mapping[str, Any]], None]) -> Callable[..., None]:
        def listen(msg: Any, **_: Any) -> None:
            member = self._members.get(msg.node_id)
            if member is not None and isinstance(msg.data, dict):
                member.heard_ns = time.monotonic_ns()
                handler(member, msg.data)

        return listen

    def _on_hello(self, msg: Any, **_: Any) -> None:
        if not isinstance(msg.data, dict):
            return
        member = self._members.get(msg.node_id)
        if member is None:
            index = self._runner.get_worker_index(msg.node_id)
            member = self._members[msg.node_id] = Member(msg.node_id, index, msg.data)
            self._on_new(member)
        member.heard_ns = time.monotonic_ns()
        # An answer, so that it need not say it again.
        self.send(wire.HELLO, {}, member)

    # who is there

    def gather(self, wanted: int, seconds: float, *, failed: Callable[[], str | None] = lambda: None) -> None:
        """Wait until so many workers have said hello.

        Raises SettingsError, which says how many came, where they do not within `seconds`, or `failed` gives a reason.
        """
        deadline = time.monotonic() + seconds
        while len(self._members) < wanted:
            if why := failed():
                raise SettingsError(why)
            if time.monotonic() > deadline:
                here = ", ".join(f"process {one.about.get('process')} on {one.about.get('host')}" for one in self.all())
                raise SettingsError(
                    f"{len(self._members)} of {wanted} workers came within {seconds:g} s ({here or 'none'}): start the "
                    "others with tensorix worker --master HOST:PORT, and see that they reach this port"
                )
            gevent.sleep(0.02)

    def gather_all(self, seconds: float) -> None:
        """Wait until all workers that Locust knows have said hello. Raises SettingsError where one does not."""
        deadline = time.monotonic() + seconds
        while unknown := [one for one in self._runner.clients if one not in self._members]:
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"the worker {unknown[0]} does not write records: start it from the same locustfile"
                )
            gevent.sleep(0.02)

    def claim(self, processes: Sequence[Any]) -> None:
        """These are processes of our own: how they end is seen at once."""
        by_id = {process.pid: process for process in processes}
        for member in self.all():
            if all(member.about.get(one) == self.me[one] for one in ("boot", "host")):
                member.process = by_id.get(member.about.get("process"))

    def all(self) -> list[Member]:
        """In the order in which they came."""
        return list(self._members.values())

    def parts(self) -> list[tuple[Member, Part]]:
        """Those that take part in the run, with their parts."""
        return [(member, member.part) for member in self.all() if member.part is not None]

    def is_alive(self, member: Member) -> bool:
        """Whether it was heard of lately."""
        if member.process is not None and member.process.poll() is not None:
            return False
        node = self._runner.clients.get(member.client_id)
        # Who has no entry said goodbye to Locust, and may still bring the rest of its records.
        silent_s = (time.monotonic_ns() - member.heard_ns) / 1e9
        return silent_s < wire.GONE_S if node is None else node.state != STATE_MISSING or silent_s < 1.0

    def is_gone(self, member: Member) -> bool:
        """Whether to give up waiting for it."""
        if member.process is not None and member.process.poll() is not None:
            return True
        return not self.is_alive(member) and (time.monotonic_ns() - member.heard_ns) / 1e9 > wire.GONE_S

    def send(self, kind: str, data: dict[str, Any], member: Member) -> None:
        """Tell it something; what cannot be told now is logged."""
        try:
            self._runner.send_message(kind, data, client_id=member.client_id)
        except Exception as error:  # noqa: BLE001  Locust's own kinds, and those of its connection: it resets that
            logger.warning("%s could not be told %s: %s", member.name, kind, error)
