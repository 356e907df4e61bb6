"""A call: the bytes of its body, and what the record will say of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tensorix_loadtests._call import Call

MESSAGES = [{"role": "user", "content": "hello"}]


def _chat(**keywords: Any) -> tuple[Call, dict[str, Any]]:
    given: dict[str, Any] = {"model": "m", "stream": True, "max_tokens": 8} | keywords
    call = Call.chat(MESSAGES, **given)
    return call, json.loads(call.body or b"")


def test_a_plain_call() -> None:
    """The body holds what was given, and the call says the same."""
    call, body = _chat(temperature=0.5)
    assert body == {
        "model": "m",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 8,
        "temperature": 0.5,
    }
    assert (call.model, call.stream, call.max_tokens, call.n, call.prompt_chars) == ("m", True, 8, None, 5)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"model": "other"}, ("other", True, 8, 5)),
        ({"model": 3}, (None, True, 8, 5)),
        ({"stream": False}, ("m", False, 8, 5)),
        ({"stream": None}, ("m", False, 8, 5)),
        ({"max_tokens": 3}, ("m", True, 3, 5)),
        ({"max_tokens": None}, ("m", True, None, 5)),
        ({"max_tokens": True}, ("m", True, None, 5)),
        ({"max_tokens": None, "max_completion_tokens": 4}, ("m", True, 4, 5)),
        ({"messages": [{"role": "user", "content": "hi"}]}, ("m", True, 8, 2)),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}, 7]}, ("m", True, 8, 0)),
        ({"messages": "hi"}, ("m", True, 8, 0)),
    ],
)
def test_a_call_says_what_its_body_says(extra: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Where further fields override the call, its description follows the body that is sent."""
    call, body = _chat(extra=extra)
    assert extra.items() <= body.items()
    assert (call.model, call.stream, call.max_tokens, call.prompt_chars) == expected
    # A usage chunk is asked of streams only, and a body of one's own may say otherwise.
    assert ("stream_options" in body) == call.stream


def test_a_call_of_ones_own_kind() -> None:
    """The newer name of the bound counts where the other is absent, as do n and stream_options that were given."""
    call, body = _chat(max_tokens=None, extra={"max_completion_tokens": 7, "n": 2, "stream_options": {}})
    assert (call.max_tokens, call.n, body["stream_options"]) == (7, 2, {})


def test_the_text_tells_prompts_apart() -> None:
    """Calls of one text have one prompt id, and another text another."""
    one, again = _chat()[0], _chat(stream=False)[0]
    other = Call.chat([{"role": "user", "content": "Hello"}], model="m", stream=True, max_tokens=8)
    assert one.prompt_id == again.prompt_id != other.prompt_id


def test_what_is_no_json_is_never_sent() -> None:
    """NaN, which Python would write and no server can read, is an error of the caller's."""
    with pytest.raises(ValueError, match="JSON"):
        _chat(extra={"top_p": float("nan")})
