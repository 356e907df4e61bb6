"""Calls of tools, replies in JSON and known answers: their form, streamed and not, and what they cost."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from tensorix_simulator import Simulator
from tensorix_simulator.chat.answers import answer_to
from tensorix_simulator.chat.json_values import lean_value, value_for
from tensorix_simulator.chat.patterns import text_for
from tensorix_simulator.chat.schemas import BadSchemaError, UnmakeableError, check_schema, check_strict

Body = Callable[..., dict[str, Any]]


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


NODE = {**obj(v={"type": "integer"}, next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})}
WEATHER = obj(
    city={"type": "string", "minLength": 3},
    unit={"enum": ["celsius", "fahrenheit"]},
    days={"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 7}, "minItems": 2},
)
SCHEMAS: list[Any] = [
    WEATHER,
    {},
    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": False}},
    {"type": "object", "required": ["a", "b"]},
    obj(a={"enum": ["x", 1, None, {"k": [1]}]}, b={"const": {"k": [1]}}, c={"type": "boolean"}, d={"type": "null"}),
    obj(a={"type": "integer", "minimum": -5, "maximum": -5}, b={"minimum": 3}),
    obj(a={"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}),
    obj(a={"type": "integer", "minimum": 1.5, "maximum": 2.5}, b={"type": "integer", "multipleOf": 1.5, "minimum": 1}),
    obj(a={"type": "integer", "multipleOf": 7, "minimum": 50}, b={"type": "integer", "minimum": 10**30}),
    obj(a={"type": "number", "minimum": 0.001, "maximum": 0.002}, b={"type": "number", "maximum": -1e9}),
    obj(a={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
    obj(a={"type": "number", "multipleOf": 0.25, "maximum": -3}),
    obj(a={"type": ["string", "null"], "minLength": 40, "maxLength": 41}, b={"type": "string", "maxLength": 0}),
    *(
        obj(a={"type": "string", "format": name})
        for name in (
            "date", "date-time", "email", "uuid", "ipv4", "ipv6", "time", "uri", "hostname", "duration", "other",
        )
    ),
    *(
        obj(a={"type": "string", "pattern": pattern})
        for pattern in (
            r"^\d{3}-\d{4}$", r"^(foo|bar)+$", r"[^a-z]x", r"^[A-Z]{2}[0-9a-f]{4,}$", r"^\w+@\w+\.com$",
            r"^a*?b?$", r".", r"^\S+\s\D[^\d]$",
        )
    ),
    obj(a={"type": "string", "pattern": "^[a-z]{1,4}$", "minLength": 3}),
    obj(a={"type": "array", "items": {"enum": [1, 2, 3]}, "minItems": 3, "maxItems": 3, "uniqueItems": True}),
    obj(a={"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2}),
    obj(b={"type": "array", "maxItems": 0}, c={"type": "array"}),
    {**obj(a={"type": "integer"}), "$schema": "http://json-schema.org/draft-07/schema#", "not": {"required": ["b"]}},
    obj(a={"type": "number", "multipleOf": 0.1}, b={"type": "string", "pattern": "^[a-z]+$", "minLength": 30}),
    obj(a={"type": "array", "minItems": 2.0, "maxItems": 3.0}, b={"type": "string", "minLength": 3.0, "maxLength": 4}),
    obj(a={"type": "string", "format": "uri", "pattern": "^git:[a-z]+$"}),
    obj(a={"type": "string", "format": "email", "pattern": r"^[^@]+@[^@]+\.[a-z]+$"}),
    {**obj(a={"anyOf": [{"type": "string"}, {"$ref": "#/$defs/x"}]}), "$defs": {"x": obj(q={"type": "boolean"})}},
    obj(a={"oneOf": [{"type": "number"}, {"type": "integer"}]}),
    obj(a={"oneOf": [obj(kind={"const": "a"}, v={"type": "string"}), obj(kind={"const": "b"}, v={"type": "integer"})]}),
    obj(a={"allOf": [{"type": "string", "minLength": 3}, {"maxLength": 4}]}),
    obj(a={"allOf": [obj(x={"type": "integer"}), obj(y={"type": "integer", "minimum": 2})]}),
    obj(a={"type": "integer", "minimum": 0, "maximum": 5, "not": {"enum": [1, 2, 3]}}),
    {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
    {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    obj(**{f"p{k}": {"type": "integer", "minimum": k} for k in range(60)}),
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_values_satisfy_their_schema(schema: Any) -> None:
    """Of forty seeds each, as another validator has it, formats included; the same seed gives the same value."""
    check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    checker.validate(lean_value(schema))
    for seed in range(40):
        value = value_for(schema, random.Random(seed))
        checker.validate(value)
        assert value_for(schema, random.Random(seed)) == value


def test_patterns_match_what_is_made_for_them() -> None:
    """From the first character to the last, and not always the same text."""
    for pattern in (r"\d{3}-\d{4}", r"(foo|ba[rz]){2}x?", r"[^\W\d]+", r"\S\s.", r"[A-Z][a-z]*'s", r"a.[^b]"):
        made = {text_for(pattern, 3, random.Random(seed)) for seed in range(30)}
        assert all(re.fullmatch(pattern, text) for text in made), made
        assert len(made) > 3


DOUBLED = {f"d{k}": {"allOf": [{"$ref": f"#/$defs/d{k + 1}"}] * 2} for k in range(25)}
NEXT = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/$defs/d1"}
UNMADE: list[Any] = [
    obj(a=False),
    obj(a={"type": "integer", "minimum": 5, "maximum": 4}),
    obj(a={"type": "number", "minimum": 5, "exclusiveMaximum": 5}),
    obj(a={"type": "string", "minLength": 10**9}),
    obj(a={"type": "array", "minItems": 10**9}),
    obj(a={"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2}),
    obj(a={"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 5000}),
    obj(a={"type": "array", "items": {"type": "array", "minItems": 200}, "minItems": 200}),
    obj(a={"type": "string", "pattern": "(?=x)y"}),
    obj(a={"type": "string", "pattern": r"^(\w)\1$"}),
    obj(a={"type": "string", "pattern": "("}),
    obj(a={"type": "string", "pattern": "[!-\U0010ffff]" * 150}),
    obj(a={"type": "string", "pattern": "((((x{9}){9}){9}){9}){9}"}),
    obj(a={"enum": ["a" * 9000 + "b"], "pattern": "^(a+)+$"}),
    obj(a={"type": "string", "enum": [1]}),
    obj(a={"enum": []}),
    obj(a={"$ref": "http://127.0.0.1:9/y"}),
    obj(a={"$ref": "#/a/b"}),
    {**obj(a={"$ref": "#/x"}), "x": {"type": 5}},
    {**obj(a={"$ref": "#/x"}), "x": {"properties": [1], "minLength": "1"}},
    {**obj(a={"$ref": "#/x"}), "x": {"anyOf": {"a": 1}}},
    {**obj(a={"$ref": "#/x"}), "x": {"$ref": 5}},
    {**obj(a={"const": 1, "not": {"$ref": "#/x"}}), "x": {"type": "text"}},
    {**obj(a={"const": 1, "not": {"$ref": "#/x"}}), "x": {"minimum": "1"}},
    obj(a={"type": "number", "minimum": 1e308, "multipleOf": 1e308, "exclusiveMaximum": 1e308}),
    {"$ref": "#"},
    obj(a={"$ref": "#"}),
    obj(**{f"p{k}": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]} for k in range(9)}),
    {**obj(a={"allOf": [{"$ref": "#/$defs/d0"}]}), "$defs": {**DOUBLED, "d25": {"type": "integer"}}},
    {**obj(a={"const": 1, "not": {"$ref": "#/$defs/d0"}}), "$defs": {**DOUBLED, "d25": {"type": "integer"}}},
    {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
    {"type": "object", "unevaluatedProperties": False},
    {"type": "object", "additionalProperties": False, "required": ["z"]},
    {
        **obj(a={"type": "string"}),
        "if": {"required": ["a"]},
        "then": {"required": ["b"]},
        "additionalProperties": False,
    },
    {"type": "object", "minProperties": 2},
    obj(a={"type": "array", "contains": {"const": 5}}),
    obj(a={"type": "number", "minimum": 10**400}),
    obj(**{f"p{k}": {"enum": list(range(3000)), "maximum": -1} for k in range(5)}),
]


@pytest.mark.parametrize("schema", UNMADE)
def test_a_schema_for_which_no_value_is_made(schema: Any) -> None:
    """Nothing satisfies it, or it is beyond what the simulator makes: found out in little work."""
    check_schema(schema)
    began = time.process_time()
    with pytest.raises(UnmakeableError):
        lean_value(schema)
    # What it takes is a tenth of this; another on the same core makes it dearer.
    assert time.process_time() - began < 3


def test_values_are_the_same_in_every_process(subprocess_environment: dict[str, str]) -> None:
    """Whatever the order of Python's sets is there: characters that a pattern leaves out come from one."""
    schema = obj(a={"type": "string", "pattern": "^[^a]{20}.$"}, b=SCHEMAS[0])
    code = (
        "import json, random, sys; from tensorix_simulator.chat.json_values import value_for\n"
        "print(json.dumps(value_for(json.loads(sys.argv[1]), random.Random(1))))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, json.dumps(schema)],
            env={**subprocess_environment, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {json.dumps(value_for(schema, random.Random(1))) + "\n"}


def test_nothing_is_fetched_for_a_schema(client: httpx.Client, body: Body) -> None:
    """Nor another validator taken: what leads elsewhere is refused, `$schema` within it, and what is large."""
    for given, reason in (
        ({"$ref": "http://127.0.0.1:9/y"}, "leads nowhere"),
        (obj(a={"const": 1, "not": {"$ref": "http://127.0.0.1:9/y"}}), "cannot be checked"),
        ({**obj(a={"const": 1, "not": NEXT}), "$defs": {"d1": {}}}, "'$schema' only at its root"),
        (obj(**{f"p{k}": True for k in range(501)}), "500 objects and booleans"),
    ):
        refused = client.post("/chat/completions", json=body(tools=[tool(parameters=given)]))
        assert refused.status_code == 400
        error = refused.json()["error"]
        assert error["message"].startswith("The simulator can make no value for the schema of function 'weather': ")
        assert reason in error["message"]
        assert error["param"] == "tools[0].function.parameters"


@pytest.mark.parametrize(
    "schema",
    [5, {"type": "text"}, {"type": 5}, {"required": "a"}, {"properties": []}, {"items": [1]},
     {"minimum": "1"}, {"maxLength": -1}, {"multipleOf": 0}, {"anyOf": [{"properties": {"a": {"pattern": 5}}}]}],
)  # fmt: skip
def test_what_is_no_schema(schema: Any) -> None:
    """At whatever depth."""
    with pytest.raises(BadSchemaError):
        check_schema(schema)


def test_strict_schemas() -> None:
    """Every property required and no other allowed, at every depth, and no keyword that is not permitted."""
    inner = {**obj(b={"type": "string"}), "additionalProperties": False}
    check_strict({**obj(a=inner), "additionalProperties": False})
    for wrong in (
        obj(a={"type": "string"}),
        {**obj(a={"type": "string"}), "required": [], "additionalProperties": False},
        {**obj(a={"type": "object"}), "additionalProperties": False},
        {**obj(a={"oneOf": [{"type": "string"}]}), "additionalProperties": False},
    ):
        with pytest.raises(BadSchemaError):
            check_strict(wrong)


# Over the wire.


@pytest.fixture(scope="module")
def client(quick: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=quick.base_url, headers={"authorization": "Bearer sk-any"}, trust_env=False) as client:
        yield client


def tool(name: str = "weather", parameters: Any = WEATHER) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def ask(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/chat/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    return answer


def put_together(client: httpx.Client, body: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
    """A stream's choices as a client puts them together, its usage, and its events."""
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    lines = client.post("/chat/completions", json=streamed).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line[6:]) for line in lines[:-2]]
    choices: list[dict[str, Any]] = [{"content": None, "tool_calls": []} for _ in range(body.get("n", 1))]
    for event in events[:-1]:
        [part] = event["choices"]
        choice, delta = choices[part["index"]], part["delta"]
        assert "finish_reason" not in choice, "nothing comes after the reason"
        if "content" in delta:
            choice["content"] = (choice["content"] or "") + delta["content"]
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(choice["tool_calls"]):
                choice["tool_calls"].append(
                    {"id": call["id"], "type": call["type"], "function": dict(call["function"])}
                )
            else:
                assert set(call) == {"index", "function"}
                choice["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
        if "function_call" in delta:
            function = choice.setdefault("function_call", {"name": delta["function_call"].get("name"), "arguments": ""})
            function["arguments"] += delta["function_call"]["arguments"]
        if part["finish_reason"]:
            choice["finish_reason"] = part["finish_reason"]
    return choices, events[-1]["usage"], events


def without_ids(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert all(re.fullmatch(r"call_[0-9a-zA-Z]{24}", call["id"]) for call in calls)
    assert len({call["id"] for call in calls}) == len(calls)
    return [{name: value for name, value in call.items() if name != "id"} for call in calls]


def cost(calls: list[dict[str, Any]]) -> int:
    return sum(1 + -(-len(call["function"]["arguments"]) // 4) for call in calls)


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "weather"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        },
    ],
)
def test_a_call(client: httpx.Client, body: Body, choice: Any) -> None:
    """Asked for in each way: one call with arguments that satisfy the schema, the same streamed, and its cost."""
    tools = [tool()] if choice == "required" else [tool("other", obj(x={"type": "null"})), tool()]
    asked = body(tools=tools, tool_choice=choice, seed=3, max_tokens=None)
    answer = ask(client, asked)
    [made] = answer["choices"]
    assert made["finish_reason"] == "tool_calls"
    assert made["message"]["content"] is None
    [call] = made["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    jsonschema.validate(json.loads(call["function"]["arguments"]), WEATHER)
    assert answer["usage"]["completion_tokens"] == cost([call])

    [streamed], usage, events = put_together(client, asked)
    assert streamed["finish_reason"] == "tool_calls"
    assert without_ids(streamed["tool_calls"]) == without_ids([call])
    assert usage == answer["usage"]
    first = events[1]["choices"][0]["delta"]["tool_calls"][0]
    assert (first["function"], first["index"]) == ({"name": "weather", "arguments": ""}, 0)
    assert len(events) > 6, "the arguments come in pieces"


def test_several_calls_and_choices(client: httpx.Client, body: Body) -> None:
    """Where parallel calls are asked for there are two or three in each choice; streamed they are told by index."""
    tools = [tool(), tool("time", obj(zone={"type": "string"}))]
    seen = set()
    for seed in range(8):
        asked = body(tools=tools, tool_choice="required", parallel_tool_calls=True, n=2, seed=seed, max_tokens=None)
        answer = ask(client, asked)
        streamed, usage, _ = put_together(client, asked)
        assert usage == answer["usage"]
        total = 0
        for choice, other in zip(answer["choices"], streamed, strict=True):
            calls = choice["message"]["tool_calls"]
            assert 2 <= len(calls) <= 3
            assert without_ids(calls) == without_ids(other["tool_calls"])
            seen |= {call["function"]["name"] for call in calls}
            total += cost(calls)
        assert usage["completion_tokens"] == total
    assert seen == {"weather", "time"}
    for parallel in (False, None):
        asked = body(tools=tools, tool_choice="required", parallel_tool_calls=parallel, max_tokens=None)
        assert len(ask(client, asked)["choices"][0]["message"]["tool_calls"]) == 1


def test_free_to_choose(start: Callable[..., Simulator], body: Body) -> None:
    """Without a choice, `tool_call_rate` says how often; never where none may be made, nor after a tool's result."""
    simulator = start(tool_call_rate=0.5, rpm=None, default_max_tokens=2)
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    result = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer a"}, trust_env=False) as client:

        def reasons(**changes: Any) -> list[str]:
            asked = body(tools=[tool()], max_tokens=None, **changes)
            return [ask(client, asked)["choices"][0]["finish_reason"] for _ in range(40)]

        assert 8 < reasons().count("tool_calls") < 32
        assert set(reasons(tool_choice="none")) == {"stop"}
        assert set(reasons(messages=[*body()["messages"], *result])) == {"stop"}
        simulator.change(tool_call_rate=1.0)
        assert set(reasons()) == {"tool_calls"}
        simulator.change(tool_call_rate=0.0)
        assert set(reasons()) == {"stop"}


def test_a_call_is_cut_at_max_tokens(client: httpx.Client, body: Body) -> None:
    """The arguments end where the tokens do, and the reason says so."""
    asked = body(tools=[tool()], tool_choice="required", max_tokens=4)
    answer = ask(client, asked)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["tool_calls"][0]["function"]["arguments"]) == 12
    assert answer["usage"]["completion_tokens"] == 4


def test_functions_as_they_were(client: httpx.Client, body: Body) -> None:
    """`functions` and `function_call` are answered in their own form."""
    function = {"name": "weather", "parameters": WEATHER}
    asked = body(functions=[function], function_call={"name": "weather"}, seed=1, max_tokens=None)
    [choice] = ask(client, asked)["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("function_call", None)
    assert choice["message"]["function_call"]["name"] == "weather"
    jsonschema.validate(json.loads(choice["message"]["function_call"]["arguments"]), WEATHER)
    [streamed], _, _ = put_together(client, asked)
    assert streamed["function_call"] == choice["message"]["function_call"]
    for free in ("none", "auto", None):
        [choice] = ask(client, body(functions=[function], function_call=free))["choices"]
        assert choice["finish_reason"] == "length"


def test_replies_in_json(client: httpx.Client, body: Body) -> None:
    """JSON mode gives an object, a schema one that satisfies it; each in a token for four characters."""
    strict = {**WEATHER, "additionalProperties": False}
    in_json = [{"role": "user", "content": "Answer in JSON."}]
    for schema, asked in (
        ({"type": "object"}, {"type": "json_object"}),
        (strict, {"type": "json_schema", "json_schema": {"name": "w", "schema": strict, "strict": True}}),
        ({"type": "object"}, {"type": "json_schema", "json_schema": {"name": "w"}}),
    ):
        parameters = body(messages=in_json, response_format=asked, n=2, seed=1, max_tokens=None)
        answer = ask(client, parameters)
        texts = [choice["message"]["content"] for choice in answer["choices"]]
        for text in texts:
            jsonschema.validate(json.loads(text), schema)
        assert texts[0] != texts[1]
        assert {choice["finish_reason"] for choice in answer["choices"]} == {"stop"}
        assert answer["usage"]["completion_tokens"] == sum(-(-len(text) // 4) for text in texts)
        streamed, usage, _ = put_together(client, parameters)
        assert [choice["content"] for choice in streamed] == texts
        assert usage == answer["usage"]
    [cut] = ask(client, body(messages=in_json, response_format={"type": "json_object"}, max_tokens=2))["choices"]
    assert (cut["finish_reason"], len(cut["message"]["content"])) == ("length", 8)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 17 + 25? Answer with the number only.", "42"),
        ("what is -3 * 12?\nReply with only the number", "-36"),
        ("What is 5 - 999999999999999999? Answer with the number only.", "-999999999999999994"),
        ("Reply with exactly: pong", "pong"),
        ("  Repeat after me: two\nlines ", "two\nlines"),
        ("What is 17 + 25?", None),
        ("What is love? Answer with the number only.", None),
        ("Please reply with exactly: pong", None),
        ("Reply with exactly: ", None),
    ],
)
def test_what_every_simulator_knows(question: str, answer: str | None) -> None:
    """Sums, and what is to be said after somebody; nothing that is only like them."""
    assert answer_to(question) == answer


def test_a_canary(start: Callable[..., Simulator], body: Body) -> None:
    """A known question gets its answer whatever the seed, streamed and not, with an honest count; `max_tokens` cuts."""
    simulator = start(answers={"Who are you?": "A simulator of few words."}, seed=7, reasoning_tokens="3", rpm=None)
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer a"}, trust_env=False) as client:

        def said(question: str, **changes: Any) -> tuple[str, str, int]:
            messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
            asked = body(messages=messages, **{"max_tokens": None, "temperature": 0, **changes})
            answer, ([streamed], usage, _) = ask(client, asked), put_together(client, asked)
            [choice] = answer["choices"]
            assert streamed["content"] in (choice["message"]["content"], None)
            assert (streamed["finish_reason"], usage) == (choice["finish_reason"], answer["usage"])
            return choice["message"]["content"], choice["finish_reason"], usage["completion_tokens"]

        text = "A simulator of few words."
        assert said("Who are you?") == said("Who are you? ") == (text, "stop", 3 + 7)
        assert said("Who are you?", max_tokens=5) == (text[:8], "length", 5)
        assert said("Who are you?", max_tokens=3) == ("", "length", 3)
        assert said("Who are you?", stop=" few") == ("A simulator of", "stop", 3 + 4)
        assert said("Who are you?", stop="A") == ("", "stop", 3 + 1)
        assert said("Who are you?", reasoning_effort="none")[2] == 7
        assert said("What is 17 + 25? Answer with the number only.", max_tokens=16) == ("42", "stop", 3 + 1)
        assert said("Who is that?", max_tokens=16)[1] == "length"
        assert said("Who are you?", tools=[tool()])[0] == text
        assert (
            said("Reply with exactly: ]", response_format={"type": "json_schema", "json_schema": {"name": "w"}})[0]
            != "]"
        )
