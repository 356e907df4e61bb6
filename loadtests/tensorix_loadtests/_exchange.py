"""One request's answer as it comes in: HTTP/1.1, its encodings, the events of a stream, and a stamp for each step."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable
from typing import Any

import httptools

from tensorix_api.chat import DONE, ERROR, MALFORMED, OUTPUT, TOKEN, ChatStream, is_json_text
from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.sse import EventTooLargeError, SSEReader
from tensorix_loadtests._failure import Failure

__all__ = ["Exchange"]

_MOST_HEAD_BYTES = 2**18
_MOST_BODY_BYTES = 64 * 2**20
_MOST_ERROR_BYTES = 2**16


def _nothing() -> None:
    """What is called at the end of an exchange that nobody waits for any more."""


class Exchange:
    """Takes the bytes of one answer; `finish` is called once, when there is nothing more to wait for.

    All stamps are monotonic ns, 0 where a step was not reached. The receiver's methods are called in the event loop
    and never raise: whatever goes wrong ends in `failure`.
    """

    __slots__ = (
        "_between_chunks",
        "_chunks_in_read",
        "_decompressor",
        "_encoding",
        "_eof_ends_body",
        "_finish",
        "_informational",
        "_keeps",
        "_lead",
        "_parser",
        "_pattern",
        "_sse",
        "_stamp",
        "_tail",
        "body",
        "bytes_received",
        "chat",
        "chunk_stamps",
        "chunks_in_first_read",
        "complete",
        "content_type",
        "done_seen",
        "end_ns",
        "failure",
        "first_chunk_ns",
        "first_output_ns",
        "first_token_ns",
        "headers",
        "headers_ns",
        "keep_alive",
        "lag_first_token_ns",
        "lag_max_ns",
        "last_read_ns",
        "max_chunks_in_a_read",
        "over",
        "status",
        "stream",
        "user_stamps",
    )

    def __init__(self, *, stream: bool, finish: Callable[[], None], keep_text: bool = False) -> None:
        self.stream = stream
        self._finish = finish
        self._parser: Any = httptools.HttpResponseParser(self)
        self._sse: SSEReader | None = None
        self._decompressor: Any = None
        self._encoding = ""
        self._eof_ends_body = False
        self._informational = False
        self._stamp = 0
        self._chunks_in_read = 0
        self._between_chunks = False
        self._pattern: tuple[bytes, bytes, int] | None = None
        self._lead = self._tail = b""
        self._keeps = False
        self.chat = ChatStream()
        if keep_text:
            self.chat.keep_text()
        self.body = bytearray()
        self.headers: list[tuple[str, str]] = []
        self.content_type = ""
        self.status: int | None = None
        self.keep_alive = False
        self.over = False
        """Nothing more is waited for."""
        self.complete = False
        """The HTTP message arrived whole."""
        self.done_seen = False
        self.failure: Failure | None = None
        self.bytes_received = 0
        self.headers_ns = self.first_chunk_ns = self.first_token_ns = self.first_output_ns = 0
        self.end_ns = self.last_read_ns = 0
        self.chunk_stamps: array[int] = array("q")
        """One stamp for each chunk with something generated."""
        self.lag_first_token_ns = self.lag_max_ns = 0
        self.chunks_in_first_read = self.max_chunks_in_a_read = 0
        self.user_stamps = 0
        """Reads for which the kernel gave no stamp."""

    # what a connection delivers

    def receive(self, data: Any, stamp_ns: int, now_ns: int) -> None:
        """Take bytes; see `_connection.Receiver`."""
        if self.over:
            # More than the message: the connection cannot be trusted with another.
            self.keep_alive = False
            return
        self._stamp = self.last_read_ns = stamp_ns
        self.bytes_received += len(data)
        if stamp_ns == now_ns:
            self.user_stamps += 1
        if self._pattern is not None and self._repeats(bytes(data)):
            self.chunk_stamps.append(stamp_ns)
            if now_ns - stamp_ns > self.lag_max_ns:
                self.lag_max_ns = now_ns - stamp_ns
            return
        self._chunks_in_read = 0
        chunks_before = len(self.chunk_stamps)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.over:
                # What a callback raised comes wrapped.
                cause = error.__context__
                self._fail(
                    cause
                    if isinstance(cause, Failure)
                    else Failure(ErrorKind.MALFORMED, self.phase, f"not HTTP: {error}")
                )
            self.keep_alive = False
        if chunks := self._chunks_in_read:
            lag = now_ns - stamp_ns
            if lag > self.lag_max_ns:
                self.lag_max_ns = lag
            if chunks > self.max_chunks_in_a_read:
                self.max_chunks_in_a_read = chunks
            if not chunks_before:
                self.chunks_in_first_read = chunks
                self.lag_first_token_ns = lag
            self._learn(bytes(data[-2:]))
        else:
            self._pattern = None
        if not self.headers_ns and self.bytes_received > _MOST_HEAD_BYTES and not self.over:
            self._fail(Failure(ErrorKind.MALFORMED, Phase.HEADERS, "a header block of over 256 KiB"))

    def _learn(self, read_end: bytes) -> None:
        """Note what a read looks like that repeats the last chunk: one HTTP chunk, one event, another text."""
        sse = self._sse
        # A size line of which a part was read, unseen, cannot end in a line end: the parser would have called back.
        between = self._between_chunks and read_end == b"\r\n" and self._decompressor is None
        # After [DONE] nothing counts any more.
        pattern = self.chat.pattern if between and not self.done_seen else None
        if pattern is not None and (b"\n" in pattern[0] or b"\n" in pattern[1]):
            # An event of several data lines: behind one `data: ` it would be another.
            pattern = None
        self._keeps = self.chat.keeps_pattern
        # What was not output before might be now, and that has a stamp of its own.
        if pattern is None or not self.first_output_ns or sse is None or not sse.idle:
            self._pattern = None
        elif pattern is not self._pattern:
            self._pattern = pattern
            self._lead, self._tail = b"data: " + pattern[0], pattern[1] + b"\n\n\r\n"

    def _repeats(self, read: bytes) -> bool:
        """Whether a read is exactly what `_learn` noted, so that only its stamp is new.

        A paced stream sends each event as one chunk of the chunked encoding (RFC 9112, section 7.1), and nearly all
        reads bring one whole. The HTTP parser stands between two chunks then and sees none of it, nor does the SSE
        reader: that is a third of the CPU of a chunk. Whatever differs goes the whole way.
        """
        size_end = read.find(b"\r\n", 0, 8)
        lead, tail = self._lead, self._tail
        start, end = size_end + 2 + len(lead), len(read) - len(tail)
        repeats = (
            size_end > 0
            and start < end
            and read.startswith(lead, size_end + 2)
            and read.endswith(tail)
            and read[:size_end] == b"%x" % (len(read) - size_end - 4)
            and is_json_text(read[start:end])
        )
        if repeats and self._keeps:
            assert self.chat.pieces is not None
            self.chat.pieces.append(read[start:end])
        return repeats

    def ended(self, error: OSError | None, now_ns: int) -> None:
        """The connection is over; see `_connection.Receiver`."""
        if self.over:
            return
        self.keep_alive = False
        if self._eof_ends_body and error is None and not self._cut_within_compression:
            self.complete = True
            self._close(self.last_read_ns)
        elif self.done_seen:
            self._close(self.last_read_ns)
        elif not self.headers_ns:
            kind = ErrorKind.CUT if self.bytes_received else ErrorKind.CONNECTION_FAILED
            how = f"broke: {error.strerror}" if error else "was closed by the server"
            self._fail(Failure(kind, Phase.HEADERS, f"the connection {how} before the response's headers"), now_ns)
        else:
            how = f"broke: {error.strerror}" if error else "was closed by the server"
            self._fail(
                Failure(ErrorKind.CUT, self.phase, f"the connection {how} in the middle of the response"), now_ns
            )

    def abort(self, failure: Failure, now_ns: int) -> None:
        """End it from outside: a timeout, a cancellation."""
        if not self.over:
            self.keep_alive = False
            if self.done_seen:
                self._close(self.last_read_ns)
            else:
                self._fail(failure, now_ns)

    @property
    def phase(self) -> Phase:
        """Where the answer stands."""
        if not self.headers_ns:
            return Phase.HEADERS
        if self._sse is None:
            return Phase.BODY
        return Phase.STREAM if self.first_token_ns else Phase.FIRST_TOKEN

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer is read as events."""
        return self._sse is not None

    def _fail(self, failure: Failure, now_ns: int | None = None) -> None:
        self.failure = failure
        self._close(self._stamp if now_ns is None else now_ns)

    def _close(self, end_ns: int) -> None:
        if not self.over:
            self.over = True
            self.end_ns = end_ns
            self._finish()

    def release(self) -> None:
        """Let go of the parser, which holds this object in turn: the garbage collector then has nothing to find."""
        self._parser = None
        self._finish = _nothing

    # what the HTTP parser finds; it looks these names up

    def on_message_begin(self) -> None:
        if self.over:
            # A second message in the read that ended ours: that connection is out of step.
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.over:
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.over:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._informational = True
            return
        self.status = status
        self.headers_ns = self._stamp
        self.keep_alive = self._parser.should_keep_alive()
        fields = dict(self.headers)
        self.content_type = fields.get("content-type", "").split(";")[0].strip().lower()
        chunked = "chunked" in fields.get("transfer-encoding", "").lower()
        self._eof_ends_body = not chunked and "content-length" not in fields and status not in (204, 304)
        encoding = fields.get("content-encoding", "").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._encoding = encoding
        elif encoding not in ("", "identity"):
            raise Failure(ErrorKind.MALFORMED, Phase.HEADERS, f"content-encoding {encoding!r} was not asked for")
        # A server that answers a streamed request with plain JSON did not stream: that is read as a whole and said.
        if self.stream and status == 200 and self.content_type != "application/json":
            self._sse = SSEReader()

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        # Part of the next chunk's size may have been read too, unseen: `_learn` looks where the read ended.
        self._between_chunks = True

    def on_body(self, data: bytes) -> None:
        if self.over:
            return
        if self._encoding:
            data = self._decompress(data)
        if self._sse is not None:
            self._take_events(data)
        else:
            most = _MOST_BODY_BYTES if self.status == 200 else _MOST_ERROR_BYTES
            if len(self.body) + len(data) <= most:
                self.body += data
            elif self.status == 200:
                raise Failure(ErrorKind.MALFORMED, Phase.BODY, "a reply of over 64 MiB")

    def on_message_complete(self) -> None:
        if self.over:
            return
        if self._informational:
            # 1xx: the answer proper follows.
            self._informational = False
            self.headers.clear()
            return
        self.complete = True
        if self._cut_within_compression:
            self.complete = self.done_seen
            if not self.done_seen:
                raise Failure(ErrorKind.CUT, self.phase, "the compressed response ends in the middle")
        self._close(self._stamp)

    @property
    def _cut_within_compression(self) -> bool:
        return self._decompressor is not None and not self._decompressor.eof

    def _decompress(self, data: bytes) -> bytes:
        text = b""
        while data:
            if self._decompressor is None or self._decompressor.eof:
                # RFC 9110 means deflate within zlib's frame, whose first byte ends in 8; some servers leave it out.
                framed = data[0] & 0x0F == 8
                self._decompressor = zlib.decompressobj(31 if "gzip" in self._encoding else 15 if framed else -15)
            try:
                text += self._decompressor.decompress(data, _MOST_BODY_BYTES)
            except zlib.error:
                raise Failure(ErrorKind.MALFORMED, self.phase, "the response's compression is damaged") from None
            if self._decompressor.unconsumed_tail or len(text) > _MOST_BODY_BYTES:
                raise Failure(ErrorKind.MALFORMED, self.phase, "a read that unpacks to over 64 MiB")
            # Gzip may hold several members one after the other, and be padded with zeros.
            data = self._decompressor.unused_data.lstrip(b"\0")
        return text

    def _take_events(self, data: bytes) -> None:
        sse, chat = self._sse, self.chat
        if self.done_seen or sse is None:
            return
        try:
            events = sse.feed(data)
        except EventTooLargeError as error:
            raise Failure(ErrorKind.MALFORMED, self.phase, str(error)) from None
        if events and not self.first_chunk_ns:
            self.first_chunk_ns = self._stamp
        for text, kind in events:
            flags = chat.feed(text, kind)
            if flags & TOKEN:
                self.chunk_stamps.append(self._stamp)
                self._chunks_in_read += 1
                if not self.first_token_ns:
                    self.first_token_ns = self._stamp
                if flags & OUTPUT and not self.first_output_ns:
                    self.first_output_ns = self._stamp
            if flags & (DONE | ERROR | MALFORMED):
                if flags & DONE:
                    # Nothing after it counts, but the HTTP message is read to its end, to keep the connection.
                    self.done_seen = True
                    return
                raise self._event_failure(flags)

    def _event_failure(self, flags: int) -> Failure:
        if flags & MALFORMED:
            return Failure(ErrorKind.MALFORMED, self.phase, f"an event of the stream: {self.chat.malformed_because}")
        message = self.chat.reply.error.message if self.chat.reply.error else None
        return Failure(ErrorKind.ERROR_EVENT, self.phase, message or "an error event in the stream")

    def finish_events(self) -> None:
        """Look at what the last event left unfinished: some servers leave out the last line end."""
        rest = self._sse.close() if self._sse else None
        whole = self.failure is None or self.failure.kind is ErrorKind.CUT
        # Anything but [DONE] is dropped unread, as the format wants it: it may be half of what was meant.
        if rest and whole and rest.data.strip() == b"[DONE]":
            self.done_seen = True
