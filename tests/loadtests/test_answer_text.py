"""The text of an answer is kept where it is wanted: whole, the first choice's, and whichever way its reads take."""

from __future__ import annotations

import json
import random
from typing import Any

from tensorix_loadtests._exchange import Exchange
from tensorix_loadtests._outcome import judge

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SNIPPETS = ["a", " word", "é", "😀", '"', "\\", "\n", "\u2028", "\0", '","content":"', "x" * 50]


def _event(choice: dict[str, Any], *, escaped: bool) -> bytes:
    chunk = {"id": "c", "choices": [{"index": 0, "finish_reason": None} | choice]}
    return b"data: " + json.dumps(chunk, ensure_ascii=escaped).encode() + b"\n\n"


def _received(events: list[bytes], rng: random.Random, *, keep_text: bool) -> Exchange:
    """An exchange that has had these events: mostly one a read, some together, some cut."""
    while rng.random() < 0.5:
        at = rng.randrange(len(events) - 1)
        events[at : at + 2] = [events[at] + events[at + 1]]
    reads = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    if rng.random() < 0.3:
        at = rng.randrange(len(reads))
        reads[at : at + 1] = [reads[at][:9], reads[at][9:]]
    exchange = Exchange(stream=True, finish=lambda: None, keep_text=keep_text)
    for number, read in enumerate([HEAD, *reads, b"0\r\n\r\n"], 1):
        exchange.receive(memoryview(read), number, number)
    return exchange


def test_the_text_of_a_stream_is_kept_whole() -> None:
    """500 streams with reasoning, tools, a second choice and parts between: the text is what the first choice said."""
    for seed in range(500):
        rng = random.Random(seed)
        said, events, escaped = "", [_event({"delta": {"role": "assistant", "content": ""}}, escaped=False)], seed % 2
        for _ in range(40):
            text = "".join(rng.choices(SNIPPETS, k=rng.randrange(1, 4)))
            kind = rng.choice(["content"] * 12 + ["reasoning", "second", "tool", "parts", "usage", "both"])
            choice: dict[str, Any] = {"delta": {"content": text}}
            if kind == "reasoning":
                choice = {"delta": {"reasoning_content": text}}
            elif kind == "second":
                choice = {"delta": {"content": text}, "index": 1}
            elif kind == "tool":
                choice = {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}}
            elif kind == "parts":
                choice = {"delta": {"content": [{"type": "text", "text": text}], "reasoning": "why"}}
            elif kind == "usage":
                choice = {"delta": {}}
            elif kind == "both":
                choice = {"delta": {"reasoning": "why", "content": text}}
            said += text if kind in ("content", "parts", "both") else ""
            events.append(_event(choice, escaped=bool(escaped)))
        events += [_event({"delta": {}, "finish_reason": "stop"}, escaped=False), b"data: [DONE]\n\n"]
        exchange = _received(events, rng, keep_text=True)
        assert judge(exchange, models=False).outcome == "success", seed
        assert exchange.chat.text == said, seed


def test_a_text_that_nobody_wants_is_not_kept() -> None:
    """Without being asked nothing of the text stays in memory."""
    events = [_event({"delta": {"content": "a"}}, escaped=False) for _ in range(9)] + [b"data: [DONE]\n\n"]
    exchange = _received(events, random.Random(1), keep_text=False)
    assert (exchange.chat.text, exchange.chat.pieces) == (None, None)
