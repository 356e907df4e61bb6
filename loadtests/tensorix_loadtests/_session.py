"""What all users of a process share, and the bytes of a request made from it without showing the key."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorix_api.secret import Redactor, Secret
from tensorix_api.settings import Settings
from tensorix_loadtests._call import Call
from tensorix_loadtests._clock import KernelClock
from tensorix_loadtests._target import Target
from tensorix_loadtests.plan import Timeouts

__all__ = ["Session"]

USER_AGENT = "tensorix-toolkit"
_SECRET_HEADER_PARTS = ("auth", "key", "token", "secret", "cookie", "password", "credential")


@dataclass(slots=True)
class Session:
    """What all users of a process share: the target, the keys, the timeouts and the identity of the run.

    `headers` are sent with each request; their values never reach a record, and where a name sounds like a secret the
    value is also taken out of whatever the server echoes.
    """

    settings: Settings
    target: Target
    timeouts: Timeouts = field(default_factory=Timeouts)
    headers: Mapping[str, Secret] = field(default_factory=dict)
    run_id: str = "run"
    process_id: str = "0"
    host: str | None = None
    keep_gaps: bool = False
    more_keys: Sequence[Secret] = ()
    """Keys besides the settings' own: taken out of what the server echoes, like that."""
    clock: KernelClock = field(default_factory=KernelClock)
    key_alias: str | None = field(init=False)
    redact: Redactor = field(init=False)
    _aliases: dict[Secret, str] = field(init=False)
    _numbers: Any = field(default_factory=itertools.count, init=False)

    def __post_init__(self) -> None:
        key = self.settings.api_key
        self.key_alias = key.alias if key else None
        # An alias takes milliseconds to find.
        self._aliases = {one: one.alias for one in (key, *self.more_keys) if one}
        hidden = [
            value for name, value in self.headers.items() if any(part in name.lower() for part in _SECRET_HEADER_PARTS)
        ]
        hidden += self.target.proxy.hidden if self.target.proxy else ()
        # What is shorter is a word, and would be taken out of every message.
        self.redact = Redactor(key, *self.more_keys, *(value for value in hidden if len(value.reveal()) >= 6))

    def alias_of(self, key: Secret | None) -> str | None:
        """How records call one of the keys."""
        return None if key is None else self._aliases.get(key)

    def next_record_id(self) -> str:
        """An identity that no other record of the run has."""
        return f"{self.process_id}-{next(self._numbers):07d}"

    def wire(self, call: Call, request_id: str, key: Secret | None) -> memoryview:
        """The request's bytes. A memoryview, since that shows nothing in a traceback's locals."""
        target, proxy = self.target, self.target.proxy
        method = "GET" if call.body is None else "POST"
        lines = [
            f"{method} {target.request_prefix}{call.endpoint} HTTP/1.1",
            f"Host: {target.authority}",
            f"User-Agent: {USER_AGENT}",
            f"Accept: {'text/event-stream' if call.stream else 'application/json'}",
            # A compressed stream is held back by some proxies, so it is not asked for; it is understood all the same.
            f"Accept-Encoding: {'identity' if call.stream else 'gzip, deflate'}",
            f"X-Request-Id: {request_id}",
        ]
        if call.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(call.body)}"]
        given = {name.lower() for name in self.headers}
        lines = [line for line in lines if line.partition(":")[0].lower() not in given]
        return memoryview(
            "\r\n".join(
                [
                    *lines,
                    *([f"Authorization: Bearer {key.reveal()}"] if key else []),
                    *(
                        [f"Proxy-Authorization: {proxy.authorization.reveal()}"]
                        if proxy and proxy.authorization and not target.tls
                        else []
                    ),
                    *(f"{name}: {value.reveal()}" for name, value in self.headers.items()),
                    "\r\n",
                ]
            ).encode("latin-1")
            + (call.body or b"")
        )
