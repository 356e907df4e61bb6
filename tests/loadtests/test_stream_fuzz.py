"""Random streams, each labelled by the generator that wrote it: read, judged, and sent through real sockets."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse
import openai
import pytest

from tensorix_api.chat import DONE, ERROR, MALFORMED, TOKEN, ChatStream
from tensorix_api.sse import SSEReader
from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._outcome import judge

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client, Peer, Server

STREAMS = 10_000
HOW_MANY = pytest.mark.parametrize("streams", [2_000, pytest.param(STREAMS, marks=pytest.mark.slow)])
ON_SOCKETS = 400
SNIPPETS = [
    *("a", "Hello", " world", "é", "日本", "😀", "\u2028", "\x85", "\ufeff", " " * 40, "x" * 300),
    *('"', "\\", "\\u", "\n", "\r\n", "\t", "\0", "data: [DONE]\n\n", "[DONE]", '","content":"', "}]}", '{"error":1}'),
]
ERRORS: list[tuple[bytes, bytes]] = [
    (b"", b'{"error":{"message":"overloaded","type":"server_error","code":503}}'),
    (b"", b'{"error":"overloaded"}'),
    (b"", b'{"choices":[],"error":{"message":"no more"}}'),
    (b"error", b'{"error":{"message":"no more"}}'),
    (b"error", b'{"message":"no more"}'),
    (b"error", b"no more"),
]
NO_CHUNKS = [
    *(
        b"{",
        b'{"choices":',
        b"[]",
        b"1",
        b"null",
        b'"text"',
        b"{]}",
        b"no json",
        b"[DONE",
        b"[done]",
        b"{'choices':[]}",
    ),
    *(b'{"choices":{}}', b'{"choices":[1]}', b'{"choices":"none"}', b'{"choices":[{"index":0,"delta":[]}]}'),
    *(b'{"choices":[{"delta":{"content":7}}]}', b'{"choices":[{"delta":{"content":"\xff"}}]}', b'{"a":"\xed\xa0\x80"}'),
    *(b"[" * 20_000, b'{"a":' * 20_000, b'{"choices":[]} {}', b'{"choices":[{"delta":{"content":"a\tb"}}]}', b"\xff"),
]


@dataclass
class Stream:
    """What a server sends for one stream, and what a reader must make of it."""

    rng: random.Random
    label: str = "completed"
    clean: bool = True
    """Whether the connection ends as HTTP wants it."""
    blocks: list[bytes] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    tokens: int = 0
    """Chunks with something generated."""
    usage: dict[str, Any] | None = None
    plain: bool = True
    """Whether it is all a decoder that is less tolerant can read, too."""

    def __post_init__(self) -> None:
        rng = self.rng
        self.line_end = rng.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
        self.style: dict[str, Any] = {"ensure_ascii": rng.random() < 0.5}
        self.style |= rng.choice([{}, {"separators": (",", ":")}, {"separators": (",", ":")}, {"indent": 1}])
        self.colon = rng.choice([b": ", b": ", b":"])
        self.noise = rng.choice([0.0, 0.0, 0.2])
        self.frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "z-ai/glm-5"}

    @property
    def body(self) -> bytes:
        return b"".join(self.blocks)

    def event(self, data: bytes, kind: bytes = b"") -> bytes:
        """An event on the wire; line ends inside the data become further data lines."""
        lines = [b"event" + self.colon + kind] if kind else []
        lines += [b"data" + self.colon + line for line in data.split(b"\n")]
        return b"".join(line + self.line_end for line in [*lines, b""])

    def chunk(self, choices: list[dict[str, Any]], **fields: Any) -> bytes:
        data = json.dumps({**self.frame, "choices": choices, **fields}, **self.style)
        return self.event(data.encode())

    def keep_alive(self) -> bytes:
        end = self.line_end
        if self.rng.random() < 0.5:
            return self.rng.choice([b": ping" + end, b": ping" + end * 2, b":" + end, end, b"nonsense" + end])
        self.plain = False
        fields = [b"retry: 10" + end, b"data" + end * 2, b"id: 1" + end * 2]
        return self.rng.choice([*fields, self.chunk([]), self.event(b'{"type":"ping"}', b"ping")])

    def delta(self, index: int) -> dict[str, Any]:
        """One of all that a choice's delta can hold."""
        rng = self.rng
        text = "".join(rng.choices(SNIPPETS, k=rng.randrange(1, 4)))
        if self.style["ensure_ascii"] and rng.random() < 0.02:
            text, self.plain = text + "\ud83d", False
        kind = rng.choices(["content", "reasoning", "reasoning_content", "tool", "refusal"], [10, 2, 2, 1, 1])[0]
        if kind == "content":
            self.texts[index] = self.texts.get(index, "") + text
        if kind == "tool":
            return {"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": {"arguments": text}}]}
        return {kind: text}

    def choices(self, deltas: dict[int, dict[str, Any]], finish: str | None = None) -> bytes:
        """A chunk with these deltas."""
        return self.chunk([{"index": k, "delta": delta, "finish_reason": finish} for k, delta in deltas.items()])

    def generate(self) -> Iterator[bytes]:
        """Each choice's chunks, in turns; every choice is seen before the first is through."""
        rng = self.rng
        left = {index: rng.randrange(12) for index in range(rng.choice([1, 1, 1, 2, 3]))}
        for index in left:
            yield self.choices({index: {"role": "assistant", "content": ""}})
        while left:
            index = rng.choice(list(left))
            if left[index]:
                left[index] -= 1
                among = left if rng.random() < 0.05 else [index]
                self.tokens += 1
                yield self.choices({k: self.delta(k) for k in among})
                if rng.random() < 0.1:
                    yield self.choices({index: rng.choice([{}, {"content": ""}, {"content": None, "tool_calls": []}])})
            else:
                del left[index]
                yield self.choices({index: {}}, rng.choice(["stop", "length", "tool_calls"]))

    def add_usage(self) -> None:
        """The usage chunk, with no choice or with an empty one."""
        self.usage = {"prompt_tokens": self.rng.randrange(10**6), "completion_tokens": self.tokens}
        empty = {"index": 0, "delta": {}, "finish_reason": None}
        self.blocks.append(self.chunk(self.rng.choice([[], [empty]]), usage=self.usage))


def completed(stream: Stream) -> None:
    """Whole; with `[DONE]`, or without it but with a clean end. What follows `[DONE]` counts for nothing."""
    rng = stream.rng
    stream.blocks = list(stream.generate())
    if rng.random() < 0.5:
        stream.add_usage()
    if rng.random() < 0.1:
        stream.blocks[0] = b"\xef\xbb\xbf" + stream.blocks[0]
    while rng.random() < 0.3:
        # Before a byte order mark nothing may stand.
        stream.blocks.insert(rng.randrange(1, len(stream.blocks) + 1), stream.keep_alive())
    if rng.random() < 0.3:
        return
    done = stream.event(rng.choice([b"[DONE]", b"[DONE]", b"[DONE] "]))
    shape = rng.choice(["whole", "whole", "no blank line", "no line end", "more"])
    if shape != "whole" and shape != "more":
        done = done.removesuffix(stream.line_end * (1 if shape == "no blank line" else 2))
    stream.blocks.append(done)
    if shape == "more":
        more = [stream.blocks[-3 if len(stream.blocks) > 3 else 0], stream.event(b"{"), stream.event(ERRORS[0][1])]
        stream.blocks += rng.choices(more, k=3)
        stream.plain = False
    stream.clean = rng.random() < 0.8


def cut(stream: Stream) -> None:
    """It ends before it says that it is through, or it ends badly."""
    rng = stream.rng
    stream.blocks = list(stream.generate())
    through = len(stream.body) - len(stream.line_end)
    how = rng.choice(["anywhere", "anywhere", "anywhere", "last chunk", "badly", "in an error", "nothing", "garbage"])
    if how == "anywhere":
        stream.blocks = [stream.body[: rng.randrange(through + 1)]]
        stream.clean = rng.random() < 0.5
    elif how == "last chunk":
        stream.blocks.pop()
        stream.add_usage()
    elif how == "badly":
        stream.clean = False
    elif how == "in an error":
        stream.blocks[-1] = stream.event(b'{"error":"overloaded"}').removesuffix(stream.line_end)
    else:
        stream.blocks = [rng.randbytes(rng.randrange(200))] if how == "garbage" else [stream.keep_alive()]
    if rng.random() < 0.3 and len(stream.blocks) > 1:
        stream.blocks.insert(rng.randrange(len(stream.blocks)), stream.keep_alive())


def error_event(stream: Stream) -> None:
    """An error in the middle; what follows it counts for nothing."""
    completed_or_cut = stream.rng.choice([completed, cut])
    stream.blocks = list(stream.generate())
    at = stream.rng.randrange(len(stream.blocks) + 1)
    kind, data = stream.rng.choice(ERRORS)
    before = stream.blocks[:at]
    completed_or_cut(stream)
    stream.blocks = [*before, stream.event(data, kind), *stream.blocks]


def malformed(stream: Stream) -> None:
    """Something in the middle that is no chunk; what follows it counts for nothing."""
    before = list(stream.generate())
    noise = bytes(byte for byte in stream.rng.randbytes(50) if byte not in b"\r\n") + b"\xff"
    bad = stream.rng.choice([*NO_CHUNKS, noise])
    completed(stream)
    stream.blocks = [*before[: stream.rng.randrange(len(before) + 1)], stream.event(bad), *stream.blocks]


WRITERS = {"completed": completed, "cut": cut, "error_event": error_event, "malformed": malformed}


def write(seed: int) -> Stream:
    """The stream of a seed."""
    rng = random.Random(seed)
    label = rng.choices(list(WRITERS), [4, 3, 1, 2])[0]
    stream = Stream(rng, label)
    WRITERS[label](stream)
    return stream


def split(stream: Stream) -> list[bytes]:
    """The body as it may come: an event at a time, all at once, in single bytes, or cut anywhere."""
    rng, body = stream.rng, stream.body
    how = rng.choice(["events", "events", "whole", "bytes", "anywhere", "anywhere"])
    if how == "events":
        return stream.blocks
    if how == "whole":
        return [body]
    if how == "bytes" and len(body) < 2_000:
        return [body[at : at + 1] for at in range(len(body))]
    at = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(1, 40)))
    return [body[start:end] for start, end in zip([0, *at], [*at, len(body)], strict=True)]


def read(stream: Stream) -> tuple[str, ChatStream, list[bytes], int]:
    """What SSEReader and ChatStream make of it: how it ended, what was learnt, the events, the chunks with a token."""
    reader, chat = SSEReader(), ChatStream()
    events: list[bytes] = []
    tokens = 0
    for piece in split(stream):
        for event in reader.feed(piece):
            flags = chat.feed(event.data, event.type)
            if flags & DONE:
                return "completed", chat, events, tokens
            if flags & (ERROR | MALFORMED):
                return "error_event" if flags & ERROR else "malformed", chat, events, tokens
            events.append(event.data)
            tokens += bool(flags & TOKEN)
    last = reader.close()
    whole = (last is not None and last.data.strip() == b"[DONE]") or (stream.clean and chat.finished)
    return "completed" if whole else "cut", chat, events, tokens


def texts_in(events: list[bytes]) -> dict[int, str]:
    """The contents of the chunks, joined a choice."""
    texts: dict[int, str] = {}
    for data in filter(None, events):
        for choice in json.loads(data).get("choices", ()):
            if content := choice["delta"].get("content"):
                texts[choice["index"]] = texts.get(choice["index"], "") + content
    return texts


def read_independently(stream: Stream) -> list[bytes]:
    """The events up to `[DONE]` as httpx-sse reads them."""
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    response = httpx.Response(200, headers=headers, content=stream.body.removeprefix(b"\xef\xbb\xbf"))
    events = []
    for event in httpx_sse.EventSource(response).iter_sse():
        if event.data.strip() == "[DONE]":
            break
        events.append(event.data.encode())
    return events


@HOW_MANY
def test_streams_are_read_as_they_were_written(streams: int) -> None:
    """Each is classified as its label says; valid ones give the texts that httpx-sse reads, however they were split."""
    labels: Counter[str] = Counter()
    for seed in range(streams):
        stream = write(seed)
        outcome, chat, events, tokens = read(stream)
        assert outcome == stream.label, seed
        labels[outcome] += 1
        if outcome == "completed":
            assert tokens == stream.tokens, seed
            assert texts_in(events) == texts_in(read_independently(stream)) == stream.texts, seed
            assert (chat.reply.usage is None) == (stream.usage is None), seed
            if stream.usage and chat.reply.usage:
                assert chat.reply.usage.prompt_tokens == stream.usage["prompt_tokens"], seed
    assert len(labels) == 4
    assert min(labels.values()) > streams / 20


def framed(stream: Stream) -> list[bytes]:
    """The reads of an HTTP response with this body: in chunks, with a length, until the end, or compressed."""
    rng, pieces = stream.rng, [piece for piece in split(stream) if piece]
    size = sum(map(len, pieces))
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    framing = rng.choice(["chunked", "chunked", "length", "close" if stream.clean else "chunked", "gzip"])
    if framing == "gzip" and stream.clean:
        pieces, head = [gzip.compress(b"".join(pieces), 1)], head + b"content-encoding: gzip\r\n"
    if framing in ("chunked", "gzip"):
        head += b"transfer-encoding: chunked\r\n\r\n"
        reads = [head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)]
        reads.append(b"0\r\n\r\n" if stream.clean else rng.choice([b"", b"1", b"5\r\n", b"0\r\n"]))
    elif framing == "length":
        head += b"content-length: %d\r\n\r\n" % (size + (0 if stream.clean else rng.randrange(1, 100)))
        reads = [head, *pieces]
    else:
        reads = [head + b"\r\n", *pieces]
    if rng.random() < 0.4:
        whole = b"".join(reads)
        at = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randrange(20)))
        reads = [whole[start:end] for start, end in zip([0, *at], [*at, len(whole)], strict=True)]
    return [piece for piece in reads if piece]


@HOW_MANY
def test_answers_are_judged_as_they_were_written(streams: int) -> None:
    """The same streams as HTTP answers, in any framing and any reads: the outcome is the label, tokens are stamped."""
    for seed in range(streams):
        stream = write(seed)
        ends: list[str] = []
        exchange = Exchange(stream=True, finish=partial(ends.append, "finished"))
        for number, data in enumerate(framed(stream), 1):
            exchange.receive(memoryview(data), number, number + 1)
        exchange.ended(None, 10**9)
        assert ends == ["finished"], seed
        verdict = judge(exchange, models=False)
        assert verdict.stream_outcome == stream.label, seed
        assert verdict.outcome == ("success" if stream.label == "completed" else "failed"), seed
        if stream.label == "completed":
            assert len(exchange.chunk_stamps) == stream.tokens, seed


def test_the_openai_sdk_reads_the_same_texts() -> None:
    """300 valid streams through the SDK itself: the contents of each choice are those that were written."""
    bodies: dict[str, bytes] = {}

    def respond(request: httpx.Request) -> httpx.Response:
        model = json.loads(request.content)["model"]
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=bodies[model])

    # Any: which of httpx's lines the SDK's types name depends on its version; it takes either.
    http: Any = httpx.Client(transport=httpx.MockTransport(respond))
    client = openai.OpenAI(api_key="sk-nobody", base_url="http://127.0.0.1/v1", http_client=http, max_retries=0)
    seeds = iter(range(STREAMS))
    while len(bodies) < 300:
        seed = next(seeds)
        stream = write(seed)
        # The SDK takes an event of any kind for a chunk, and stumbles over a byte order mark.
        if stream.label != "completed" or not stream.plain or stream.body[:1] == b"\xef":
            continue
        bodies[str(seed)] = stream.body
        texts: dict[int, str] = {}
        for chunk in client.chat.completions.create(model=str(seed), messages=[], stream=True):
            for choice in chunk.choices:
                if choice.delta.content:
                    texts[choice.index] = texts.get(choice.index, "") + choice.delta.content
        assert texts == stream.texts, seed
    client.close()


def test_hundreds_of_streams_through_the_client(serve: Callable[..., Server], client: Client) -> None:
    """The load client on real sockets: no hang, and each record says what the generator's label does."""
    streams = {seed: write(seed) for seed in range(STREAMS, STREAMS + ON_SOCKETS)}

    def handle(peer: Peer) -> None:
        while True:
            _head, body = peer.request()
            stream = streams[int(json.loads(body)["model"])]
            reads = framed(stream)
            for data in reads:
                peer.send(data)
            if not stream.clean or b"\r\n\r\n" not in reads[0] or b"-length" not in reads[0]:
                return

    server = serve(handle)
    for start in range(STREAMS, STREAMS + ON_SOCKETS, 50):
        seeds = range(start, start + 50)
        seen = client.send(server.base_url, *({"model": str(seed)} for seed in seeds))
        for seed, record in zip(seeds, seen.records, strict=True):
            label = streams[seed].label
            assert record.stream_outcome == label, (seed, record)
            assert record.outcome == ("success" if label == "completed" else "failed"), seed
            assert record.error_kind == (None if label == "completed" else label), seed
            if label == "completed":
                assert record.chunks == streams[seed].tokens, seed
