"""The simulator in LiteLLM's mode beside a recording of that gateway: the same requests, the same answers."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tensorix_simulator import Simulator

_FOLDER = Path(__file__).parent / "gateway"
_RUN = "test"
_SETTINGS: dict[str, Any] = {
    "presets": ["litellm"],
    "models": ["tensorix-mock", "tensorix-model"],
    "reply_tokens": "20",
    "invalid_keys": [f"sk-unknown-{_RUN}"],
    "ttft": "1ms",
    "between_tokens": "1ms",
}
_LIMITS: dict[str, dict[str, Any]] = {"good": {"rpm": 60, "tpm": 2_000_000}, "small": {"rpm": 3, "tpm": 1_000}}


@pytest.fixture(scope="module")
def record() -> Iterator[ModuleType]:
    """The module of the command that makes the recording: what it sends, how it makes answers comparable."""
    spec = importlib.util.spec_from_file_location("gateway_record", _FOLDER / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for their module.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def recording() -> list[dict[str, Any]]:
    """What the gateway answered."""
    recorded: list[dict[str, Any]] = json.loads((_FOLDER / "recording.json").read_text(encoding="utf-8"))
    return recorded


@pytest.fixture(scope="module")
def simulators(record: ModuleType) -> Iterator[Callable[[str | None], str]]:
    """Gives the address for a key: each kind of key has limits of its own, so it has a simulator of its own."""
    with (
        Simulator(window_s=record.WINDOW_S, **_SETTINGS, **_LIMITS["good"]) as good,
        Simulator(window_s=record.WINDOW_S, **_SETTINGS, **_LIMITS["small"]) as small,
    ):
        yield lambda key: (small if (key or "").startswith("small") else good).base_url.removesuffix("/v1")
        assert (good.complaints(), small.complaints()) == ("", "")


@pytest.fixture(scope="module")
def answered(record: ModuleType, simulators: Callable[[str | None], str]) -> list[dict[str, Any]]:
    """What the simulator answers to the same requests; only the pauses are left out in which nothing would change."""
    return list(record.answers(lambda ask: simulators(ask.key), record.sequence(), run=_RUN, settle=False))


def test_sixty_answers_are_the_gateways(
    record: ModuleType, recording: list[dict[str, Any]], answered: list[dict[str, Any]]
) -> None:
    """Statuses, headers and their values, bodies and events are those recorded; only ids, times and text differ."""
    assert len(recording) == len(answered) == 60
    found = record.found(recording, answered)
    assert found == [], "\n" + "\n".join(found)


def test_the_recording_is_of_the_sequence_as_it_is(record: ModuleType, recording: list[dict[str, Any]]) -> None:
    """Each recorded answer says which request it belongs to, and what was sent."""
    asked = [record.sent(number, ask) for number, ask in enumerate(record.sequence(), 1)]
    assert [{name: answer[name] for name in asked[0]} for answer in recording] == asked


def test_the_recording_has_all_kinds_of_answers(recording: list[dict[str, Any]]) -> None:
    """Streamed and not, models, each status, both kinds of 429 and the other side of a window's edge are in it."""
    statuses = [answer["status"] for answer in recording]
    assert {status: statuses.count(status) for status in sorted(set(statuses))} == {
        200: 36, 400: 9, 401: 4, 404: 2, 405: 3, 429: 6,
    }  # fmt: skip


_MUTATIONS: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "a status": lambda answers: answers[3].update(status=201),
    "a header's value": lambda answers: _change_header(answers[3], "x-ratelimit-api_key-remaining-tokens", "1"),
    "a header that is missing": lambda answers: answers[3]["headers"].pop(),
    "a header that comes twice": lambda answers: answers[3]["headers"].append(answers[3]["headers"][0]),
    "a field of a body": lambda answers: answers[3]["body"]["json"].update(object="chat"),
    "a field that is missing": lambda answers: answers[3]["body"]["json"].pop("usage"),
    "a field that is more": lambda answers: answers[3]["body"]["json"].update(service_tier=None),
    "a count of tokens": lambda answers: answers[3]["body"]["json"]["usage"].update(total_tokens=31),
    "a number that is text": lambda answers: answers[3]["body"]["json"]["usage"].update(total_tokens="30"),
    "a number that is another type": lambda answers: answers[3]["body"]["json"]["usage"].update(total_tokens=30.0),
    "an event that is missing": lambda answers: answers[12]["body"]["events"].pop(),
    "a field of an event": lambda answers: answers[12]["body"]["events"][0]["choices"][0]["delta"].pop("role"),
    "a null": lambda answers: answers[32]["body"]["json"]["error"].update(param=None),
    "a message": lambda answers: answers[32]["body"]["json"]["error"].update(message="Wrong API key"),
}


def _change_header(answer: dict[str, Any], name: str, value: str) -> None:
    answer["headers"] = [f"{name}: {value}" if line.startswith(f"{name}: ") else line for line in answer["headers"]]


@pytest.mark.parametrize("mutation", _MUTATIONS)
def test_a_difference_is_seen(record: ModuleType, recording: list[dict[str, Any]], mutation: str) -> None:
    """The comparison finds the one thing that is not the same, whatever it is, and says where."""
    assert record.differences(recording, recording) == []
    mutated = copy.deepcopy(recording)
    _MUTATIONS[mutation](mutated)
    assert mutated != recording or mutation.startswith("a number that is another")
    lines = record.differences(recording, mutated)
    assert len(lines) == 1
    assert lines[0].startswith(f"[{next(i for i in range(60) if record.differences(recording[i], mutated[i]))}].")


def test_placeholders_stand_for_ids_times_and_text_only(record: ModuleType) -> None:
    """An id of another form, a time that is far off and another reset stay as they are, and so would differ."""
    headers = [("content-type", "application/json"), ("date", "Mon, 23 Nov 2026 08:00:00 GMT")]

    def normal(value: dict[str, Any]) -> Any:
        return record.normal(record.Answer(200, headers, json.dumps(value).encode()))["body"]["json"]

    assert normal({"object": "chat.completion", "id": "cmpl-1", "created": 1}) == {
        "object": "chat.completion", "id": "cmpl-1", "created": 1,
    }  # fmt: skip
    assert normal({"message": "resets at: 2026-11-23 08:00:05 UTC"}) == {"message": "resets at: <a window from now>"}
    assert normal({"message": "resets at: 2026-11-23 08:01:00 UTC"})["message"].endswith("08:01:00 UTC")
    assert normal({"delta": {"content": ""}}) == {"delta": {"content": ""}}
    assert normal({"usage": {"prompt_tokens": 10}}) == {"usage": {"prompt_tokens": 10}}
