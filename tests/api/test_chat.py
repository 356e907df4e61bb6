"""What events and replies mean: each flag, each oddity that servers have, and the short cut that decodes nothing."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorix_api.chat import (
    CHUNK,
    DONE,
    ERROR,
    FINISH,
    MALFORMED,
    OUTPUT,
    TOKEN,
    USAGE,
    ChatStream,
    MalformedError,
    Usage,
    is_json_text,
    parse_models,
    parse_reply,
)

QUIETLY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
SAID = CHUNK | TOKEN | OUTPUT
USAGE_FIELDS = {
    "prompt_tokens": 5,
    "completion_tokens": 7,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def chunk(*deltas: Any, finish: str | None = None, **fields: Any) -> bytes:
    choices = [{"index": index, "delta": delta, "finish_reason": finish} for index, delta in enumerate(deltas)]
    return json.dumps({"id": "chatcmpl-1", "model": "m", "choices": choices, **fields}).encode()


def call(**function: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "id": "call-1", "type": "function", "function": function}]}


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        pytest.param(chunk({"role": "assistant"}), CHUNK, id="a role is no token"),
        pytest.param(chunk({"role": "assistant", "content": ""}), CHUNK, id="nor is empty content"),
        pytest.param(chunk({}), CHUNK, id="nor an empty delta"),
        pytest.param(chunk(None), CHUNK, id="nor a delta that is null"),
        pytest.param(chunk(), CHUNK, id="nor a keep-alive without choices"),
        pytest.param(b'{"choices":null}', CHUNK, id="choices that are null are none"),
        pytest.param(chunk({"content": None, "refusal": None, "tool_calls": None}), CHUNK, id="nulls are nothing"),
        pytest.param(chunk({"content": "a"}), SAID, id="content"),
        pytest.param(chunk({"content": " "}), SAID, id="a space is a token"),
        pytest.param(chunk({"content": [{"type": "text", "text": "a"}]}), SAID, id="content in parts"),
        pytest.param(chunk({"refusal": "no"}), SAID, id="a refusal"),
        pytest.param(chunk({"reasoning_content": "hm"}), CHUNK | TOKEN, id="reasoning as DeepSeek spells it"),
        pytest.param(chunk({"reasoning": "hm"}), CHUNK | TOKEN, id="reasoning as others spell it"),
        pytest.param(chunk({"reasoning": "", "content": ""}), CHUNK, id="empty reasoning"),
        pytest.param(chunk({"reasoning": "hm", "content": "a"}), SAID, id="both"),
        pytest.param(chunk(call(name="f", arguments="")), SAID, id="a tool call's name"),
        pytest.param(chunk(call(arguments="{")), SAID, id="a tool call's arguments"),
        pytest.param(chunk(call(arguments="")), CHUNK, id="a tool call with neither"),
        pytest.param(chunk({"tool_calls": [None, 1, {}]}), CHUNK, id="tool calls of a wrong shape"),
        pytest.param(chunk({"function_call": {"name": "f"}}), SAID, id="the older function call"),
        pytest.param(chunk({}, finish="stop"), CHUNK | FINISH, id="finish"),
        pytest.param(chunk({"content": "a"}, finish="stop"), SAID | FINISH, id="a last token with its finish"),
        pytest.param(chunk(usage=USAGE_FIELDS), CHUNK | USAGE, id="usage without choices"),
        pytest.param(chunk({}, usage=USAGE_FIELDS), CHUNK | USAGE, id="usage with an empty choice"),
        pytest.param(chunk({"content": "a"}, usage=None), SAID, id="usage that is null"),
        pytest.param(chunk({}, {"content": "a"}), SAID, id="a token of the second choice"),
        pytest.param(b'{"usage":{"completion_tokens":1}}', USAGE, id="usage and nothing else"),
        pytest.param(b'{"type":"ping"}', 0, id="an object of another kind"),
        pytest.param(b"[DONE]", DONE, id="done"),
        pytest.param(b" [DONE] ", DONE, id="done with spaces"),
        pytest.param(b"", 0, id="empty data"),
        pytest.param(b" \n", 0, id="blank data"),
        pytest.param(b'{"error":{"message":"no"}}', ERROR, id="an error"),
        pytest.param(b'{"error":"no"}', ERROR, id="an error as text"),
        pytest.param(b'{"error":{"message":"no"},"choices":[]}', ERROR, id="an error beside choices"),
        pytest.param(chunk({"content": "a"}, error=None), SAID, id="no error"),
        pytest.param(b"{", MALFORMED, id="broken JSON"),
        pytest.param(b"[]", MALFORMED, id="a list"),
        pytest.param(b"null", MALFORMED, id="null"),
        pytest.param(b"[done]", MALFORMED, id="done, but not as it is written"),
        pytest.param(b'{"choices":{}}', MALFORMED, id="choices that are no list"),
        pytest.param(b'{"choices":[null]}', MALFORMED, id="a choice that is no object"),
        pytest.param(chunk("a"), MALFORMED, id="a delta that is no object"),
        pytest.param(chunk({"content": 1}), MALFORMED, id="content that is no text"),
        pytest.param(b'{"choices":[{"delta":{"content":"\xff"}}]}', MALFORMED, id="no UTF-8"),
        pytest.param('{"choices":[]}'.encode("utf-16"), MALFORMED, id="UTF-16"),
        pytest.param(b'{"choices":[{"delta":{"content":"\\ud800"}}]}', SAID, id="half a surrogate pair, escaped"),
        pytest.param(b"[" * 100_000, MALFORMED, id="nested deeply"),
        pytest.param(b'{"choices":' + b"[" * 100_000, MALFORMED, id="nested deeply inside a chunk"),
        pytest.param(b'{"created":' + b"9" * 5_000 + b',"choices":[]}', MALFORMED, id="a number too long to read"),
    ],
)
def test_flags(data: bytes, flags: int) -> None:
    """Each event says what came in it, and says the same when it comes again."""
    stream = ChatStream()
    assert stream.feed(data) == flags
    assert stream.feed(data) == flags
    assert (stream.malformed_because is not None) == bool(flags & MALFORMED)


@pytest.mark.parametrize(
    ("data", "flags", "message"),
    [
        (b'{"message":"no"}', ERROR, "no"),
        (b'{"error":{"message":"no"}}', ERROR, "no"),
        (b"plain words", ERROR, "plain words"),
        (b'"plain words"', ERROR, "plain words"),
        (chunk({"content": "a"}), SAID, None),
        (b"[DONE]", DONE, None),
    ],
)
def test_an_event_of_type_error(data: bytes, flags: int, message: str | None) -> None:
    """It is an error in any shape, unless it is a chunk all the same."""
    stream = ChatStream()
    assert stream.feed(data, b"error") == flags
    assert (stream.reply.error.message if stream.reply.error else None) == message


def test_what_a_stream_tells_is_kept() -> None:
    """Identity and model from the first chunk, the finish reason, the usage."""
    stream = ChatStream()
    for data in (chunk({"role": "assistant"}), chunk({"content": "a"}), chunk({}, finish="length", id="other")):
        stream.feed(data)
    assert stream.finished
    stream.feed(chunk({}, usage=USAGE_FIELDS))
    reply = stream.reply
    assert (reply.response_id, reply.model, reply.finish_reason) == ("chatcmpl-1", "m", "length")
    assert reply.usage == Usage(5, 7, 2, 3)
    assert stream.finished


@pytest.mark.parametrize(
    ("events", "finished"),
    [
        ([], False),
        ([chunk()], False),
        ([chunk({"content": "a"})], False),
        ([chunk({}, finish="stop")], True),
        ([chunk({"content": "a"}), chunk({}, finish="")], False),
        ([chunk({"content": "a"}), chunk({}, finish="stop"), chunk({}, usage=USAGE_FIELDS)], True),
        ([chunk({"content": "a"}), chunk({}, finish="stop"), chunk({"content": "late"})], True),
        ([chunk({"role": "assistant"}, {"role": "assistant"}), chunk({}, finish="stop")], False),
        ([chunk({"content": "a"}, {"content": "b"}), chunk({}, {}, finish="stop")], True),
    ],
)
def test_a_stream_is_finished_once_every_choice_is(events: list[bytes], finished: bool) -> None:
    """A choice is there from its first delta with anything in it; the usage chunk's empty one opens none."""
    stream = ChatStream()
    for event in events:
        stream.feed(event)
    assert stream.finished is finished


def test_tool_calls_are_counted_once_each() -> None:
    """By choice and index, however many chunks their arguments come in."""
    stream = ChatStream()
    for arguments in ("{", '"a":', "1}"):
        stream.feed(chunk({"tool_calls": [{"index": k, "function": {"arguments": arguments}} for k in (0, 1)]}))
    assert stream.reply.tool_calls == 2
    stream.feed(chunk({}, call(name="f")))
    assert stream.reply.tool_calls == 3


@pytest.mark.parametrize("count", [-1, True, 1.5, "5", None, 2**63, [1]])
def test_a_count_that_is_none_is_left_out(count: Any) -> None:
    """Usage that cannot be a number of tokens is unknown, not an error."""
    stream = ChatStream()
    assert stream.feed(chunk(usage={"prompt_tokens": 1, "completion_tokens": count})) == CHUNK | USAGE
    assert stream.reply.usage == Usage(1, None)


def test_names_are_bounded_and_can_be_written() -> None:
    """What a record repeats is short, and has no half of a surrogate pair."""
    stream = ChatStream()
    stream.feed(b'{"id":"' + b"x" * 1_000 + b'","model":"\\ud800","choices":[]}')
    assert stream.reply.response_id == "x" * 200
    assert stream.reply.model == "?"


# the short cut

TEXTS = [
    "a",
    "Hello ",
    "é",
    "😀",
    '"',
    "\\",
    "\n",
    "\0",
    "\x7f",
    '"content":"',
    "[DONE]",
    "}]}",
    "\ud800",
    "/",
    "\u2028",
]
NAMES = ["content", "content", "content", "reasoning", "reasoning_content", "refusal", "role"]
STYLES: list[dict[str, Any]] = [
    {},
    {"ensure_ascii": False},
    {"separators": (",", ":")},
    {"separators": (" ,", " : ")},
]
ODD = [
    b"[DONE]",
    b'{"error":"no"}',
    b'{"choices":[],"content":"a"}',
    b'{"choices":[{"delta":{"content":"a","content":""}}]}',
    b'{"choices":[{"delta":{"content":"","content":"a"}}]}',
    b'{"choices":[{"delta":{"x \\"content":"a","refusal":"b"}}]}',
    b'{"choices":[{"delta":{"content" : "a"}, "finish_reason" :null}]}',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":{"content":"a"}}}]}}]}',
    b'{"choices":[{"delta":{"content":"a"}}],"error":{"content":""}}',
    b'{"choices":[{"delta":{"content":[{"type":"text","content":"a"}]}}]}',
    b'{"usage":{"content":"a"},"choices":[{"delta":{"content":"b"}}]}',
]
DAMAGE = [b"", b'"', b"\\", b"a", b"\xff", b"\n", b'":"', b"u", b"\xc3\xa9"]


def random_events(rng: random.Random) -> list[tuple[bytes, bytes]]:
    """Events as a server repeats them, some with bytes changed: the shape in which a short cut could go wrong."""
    style, names = rng.choice(STYLES), rng.sample(NAMES, 2)
    usual: dict[str, Any] = rng.choice([{"index": 0}, {"index": 0, "finish_reason": None}])
    events: list[bytes] = []
    for _ in range(rng.randrange(1, 20)):
        if rng.random() < 0.08:
            events.append(rng.choice(ODD))
            continue
        delta = {name: "".join(rng.choices(TEXTS, k=rng.randrange(4))) for name in names[: 1 + (rng.random() < 0.1)]}
        choice = {"delta": delta, **usual}
        if rng.random() < 0.1:
            choice |= rng.choice([{"index": 1}, {"finish_reason": "stop"}])
        events.append(json.dumps({"id": "x", "choices": [choice]}, **style).encode("utf-8", "replace"))
    for _ in range(rng.randrange(6)):
        changed = bytearray(rng.choice(events))
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(3)] = rng.choice(DAMAGE)
        events.insert(rng.randrange(len(events) + 1), bytes(changed))
    return [(event, b"error" if rng.random() < 0.05 else b"") for event in events for _ in range(rng.randrange(1, 3))]


def decoded(stream: ChatStream, data: bytes, kind: bytes) -> int:
    """What full decoding says, whatever was learnt before."""
    stream._prefix = None
    return stream.feed(data, kind)


class Counting(ChatStream):
    """Counts the events that it decoded."""

    decoded = 0

    def _feed_decoded(self, data: bytes, event_type: bytes) -> int:
        self.decoded += 1
        return super()._feed_decoded(data, event_type)


def test_the_short_cut_never_gives_another_answer_than_decoding() -> None:
    """Flags and all that is learnt are the same as of a stream that decodes every event: 5,000 streams."""
    short_cuts = 0
    for seed in range(5_000):
        quick, slow = Counting(), Counting()
        for data, kind in random_events(random.Random(seed)):
            assert quick.feed(data, kind) == decoded(slow, data, kind), (seed, data)
            assert quick.reply == slow.reply, (seed, data)
            assert quick.finished == slow.finished, (seed, data)
            assert quick.malformed_because == slow.malformed_because, (seed, data)
        short_cuts += slow.decoded - quick.decoded
    assert short_cuts > 10_000


def test_the_short_cut_is_taken() -> None:
    """Chunks that repeat the last but for their text are not decoded: else the test above would hold of nothing."""
    stream = Counting()
    for text in ("a", "b", " a whole sentence", 'a "quoted" one', "a\n", "\\"):
        assert stream.feed(chunk({"content": text})) == SAID
    assert stream.decoded == 1
    assert stream.feed(chunk({"content": "é"})) == SAID
    assert stream.decoded == 2  # written as \u00e9, which the short cut does not judge
    assert stream.feed(json.dumps(json.loads(chunk({"content": "é"})), ensure_ascii=False).encode()) == SAID
    assert stream.decoded == 2


@QUIETLY
@given(st.lists(st.sampled_from([json.dumps(text)[1:-1].encode() for text in TEXTS] + DAMAGE)).map(b"".join))
def test_json_text_is_the_inside_of_a_json_string(text: bytes) -> None:
    """What passes for the inside of a JSON string decodes as one, to something that is not empty."""
    if is_json_text(text):
        value = json.loads((b'"' + text + b'"').decode())
        assert isinstance(value, str)
        assert value


# whole replies


def test_a_whole_reply() -> None:
    """Identity, model, the first finish reason, tool calls of all choices, usage."""
    message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{}, {}]}
    choices = [{"message": message, "finish_reason": None}, {"message": message, "finish_reason": "stop"}]
    body = {"id": "x", "model": "m", "choices": choices, "usage": USAGE_FIELDS}
    reply = parse_reply(json.dumps(body).encode())
    assert (reply.response_id, reply.model, reply.finish_reason, reply.tool_calls) == ("x", "m", "stop", 4)
    assert reply.usage == Usage(5, 7, 2, 3)
    assert reply.error is None


def test_an_error_in_place_of_a_reply() -> None:
    """A 200 whose body is an error is told as one."""
    reply = parse_reply(b'{"error":{"message":"no","code":7}}')
    assert reply.error is not None
    assert (reply.error.message, reply.error.code) == ("no", "7")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"<html>", b"{}", b'{"choices":[]}', b'{"choices":[1]}', b'{"choices":{}}'),
        *(b'{"choices":[{}]}', b'{"choices":[{"message":"a"}]}', b"\xff", b"[" * 100_000),
    ],
)
def test_what_is_no_reply_is_refused(body: bytes) -> None:
    """In a few words that repeat nothing of it."""
    with pytest.raises(MalformedError, match=r"no") as caught:
        parse_reply(body)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 100


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "delta",
                        "usage",
                        "error",
                        "content",
                        "tool_calls",
                        "function",
                        "index",
                        "data",
                        "id",
                        "finish_reason",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """No shape of JSON raises anything but MalformedError."""
    data = json.dumps(value).encode()
    ChatStream().feed(data)
    ChatStream().feed(data, b"error")
    for parse in (parse_reply, parse_models):
        try:
            parse(data)
        except MalformedError:
            pass


def test_model_names() -> None:
    """In the server's order."""
    assert parse_models(b'{"object":"list","data":[{"id":"b"},{"id":"a","x":1}]}') == ["b", "a"]
    assert parse_models(b'{"data":[]}') == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data":{}}', b'{"data":[{}]}', b'{"data":["a"]}', b'{"data":[{"id":7}]}']
)
def test_what_is_no_model_list_is_refused(body: bytes) -> None:
    """A list of names is all or nothing."""
    with pytest.raises(MalformedError):
        parse_models(body)
