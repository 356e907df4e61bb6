"""The exchange's short cut: a read that repeats the last chunk is taken without parsing, and means what it would."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._outcome import judge

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SNIPPETS = [
    "a",
    "Hello",
    " world",
    "é",
    "😀",
    '"',
    "\\",
    "\n",
    "\0",
    "[DONE]",
    '","content":"',
    "}]}",
    "\u2028",
    "x" * 300,
]


class LongWay(Exchange):
    """An exchange that sends every byte through the HTTP parser and the SSE reader."""

    __slots__ = ()

    def _learn(self, read_end: bytes) -> None:
        pass


class Counting(Exchange):
    """An exchange that counts the reads that it did not parse."""

    __slots__ = ("short_cuts",)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.short_cuts = 0

    def _repeats(self, read: bytes) -> bool:
        taken = super()._repeats(read)
        self.short_cuts += taken
        return taken


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A chunk with a few bytes changed, put in or left out, or as it is."""
    changed = bytearray(data)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        at = rng.randrange(len(changed) or 1)
        byte = rng.choice(b'"\\\n\r{}[]:, aA0u\xc3\xa9\xff\x00\x7f')
        changed[at : at + rng.randrange(2)] = bytes([byte]) * rng.randrange(2)
    return bytes(changed)


def facts(exchange: Exchange, reads: list[bytes]) -> tuple[Any, ...]:
    """All that a record takes from an exchange."""
    for number, data in enumerate(reads, 1):
        exchange.receive(memoryview(data), 10 * number, 10 * number + number % 3)
    exchange.ended(None, 10**9)
    verdict = judge(exchange, models=False)
    stamps = (exchange.headers_ns, exchange.first_chunk_ns, exchange.first_token_ns, exchange.first_output_ns)
    honesty = (exchange.lag_first_token_ns, exchange.lag_max_ns, exchange.max_chunks_in_a_read, exchange.user_stamps)
    ends = (exchange.end_ns, exchange.done_seen, exchange.complete, exchange.keep_alive, exchange.bytes_received)
    return verdict, list(exchange.chunk_stamps), stamps, honesty, ends


def event(delta: dict[str, str], end: bytes) -> bytes:
    """A chunk of a chat completion as an event."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + json.dumps({"id": "chatcmpl-1", "choices": [choice]}, ensure_ascii=False).encode() + end * 2


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_read_taken_without_parsing_means_what_parsing_it_means() -> None:
    """2,000 paced streams with damaged chunks: stamps, outcome and all else equal those of the long way."""
    short_cuts = 0
    for seed in range(2_000):
        rng = random.Random(seed)
        field, end = rng.choice(["content", "content", "reasoning", "refusal"]), rng.choice([b"\n", b"\n", b"\r\n"])
        texts = ["".join(rng.choices(SNIPPETS, k=rng.randrange(3))) for _ in range(12)]
        blocks = [event({"content": "first"}, end), *(event({field: text}, end) for text in texts)]
        blocks.insert(rng.randrange(len(blocks)), b"data: [DONE]" + end * 2 if rng.random() < 0.2 else b"")
        blocks = [damaged(rng, block) if rng.random() < 0.1 else block for block in blocks]
        while rng.random() < 0.3:
            at = rng.randrange(len(blocks) - 1)
            blocks[at : at + 2] = [blocks[at] + blocks[at + 1]]
        chunks = [http_chunk(block) for block in blocks if block]
        chunks = [damaged(rng, chunk) if rng.random() < 0.02 else chunk for chunk in chunks]
        if rng.random() < 0.2:
            at = rng.randrange(len(chunks))
            chunks[at : at + 1] = [chunks[at][:-1], chunks[at][-1:]]
        reads = [HEAD, *chunks, b"0\r\n\r\n"]
        exchange = Counting(stream=True, finish=lambda: None)
        assert facts(exchange, reads) == facts(LongWay(stream=True, finish=lambda: None), reads), seed
        short_cuts += exchange.short_cuts
    assert short_cuts > 1_000


TOKEN_EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    ("reads", "outcome", "tokens"),
    [
        ([TOKEN_EVENT, TOKEN_EVENT + b"data: [DONE]\n\n", TOKEN_EVENT], "completed", 2),
        ([TOKEN_EVENT, TOKEN_EVENT, b"data: [DONE]\n\n", TOKEN_EVENT], "completed", 2),
        ([TOKEN_EVENT.replace(b":[", b":\ndata: ["), TOKEN_EVENT.replace(b":[", b":\n["), TOKEN_EVENT], "malformed", 1),
        ([TOKEN_EVENT, b"event: error\n", TOKEN_EVENT], "cut", 2),
        ([TOKEN_EVENT, b": ping", TOKEN_EVENT], "cut", 1),
        ([TOKEN_EVENT, TOKEN_EVENT, TOKEN_EVENT.replace(b'"a"', b'"a', 1)], "malformed", 2),
    ],
)
def test_a_read_like_the_last_chunk_is_still_read_in_its_place(reads: list[bytes], outcome: str, tokens: int) -> None:
    """After `[DONE]`, or where lines are unfinished, the same bytes mean something else."""
    exchange = Exchange(stream=True, finish=lambda: None)
    verdict, stamps, *_ = facts(exchange, [HEAD, *map(http_chunk, reads), b"0\r\n\r\n"])
    assert (verdict.stream_outcome, len(stamps)) == (outcome, tokens)
