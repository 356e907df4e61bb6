"""One request of a target, over a connection of its own."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from secrets import token_hex
from typing import Any
from uuid import uuid4

import httpcore
import httpx

from tensorix_api import Secret
from tensorix_api.errors import ErrorKind, Phase, SettingsError
from tensorix_api.ratelimit_headers import RateLimits, read_rate_limits
from tensorix_api.secret import Redactor
from tensorix_probes.exchange.answer import Answer, Failure
from tensorix_probes.exchange.failures import Ended, HandshakeDone
from tensorix_probes.exchange.lookup import Lookup
from tensorix_probes.exchange.proxy import Proxy
from tensorix_probes.exchange.reading import Reading
from tensorix_probes.exchange.transport import Transport
from tensorix_probes.exchange.wire import Wire
from tensorix_probes.result import Phases
from tensorix_probes.settings import Target

__all__ = ["Exchange"]

USER_AGENT = f"tensorix-probe/{version('tensorix-toolkit')}"

# RFC 9110, section 5: a token, and visible ASCII with blanks between.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~]+(?:[ \t]+[!-~]+)*")


class Exchange:
    """Asks one target. Keeps what is dear to make (the TLS context), but no connection.

    `cancel()` and `close()` may be called from another thread: what is under way fails at once. Raises SettingsError
    where the address, the CA bundle or a header cannot be used.
    """

    def __init__(self, target: Target, *, lookup: Lookup | None = None) -> None:
        server = target.server
        self._target = target
        self._url = server.base_url
        self._key = target.api_key
        _check_headers(target)
        self._lookup = lookup or Lookup()
        proxy = Proxy.of(server)
        self._client = httpx.Client(
            transport=Transport(_trusting(target) if server.secure else None, proxy),
            trust_env=False,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        )
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise SettingsError(f"the base URL {self._url!r} cannot be used: {error}") from None
        self._hidden = [*target.extra_headers.values(), *(proxy.hidden if proxy else ())]
        self.redact = Redactor(target.api_key, *self._hidden)
        """Takes the target's secrets out of a text that came from elsewhere."""
        self._lock = threading.Lock()
        self._wires: set[Wire] = set()
        self._closed = False

    def ask(
        self,
        method: str,
        path: str,
        *,
        kind: str,
        body: Any = None,
        key: Secret | None = None,
        trace: tuple[str, str] | None = None,
    ) -> Answer:
        """Make one request and read all of its answer, within the target's timeouts.

        Whatever the server or the network does is in the answer. A `body` is sent as JSON. `trace` holds the ids of a
        trace and of the span under which the request is one.
        """
        wants_stream = isinstance(body, dict) and body.get("stream") is True
        return self._exchange(method, path, kind, _encoded(body), key, trace, wants_stream=wants_stream)

    def handshake(self, *, trace: tuple[str, str] | None = None) -> Answer:
        """Connect, with TLS where the target has it, and send nothing."""
        return self._exchange("GET", "/", "tls", None, None, trace, only_handshake=True)

    def cancel(self) -> None:
        """End what is under way, from another thread."""
        with self._lock:
            for wire in self._wires:
                wire.cancel()

    def close(self) -> None:
        """Give back what is kept. What is under way, and whatever is asked afterwards, is cancelled."""
        self._closed = True
        self.cancel()

    def _exchange(
        self,
        method: str,
        path: str,
        kind: str,
        body: bytes | None,
        key: Secret | None,
        trace: tuple[str, str] | None,
        *,
        wants_stream: bool = False,
        only_handshake: bool = False,
    ) -> Answer:
        request_id, trace_id, span_id = str(uuid4()), trace[0] if trace else token_hex(16), token_hex(8)
        started_unix_ns = time.time_ns()
        wire = Wire(self._target.timeouts, self._lookup, only_handshake=only_handshake)
        reading = Reading(wire, wants_stream)
        redact = self.redact if key is None else Redactor(key, self._key, *self._hidden)
        with self._lock:
            self._wires.add(wire)
        failure: Failure | None = None
        try:
            if self._closed:
                wire.cancel()
            headers = {
                "user-agent": USER_AGENT,
                "accept": "text/event-stream" if wants_stream else "application/json",
                # Compression holds a stream back.
                "accept-encoding": "identity" if wants_stream else "gzip, deflate",
                **({} if body is None else {"content-type": "application/json"}),
                "x-request-id": request_id,
                "traceparent": f"00-{trace_id}-{span_id}-01",
            }
            request = self._client.build_request(
                method,
                self._url + path,
                headers=headers,
                content=body,
                extensions={"reading": reading, "secrets": self._secrets(key)},
            )
            self._read(request, reading)
        except Ended as ended:
            failure = Failure(ended.kind, ended.phase, redact(ended.text))
        finally:
            with self._lock:
                self._wires.discard(wire)
            wire.close()
        return Answer(
            request_id=request_id,
            trace_id=trace_id,
            span_id=span_id,
            kind=kind,
            method=None if only_handshake else method,
            path="" if only_handshake else path,
            started_unix_ns=started_unix_ns,
            started_monotonic_ns=wire.began_ns,
            phases=_phases(reading, time.monotonic_ns()),
            status=reading.status,
            headers=reading.headers,
            body=bytes(reading.body),
            events=tuple(reading.events),
            failure=failure,
            limits=read_rate_limits(reading.headers, reading.head_unix_ns) if reading.status else RateLimits(),
            certificate=wire.certificate,
        )

    def _secrets(self, key: Secret | None) -> dict[str, Secret]:
        """The headers that nobody is to see, by their names; a key that was asked for goes before all."""
        headers = {name.lower(): value for name, value in self._target.extra_headers.items()}
        key = key or (None if "authorization" in headers else self._key)
        return headers if not key else headers | {"authorization": Secret(f"Bearer {key.reveal()}")}

    def _read(self, request: httpx.Request, reading: Reading) -> None:
        """Send and read, and raise Ended for whatever went wrong."""
        wire = reading.wire
        try:
            response = self._client.send(request, stream=True)
            try:
                reading.take_body(response.iter_bytes())
            finally:
                response.close()
        except HandshakeDone:
            reading.whole = True
        except Ended as ended:
            if not wire.done or ended.kind is ErrorKind.CANCELLED:
                raise
            # After [DONE] nothing can spoil the stream.
            reading.whole = True
        except httpcore.RemoteProtocolError as error:
            if wire.done:
                reading.whole = True
            elif wire.peer_ended or wire.tunnelling:
                raise wire.ended("the connection was closed before the answer was whole") from None
            else:
                raise Ended(ErrorKind.MALFORMED, wire.phase, f"the answer is not HTTP: {error}") from None
        except httpx.DecodingError:
            raise Ended(ErrorKind.MALFORMED, wire.phase, "the answer's compression is damaged") from None
        except httpcore.ProxyError as error:
            raise Ended(ErrorKind.CONNECTION_FAILED, Phase.CONNECT, f"the proxy refused the tunnel: {error}") from None
        except Exception as error:  # noqa: BLE001 - a defect of ours must not end the probing, nor show the key
            text = f"a defect of the probe: {type(error).__name__}"
            raise Ended(ErrorKind.INTERNAL, wire.phase, text) from None


def _trusting(target: Target) -> ssl.SSLContext:
    """What verifies chain, name and dates, and takes TLS 1.2 or newer. Takes some 20 ms."""
    if target.ca_bundle is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=target.ca_bundle)
    except OSError:
        raise SettingsError(
            f"the CA bundle {str(target.ca_bundle)!r} cannot be read: give a file of PEM certificates"
        ) from None


def _check_headers(target: Target) -> None:
    if target.api_key and not _VALUE.fullmatch(target.api_key.reveal()):
        raise SettingsError(f"the key of the target {target.name!r} holds a character that no header can carry")
    for name, value in target.extra_headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value.reveal()):
            raise SettingsError(
                f"extra_headers of the target {target.name!r}: {name!r} is no header, or its value is none"
            )


def _encoded(body: Any) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, ensure_ascii=False).encode()


def _phases(reading: Reading, end_ns: int) -> Phases:
    wire = reading.wire
    start_ns = wire.sending_ns

    def since(stamp_ns: int | None) -> int | None:
        return None if stamp_ns is None or start_ns is None else stamp_ns - start_ns

    last_ns = wire.read_ns if reading.whole and reading.status is not None else None
    return Phases(
        dns_ns=wire.dns_ns,
        connect_ns=wire.connect_ns,
        tls_ns=wire.tls_ns,
        send_ns=since(wire.sent_ns),
        first_byte_ns=since(wire.first_byte_ns),
        first_chunk_ns=since(reading.first_chunk_ns),
        first_token_ns=since(reading.first_token_ns),
        last_byte_ns=since(last_ns),
        total_ns=(last_ns or end_ns) - wire.began_ns,
    )
