"""Conversations over sockets: each turn carries the answers that this server gave, in closed and in open loop."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tensorix_records import Run

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine, Peer, Server

Start = Callable[..., "Engine"]


class Answering:
    """Answers each question with a text that no other has, streamed or not as it was asked; every fifth is refused."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.given: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while True:
            head, body = peer.request()
            if head.startswith(b"GET"):
                peer.answer(200, {"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
                continue
            asked = json.loads(body)
            with self._lock:
                request_id = head.partition(b"X-Request-Id: ")[2].partition(b"\r\n")[0].decode()
                self.bodies[request_id] = asked
                self.given.append(f"answer {len(self.given)} “é”\n")
                text, refused = self.given[-1], len(self.given) % 5 == 0
            if refused:
                peer.answer(500, {"error": {"message": "no"}})
            elif asked["stream"]:
                peer.answer(200, peer.stream(text[:3], text[3:]), content_type="text/event-stream")
            else:
                peer.reply(text)


@pytest.mark.parametrize("loop", ["closed", "open"])
def test_each_turn_carries_the_answers_before_it(
    loop: str, serve: Callable[..., Server], start_engine: Start, tmp_path: Path
) -> None:
    """The server reads its own words again, in their order; a conversation whose answer failed is not gone on with."""
    answering = Answering()
    talks = tmp_path / "talks.jsonl"
    talk = [{"from": "system", "value": "s"}] + [{"from": "human", "value": f"{n}?"} for n in (1, 2, 3)]
    talks.write_text(json.dumps({"conversations": talk}))
    asked: dict[str, Any] = {"users": 3, "mix": {"chat-streamed": 1.0, "chat-unstreamed": 1.0}}
    if loop == "open":
        asked |= {"arrivals": {"stages": [{"duration_s": 30.0, "rate": 100.0}], "gaps": "constant"}}
    engine = start_engine(
        serve(answering).base_url, requests=60, models={"a": 1, "b": 1}, prompting={"path": str(talks)}, **asked
    )
    assert engine.end() == 0, engine.said
    rows = [row for row in Run.open(engine.out).records().to_pylist() if row["scenario"] != "preflight"]
    assert len(rows) == len(answering.bodies) == 60
    talks_seen: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["turn"]):
        messages = answering.bodies[row["request_id"]]["messages"]
        assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * row["turn"]][:-1]
        assert [m["content"] for m in messages if m["role"] == "user"] == [f"{n}?" for n in range(1, row["turn"] + 1)]
        before = talks_seen.setdefault(row["conversation_id"], [])
        assert len(before) == row["turn"] - 1
        assert all(earlier["outcome"] == "success" for earlier in before)
        # What was said is carried word for word, from the turn before.
        if before:
            earlier = answering.bodies[before[-1]["request_id"]]["messages"]
            assert messages[: len(earlier)] == earlier
            assert messages[-2]["content"] in answering.given
        before.append(row)
        assert row["prompt_tokens_planned"] > 0
    carried = [answering.bodies[row["request_id"]]["messages"][-2]["content"] for row in rows if row["turn"] > 1]
    assert len(set(carried)) == len(carried) > 20
    assert Counter(len({row["model_requested"] for row in talk}) for talk in talks_seen.values()).keys() == {1}
    assert {row["model_requested"] for row in rows} == {"a", "b"}
    assert Run.open(engine.out).manifest["prompts"]["tokens_estimated"] is True


def test_a_file_that_turns_out_wrong_ends_the_run(
    serve: Callable[..., Server], start_engine: Start, tmp_path: Path
) -> None:
    """A wrong line that is come to in the run ends it in order, with the line's number."""
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\noops\n')
    engine = start_engine(serve(Answering()).base_url, requests=9, prompting={"path": str(path)})
    engine.end()
    assert "line 3" in engine.said[-1]
    assert Run.open(engine.out).manifest["end_reason"] == "prompts_broken"
