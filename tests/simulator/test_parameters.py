"""Parameters do what they say or are refused as OpenAI refuses them; nothing is ignored in silence."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tensorix_simulator import Simulator
from tensorix_simulator.chat.accepted import PARAMETERS, REASONING
from tensorix_simulator.chat.parameters import BadParameter, ChatRequest, read_chat_request
from tensorix_simulator.chat.replies import Reply, ReplyMaker
from tensorix_simulator.chat.words import CYCLE, TOKENS, first_stop, stretch
from tensorix_simulator.settings import SimulatorSettings

Body = Callable[..., dict[str, Any]]
SETTINGS = SimulatorSettings()
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}


def named(index: int = 0, **members: Any) -> dict[str, Any]:
    return {"messages": [*[USER] * index, members]}


def schema(parameters: Any, **members: Any) -> dict[str, Any]:
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters, **members}}]}


def form(given: Any, **members: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": given, **members}}}


def read(body: Body, settings: SimulatorSettings = SETTINGS, **changes: Any) -> ChatRequest | BadParameter:
    return read_chat_request(json.dumps(body(**changes)).encode(), settings)


def valid(body: Body, settings: SimulatorSettings = SETTINGS, **changes: Any) -> ChatRequest:
    request = read(body, settings, **changes)
    assert isinstance(request, ChatRequest), request
    return request


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # Messages.
    (named(role="tool", content="x"), "messages[0].tool_call_id", "missing_required_parameter"),
    (named(1, role="tool", content="x", tool_call_id="call_1"), "messages[1].tool_call_id", "invalid_value"),
    (named(role="function", content="x"), "messages[0].name", "missing_required_parameter"),
    (named(role="user", content="x", name=5), "messages[0].name", "invalid_type"),
    (named(role="user", content="x", mood="good"), "messages[0].mood", "unknown_parameter"),
    (named(role="user", content=[]), "messages[0].content", "empty_array"),
    (named(role="user", content=[{"type": "poem"}]), "messages[0].content[0].type", "invalid_value"),
    (named(role="system", content=[{"type": "image_url"}]), "messages[0].content[0].type", "invalid_value"),
    (named(role="user", content=[{"type": "input_audio"}]), "messages[0].content[0].type", "unsupported_value"),
    (
        named(role="user", content=[{"type": "image_url", "image_url": {}}]),
        "messages[0].content[0].image_url.url",
        "missing_required_parameter",
    ),
    (
        named(role="user", content=[{"type": "image_url", "image_url": {"url": "x", "detail": "fine"}}]),
        "messages[0].content[0].image_url.detail",
        "invalid_value",
    ),
    (named(role="assistant"), "messages[0].content", "missing_required_parameter"),
    (named(role="assistant", tool_calls=[]), "messages[0].tool_calls", "empty_array"),
    (named(role="assistant", tool_calls=[{}]), "messages[0].tool_calls[0].id", "missing_required_parameter"),
    (
        named(role="assistant", tool_calls=[{**CALL, "function": {"name": "x"}}]),
        "messages[0].tool_calls[0].function.arguments",
        "missing_required_parameter",
    ),
    (named(role="assistant", function_call={"name": 5}), "messages[0].function_call.name", "invalid_type"),
    # A call that nobody answers.
    ({"messages": [{"role": "assistant", "tool_calls": [CALL]}, USER]}, "messages", "invalid_value"),
    ({"messages": [{"role": "assistant", "tool_calls": [CALL]}]}, "messages", "invalid_value"),
    # Tools.
    ({"tools": []}, "tools", "empty_array"),
    ({"tools": {}}, "tools", "invalid_type"),
    ({"tools": [TOOL] * 129}, "tools", "out_of_range"),
    ({"tools": ["look"]}, "tools[0]", "invalid_type"),
    ({"tools": [{"function": {"name": "x"}}]}, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    (schema({}, strict="yes"), "tools[0].function.strict", "invalid_type"),
    (schema({}, about="x"), "tools[0].function.about", "unknown_parameter"),
    (schema([]), "tools[0].function.parameters", "invalid_type"),
    (schema({"type": "string"}), "tools[0].function.parameters", "invalid_function_parameters"),
    (schema({"properties": 5}), "tools[0].function.parameters", "invalid_function_parameters"),
    (schema({"properties": {"a": {"type": "text"}}}), "tools[0].function.parameters", "invalid_function_parameters"),
    (schema({"$ref": "#/nowhere"}), "tools[0].function.parameters", "invalid_function_parameters"),
    (
        schema({"properties": {"n": {"$ref": "#"}}, "required": ["n"]}),
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    (schema({"properties": {}}, strict=True), "tools[0].function.parameters", "invalid_function_parameters"),
    ({"tool_choice": "auto"}, "tool_choice", "invalid_value"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", "invalid_value"),
    ({"tools": [TOOL], "parallel_tool_calls": "yes"}, "parallel_tool_calls", "invalid_type"),
    ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({"tools": [TOOL], "tool_choice": 5}, "tool_choice", "invalid_type"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function", "missing_required_parameter"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "touch"}}},
        "tool_choice.function",
        "invalid_value",
    ),
    (
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "never", "tools": []}}},
        "tool_choice.allowed_tools.mode",
        "invalid_value",
    ),
    ({"functions": []}, "functions", "empty_array"),
    ({"functions": [{"name": "a b"}]}, "functions[0].name", "invalid_value"),
    ({"function_call": "auto"}, "function_call", "invalid_value"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call", "invalid_value"),
    ({"functions": [{"name": "f"}], "tools": [TOOL]}, "functions", "invalid_parameter_combination"),
    # The reply's form.
    ({"response_format": "json"}, "response_format", "invalid_type"),
    ({"response_format": {}}, "response_format.type", "missing_required_parameter"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "text", "x": 1}}, "response_format.x", "unknown_parameter"),
    ({"response_format": {"type": "json_object"}}, "messages", "invalid_value"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    (form({"type": "array"}), "response_format", "invalid_json_schema"),
    (form({"properties": {"a": {}}, "required": ["a"]}, strict=True), "response_format", "invalid_json_schema"),
    (form({}, name="a b"), "response_format.json_schema.name", "invalid_value"),
    # What cannot be shown.
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"logit_bias": {"50256": -100}}, "logit_bias", "unsupported_value"),
    ({"logit_bias": {"50256": -101}}, "logit_bias.50256", "out_of_range"),
    ({"logit_bias": {"50256": "x"}}, "logit_bias.50256", "invalid_type"),
    ({"store": True}, "store", "unsupported_value"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
    ({"modalities": "text"}, "modalities", "invalid_type"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio", "unsupported_value"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction", "unsupported_value"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_value"),
    ({"service_tier": "priority"}, "service_tier", "unsupported_value"),
    ({"service_tier": "gold"}, "service_tier", "invalid_value"),
    # Ranges and shapes.
    ({"metadata": {str(k): "x" for k in range(17)}}, "metadata", "out_of_range"),
    ({"metadata": {"k" * 65: "x"}}, f"metadata.{'k' * 65}", "out_of_range"),
    ({"metadata": {"k": "x" * 513}}, "metadata.k", "out_of_range"),
    ({"metadata": {"k": 5}}, "metadata.k", "invalid_type"),
    ({"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
    ({"verbosity": "chatty"}, "verbosity", "invalid_value"),
    ({"safety_identifier": "x" * 129}, "safety_identifier", "out_of_range"),
    ({"prompt_cache_retention": "1h"}, "prompt_cache_retention", "invalid_value"),
    ({"prompt_cache_options": {"ttl": "1h"}}, "prompt_cache_options.ttl", "invalid_value"),
    ({"n": 129}, "n", "out_of_range"),
    ({"seed": 2**63}, "seed", "out_of_range"),
    ({"stop": ""}, "stop", "invalid_value"),
    # What other servers take besides OpenAI's, and random text cannot show.
    ({"top_k": 40}, "top_k", "unknown_parameter"),
    ({"min_p": 0.1}, "min_p", "unknown_parameter"),
    ({"repetition_penalty": 1.1}, "repetition_penalty", "unknown_parameter"),
    ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs", "unknown_parameter"),
    ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens", "invalid_parameter_combination"),
    ({"max_tokens": 3, "min_tokens": 4}, "min_tokens", "out_of_range"),
    ({"ignore_eos": True, **form({})}, "ignore_eos", "invalid_parameter_combination"),
    ({"ignore_eos": True, "tools": [TOOL], "tool_choice": "required"}, "ignore_eos", "invalid_parameter_combination"),
]


@pytest.mark.parametrize(("changes", "param", "code"), REFUSED)
def test_what_is_refused(body: Body, changes: dict[str, Any], param: str, code: str) -> None:
    """A reason that names the parameter, in its message too, and a code."""
    refused = read(body, **changes)
    assert isinstance(refused, BadParameter), refused
    assert (refused.param, refused.code) == (param, code), refused.message
    # A schema's message names the function or the form that it is of.
    assert param in refused.message or "chema" in code or "function 'f'" in refused.message


ACCEPTED: list[dict[str, Any]] = [
    {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}},
    {"tools": [{"type": "function", "function": {"name": "f", "description": "x", "strict": None}}]},
    {"functions": [{"name": "f", "parameters": {}}], "function_call": "none"},
    {"response_format": {"type": "text"}, "logprobs": False, "logit_bias": {}, "store": False, "modalities": ["text"]},
    {"metadata": {"a": "b"}, "user": "u", "service_tier": "default", "prompt_cache_key": "k", "verbosity": "low"},
    {"prompt_cache_retention": "24h", "prompt_cache_options": {"mode": "implicit", "ttl": "30m"}, "audio": None},
    {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                  {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]}, USER]},
    {"messages": [{"role": "assistant", "content": "x", "refusal": None, "annotations": [], "reasoning_content": "y"}]},
    {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
                  {"role": "function", "name": "f", "content": "x"}]},
    {"messages": [{"role": "developer", "content": "x", "name": "d"}, {"role": "user", "content": ""}]},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"stream_options": None, "tools": None, "tool_choice": None, "response_format": None, "prediction": None},
]  # fmt: skip


@pytest.mark.parametrize("changes", ACCEPTED)
def test_what_is_accepted(body: Body, changes: dict[str, Any]) -> None:
    """As OpenAI's reference has it; null is as good as left out."""
    valid(body, **changes)


@pytest.mark.parametrize(
    ("member", "param", "code"),
    [
        ('"max_tokens": 1e999', "max_tokens", "invalid_type"),
        ('"n": -1e999', "n", "invalid_type"),
        ('"max_tokens": ' + "9" * 5000, "max_tokens", "out_of_range"),
        ('"seed": -' + "9" * 5000, "seed", "out_of_range"),
        ('"temperature": 1e999', "temperature", "out_of_range"),
        ('"temperature": ' + "9" * 5000, "temperature", "out_of_range"),
        ('"user": 1e999', "user", "invalid_type"),
        ('"odd": 1e999', "odd", "unknown_parameter"),
        ('"logit_bias": {"5": 1e999}', None, "invalid_value"),
        ('"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": 1e999}}}',
         None, "invalid_value"),
    ],
)  # fmt: skip
def test_numbers_too_large_are_json_all_the_same(member: str, param: str | None, code: str) -> None:
    """Refused for what they are, with the parameter's name where it is one's value; NaN is no JSON."""
    start = '{"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Hi"}], '
    refused = read_chat_request((start + member + "}").encode(), SETTINGS)
    assert isinstance(refused, BadParameter)
    assert (refused.param, refused.code) == (param, code), refused.message
    no_json = read_chat_request((start + '"max_tokens": NaN}').encode(), SETTINGS)
    assert isinstance(no_json, BadParameter)
    assert no_json.code == "invalid_json"
    lenient = SimulatorSettings(unknown_parameters="accept")
    assert isinstance(read_chat_request((start + member + "}").encode(), lenient), BadParameter)


def test_unknown_members_where_they_may_be(body: Body) -> None:
    """With `unknown_parameters: accept` they are ignored at every depth; what is known is checked all the same."""
    lenient = SimulatorSettings(unknown_parameters="accept")
    unknown = {**named(role="user", content="x", mood=1), **schema({}, about=1), "stream": True}
    valid(body, lenient, **unknown, stream_options={"more": 1}, more=1)
    valid(body, lenient, top_k=40, min_p=0.1, repetition_penalty=1.1, chat_template_kwargs={"enable_thinking": False})
    assert isinstance(read(body, lenient, more=1, n=0), BadParameter)


def test_the_context_is_bounded(body: Body) -> None:
    """Prompt and `max_tokens` together; without `max_tokens` the reply is as long as there is room."""
    settings = SimulatorSettings(context_tokens=100)
    messages = [{"role": "user", "content": "x" * 360}]
    refused = read(body, settings, messages=messages, max_tokens=11)
    assert isinstance(refused, BadParameter)
    assert (refused.param, refused.code) == ("messages", "context_length_exceeded")
    assert "100 tokens" in refused.message
    assert "101 tokens (90 in the messages, 11 in the completion)" in refused.message
    valid(body, settings, messages=messages, max_tokens=10)
    reply = ReplyMaker().make(settings, valid(body, settings, messages=messages, max_tokens=None))
    assert (reply.tokens, reply.choices[0].finish_reason) == (10, "stop")
    longer = [{"role": "user", "content": "x" * 397}]
    assert isinstance(read(body, settings, messages=longer, max_tokens=None), BadParameter)


def test_what_a_prompt_costs(body: Body) -> None:
    """A token for four characters of text, of calls and of definitions, and 85 for an image."""

    def tokens(**changes: Any) -> int:
        return valid(body, **changes).prompt_tokens

    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert tokens(messages=[{"role": "user", "content": "x" * 9}]) == 3
    assert tokens(messages=[{"role": "user", "content": [{"type": "text", "text": "x" * 8}, image]}]) == 87
    plain = tokens(messages=[USER])
    definition = json.dumps([TOOL], separators=(",", ":"))
    assert tokens(messages=[USER], tools=[TOOL]) == -(-(len(definition) + 2) // 4) > plain
    called = [
        USER,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
    ]
    assert tokens(messages=called) == 2


def made(body: Body, times: int = 1, settings: SimulatorSettings = SETTINGS, **changes: Any) -> list[Reply]:
    maker = ReplyMaker()
    return [maker.make(settings, valid(body, settings, **changes)) for _ in range(times)]


@pytest.mark.parametrize("fixed", [{"temperature": 0}, {"seed": 5}])
def test_a_reply_that_repeats(body: Body, fixed: dict[str, Any]) -> None:
    """At temperature 0, or with a seed, the same request gets the same text each time, but not the same times."""
    one, other = made(body, 2, max_tokens=20, **fixed)
    assert one.choices == other.choices
    assert one.ttft_ns != other.ttft_ns
    free, next_one = made(body, 2, max_tokens=20)
    assert free.choices != next_one.choices


def test_streamed_and_not_is_the_same_request(body: Body) -> None:
    """`stream` and its options, order and spacing decide nothing; every other parameter does."""
    plain, streamed = valid(body), valid(body, stream=True, stream_options={"include_usage": True})
    assert plain.digest == streamed.digest
    data = body()
    turned = json.dumps(dict(reversed(data.items())), indent=2).encode()
    again = read_chat_request(turned, SETTINGS)
    assert isinstance(again, ChatRequest)
    assert again.digest == plain.digest != valid(body, top_p=0.5).digest


def test_a_stop_sequence_ends_the_text(body: Body) -> None:
    """The text is the one there would be, up to the first of the sequences; the token in which that begins counts."""
    [whole] = made(body, max_tokens=60, seed=1)
    text = whole.choices[0].message()["content"]
    for stop in (text[100:106], [text[40:43], text[200:210]], " ", "zebra", text[-4:]):
        changed = valid(body, max_tokens=60, seed=1, stop=stop)
        request = ChatRequest(**{**slots(changed), "digest": valid(body, max_tokens=60, seed=1).digest})
        [choice] = ReplyMaker().make(SETTINGS, request).choices
        ends = [text.find(one) for one in ([stop] if isinstance(stop, str) else stop) if one in text]
        expected = text[: min(ends)] if ends else text
        assert choice.message()["content"] == expected
        assert choice.finish_reason == ("stop" if ends else "length")
        assert choice.tokens == (expected.count(" ") + (text[len(expected)] == " ") if ends else 60)


def slots(request: ChatRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ChatRequest.__dataclass_fields__}


def test_stops_anywhere_in_the_cycle() -> None:
    """`first_stop` finds what a search of the whole text finds, over the cycle's edge and at any length."""
    for start in (0, 7, CYCLE - 3, CYCLE + 5):
        for tokens in (1, 5, 50, CYCLE + 20):
            text = stretch(start, tokens)
            for stop in (text[:1], text[-7:], text[len(text) // 2 :][:9], " of", "nowhere", text, text + " x"):
                found, at = first_stop(start, tokens, [stop]), text.find(stop)
                if at < 0:
                    assert found is None
                else:
                    assert found is not None
                    assert stretch(start, found[0]) + found[1] == text[:at]
                    assert found[1] != TOKENS[(start + found[0]) % CYCLE]


def test_reasoning_effort_scales_reasoning(body: Body) -> None:
    """From none at all to four times what is drawn."""
    settings = SimulatorSettings(reasoning_tokens="20")

    def reasoning(**changes: Any) -> int:
        return made(body, settings=settings, max_tokens=200, **changes)[0].choices[0].reasoning_tokens

    assert {effort: reasoning(reasoning_effort=effort) for effort in REASONING} == {
        "none": 0, "minimal": 5, "low": 10, "medium": 20, "high": 40, "xhigh": 60, "max": 80,
    }  # fmt: skip
    assert reasoning() == 20


def test_lengths_that_are_asked_for(body: Body) -> None:
    """`verbosity` scales what is drawn, `min_tokens` bounds it, `ignore_eos` uses all that is allowed."""
    settings = SimulatorSettings(reply_tokens="10")

    def length(**changes: Any) -> tuple[int, str]:
        [choice] = made(body, settings=settings, **changes)[0].choices
        return choice.tokens, choice.finish_reason

    assert length(max_tokens=50) == (10, "stop")
    assert length(max_tokens=50, verbosity="low") == (5, "stop")
    assert length(max_tokens=50, verbosity="high") == (20, "stop")
    assert length(max_tokens=50, min_tokens=30) == (30, "stop")
    assert length(max_tokens=50, ignore_eos=True) == (50, "length")
    tokens, reason = length(max_tokens=50, min_tokens=5, stop=" ")
    assert (tokens, reason) == (6, "stop")


START = b'{"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "x"}], '


def with_tool(parameters: bytes) -> bytes:
    return START + b'"tools": [{"type": "function", "function": {"name": "f", "parameters": %s}}]}' % parameters


ODD = [
    START + b'"n": 9, "n": 1, "model": "z-ai/glm-5"}',
    START.replace(b'"x"', b'"\\ud800"') + b'"user": "\\udfff", "stop": "\\ud800"}',
    START.replace(b"x", b"Repeat after me: \\ud800") + b'"stream": true}',
    START.replace(b"x", b"\\u0000") + b'"temperature": 0.0000000001}',
    with_tool(b'{"properties": {"a": {"minimum": 1%s}}}' % (b"0" * 400)),
]
CRAZY = [
    START + b'"temperature": 1e400}',
    START + b'"seed": %s}' % (b"9" * 4000),
    START + b'"metadata": %s1%s}' % (b'{"a":' * 900, b"}" * 900),
    b'{"model": "z-ai/glm-5", "messages": %s%s}' % (b"[" * 900, b"]" * 900),
    with_tool(b'{"properties": {"a": ' * 300 + b"{}" + b"}}" * 300),
    with_tool(b'{"properties": {"a": {"pattern": "(((x{999}){999}){999}){99}"}}, "required": ["a"]}'),
    with_tool(b'{"properties": {"a": {"type": "number", "minimum": 1%s}}, "required": ["a"]}' % (b"0" * 400)),
]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_TYPES = ("integer", "number", "string", "boolean", "null", "object", "array", ["string", "null"])
_LEAF = st.booleans() | st.fixed_dictionaries(
    {"type": st.sampled_from(_TYPES)},
    optional={
        "minimum": st.integers(-3, 3),
        "exclusiveMaximum": st.integers(0, 9),
        "multipleOf": st.sampled_from((1, 3, 0.5)),
        "minLength": st.integers(0, 3),
        "maxLength": st.integers(1, 9),
        "enum": st.just([0, 1, "a", None, {}, [], True]),
    },
)


def _above(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas made of schemas."""
    some = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    names = st.lists(st.sampled_from("abcd"), max_size=2, unique=True)
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": named},
        optional={
            "required": names, "additionalProperties": inner, "minProperties": st.integers(0, 3),
            "maxProperties": st.integers(1, 4), "dependentRequired": st.dictionaries(st.sampled_from("ab"), names),
        },
    )  # fmt: skip
    arrays = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner},
        optional={
            "minItems": st.integers(0, 3), "maxItems": st.integers(1, 4), "uniqueItems": st.booleans(),
            "prefixItems": some, "contains": inner,
        },
    )  # fmt: skip
    branches = st.fixed_dictionaries(
        {},
        optional={"anyOf": some, "oneOf": some, "allOf": some, "not": inner, "if": inner, "then": inner, "else": inner},
    )
    return objects | arrays | branches | st.sampled_from(({"$ref": "#"}, {"$ref": "#/$defs/x"}))


_SCHEMA = st.builds(
    lambda fields, defined: {
        "type": "object", "properties": fields, "required": sorted(fields), "$defs": {"x": defined},
    },
    st.dictionaries(st.sampled_from("abc"), st.recursive(_LEAF, _above, max_leaves=6), min_size=1, max_size=2),
    st.recursive(_LEAF, _above, max_leaves=3),
)  # fmt: skip


def answered(data: Any) -> None:
    """Read, and answered where it is valid; what is answered can be written."""
    request = read_chat_request(json.dumps(data).encode(), SETTINGS)
    if isinstance(request, ChatRequest):
        reply = ReplyMaker().make(SETTINGS, request)
        json.dumps([choice.message() for choice in reply.choices])
        assert reply.tokens >= 1
    else:
        assert request.message


@given(name=st.sampled_from(sorted(PARAMETERS)), value=_JSON)
@hypothesis_settings(max_examples=300, deadline=None)
def test_nothing_that_is_sent_is_too_much(name: str, value: Any) -> None:
    """Any JSON as any parameter: a reply or a reason, never an exception."""
    answered({"model": "z-ai/glm-5", "messages": [USER], name: value})


@given(message=st.dictionaries(st.sampled_from(("role", "content", "tool_calls", "tool_call_id")), _JSON))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_message_is_too_much(message: dict[str, Any]) -> None:
    """Nor any message."""
    answered({"model": "z-ai/glm-5", "messages": [USER, message]})
    answered({"model": "z-ai/glm-5", "messages": [{"role": "user", **message}]})


@given(schema=_SCHEMA)
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_schema_is_too_much(schema: Any) -> None:
    """Nor any schema; and a value that is made for one satisfies it, as another validator has it."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    data = {"model": "z-ai/glm-5", "messages": [USER], "tools": tools, "tool_choice": "required"}
    request = read_chat_request(json.dumps(data).encode(), SETTINGS)
    if isinstance(request, ChatRequest):
        [choice] = ReplyMaker().make(SETTINGS, request).choices
        arguments = json.loads(choice.message()["tool_calls"][0]["function"]["arguments"])
        assert jsonschema.Draft202012Validator(schema).is_valid(arguments)


@pytest.fixture
def client(quick: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=quick.base_url, headers={"authorization": "Bearer sk-any"}, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("data", ODD)
def test_odd_bodies_are_answered(client: httpx.Client, data: bytes) -> None:
    """Names that come twice, lone surrogates, a null character, a bound too large for what is left out."""
    assert client.post("/chat/completions", content=data).status_code == 200


@pytest.mark.parametrize("data", CRAZY)
def test_crazy_bodies_are_refused(client: httpx.Client, data: bytes) -> None:
    """Numbers beyond all bounds, nesting, expressions and schemas without end: 400, at once."""
    response = client.post("/chat/completions", content=data, timeout=2)
    assert response.status_code == 400
    assert client.get("/models").status_code == 200


def test_choices_that_end_apart(client: httpx.Client, body: Body, quick: Simulator) -> None:
    """Each of several choices stops where its own text says; streamed and not, usage and truth count what was made."""
    asked = body(n=5, stop=[" the", "at"], max_tokens=40, seed=2)
    response = client.post("/chat/completions", json=asked)
    whole, whole_id = response.json(), response.headers["x-request-id"]
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert len(set(map(len, texts))) > 2
    assert {choice["finish_reason"] for choice in whole["choices"]} <= {"stop", "length"}
    streamed = client.post(
        "/chat/completions", json={**asked, "stream": True, "stream_options": {"include_usage": True}}
    )
    events = [json.loads(line[6:]) for line in streamed.text.split("\n\n")[:-2]]
    pieces = [""] * 5
    for event in events[:-1]:
        for choice in event["choices"]:
            pieces[choice["index"]] += choice["delta"].get("content", "")
    assert pieces == texts
    assert events[-1]["usage"] == whole["usage"]
    # Of a stopped text the token that ends it counts too, whether or not a part of it is shown.
    ended = [choice["finish_reason"] == "stop" for choice in whole["choices"]]
    words = [text.count(" ") for text in texts]
    most = sum(count + end for count, end in zip(words, ended, strict=True))
    assert sum(words) <= whole["usage"]["completion_tokens"] <= most
    ids = {whole_id, streamed.headers["x-request-id"]}
    deadline = time.monotonic() + 10
    # An end is written after the send that it stamps.
    while len(ends := [line for line in quick.truth() if line["event"] == "end" and line["request_id"] in ids]) < 2:
        assert time.monotonic() < deadline
    assert [line["completion_tokens"] for line in ends] == [whole["usage"]["completion_tokens"]] * 2


def test_one_model_by_its_name(client: httpx.Client) -> None:
    """With the slash as it is or encoded; 404 for one that there is not."""
    listed = {model["id"]: model for model in client.get("/models").json()["data"]}
    for path in ("/models/z-ai/glm-5", "/models/z-ai%2Fglm-5", "/models/z%2Dai%2fglm-5"):
        assert client.get(path).json() == listed["z-ai/glm-5"]
    missing = client.get("/models/z-ai/glm-9")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
