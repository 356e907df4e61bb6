"""What the checks ask, what they remember, what they say of the price, and figures."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorix_api import Secret
from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.limiters import Cost
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._canary import Usage, most, question, spent
from tensorix_probes.exchange.answer import Answer, Failure, StreamEvent
from tensorix_probes.result import Assertion, Phases, Spent
from tensorix_probes.settings import Canary, Prices, Target

_MS = 10**6
_MODEL = "z-ai/glm-5"


@dataclass
class Scripted:
    """A context whose answers are written down, by kind of request; it notes what was asked."""

    target: Target
    answers: dict[str, Answer]
    memory: dict[str, Any] = field(default_factory=dict)
    earlier: dict[str, Finding] = field(default_factory=dict)
    model: str | None = _MODEL
    asked: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, path: str, *, kind: str, **more: Any) -> Answer:
        """The answer of that kind."""
        self.asked.append({"method": method, "path": path, "kind": kind, **more})
        return self.answers[kind]


def answer(kind: str, status: int | None = 200, body: Any = None, **fields: Any) -> Answer:
    """An answer that took 10 ms."""
    made: dict[str, Any] = {"request_id": "r", "trace_id": "1" * 32, "span_id": "2" * 16}
    made |= {"started_unix_ns": 1_700_000_000 * 10**9, "started_monotonic_ns": 0}
    phases = Phases(connect_ns=1, send_ns=1, first_byte_ns=_MS, total_ns=10 * _MS)
    text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    types = {} if kind == "stream" else {"headers": (("content-type", "application/json"),)}
    return Answer(kind=kind, status=status, body=text, **{**made, "phases": phases, **types, **fields})


def target(**fields: Any) -> Target:
    """A target with a key and a model."""
    return Target(**{"name": "t", "api_key": Secret("sk-of-the-checks"), "model": _MODEL, **fields})


def run(check: str, context: Scripted) -> Finding:
    """Run a check."""
    found: Check = import_module(f"tensorix_probes.checks.{check}").CHECK
    return found.run(cast(Context, context))


def of(finding: Finding, name: str) -> Assertion:
    """One assertion."""
    return next(one for one in finding.assertions if one.name == name)


def listed(*models: Any) -> Answer:
    """A list of models, by name or whole."""
    data = [model if isinstance(model, dict) else {"id": model} for model in models]
    return answer("models", body={"object": "list", "data": data})


# what changed among the models


def changes(memory: dict[str, Any], *models: Any) -> tuple[Assertion | None, dict[str, float]]:
    """What the check of the models says of the changes, and its figures."""
    found = run("models", Scripted(target(model=None), {"models": listed(*models)}, memory))
    told = [one for one in found.assertions if one.name == "models_are_unchanged"]
    assert [one for one in found.assertions if one.held is False] == []
    return told[0] if told else None, dict(found.figures)


def test_added_removed_and_changed_models_are_told() -> None:
    """Each by name and number, once, and without any harm; the first list is compared with nothing."""
    memory: dict[str, Any] = {}
    assert changes(memory, {"id": "a", "owned_by": "x"}, "b") == (None, {"models_listed": 2})
    told, figures = changes(memory, {"id": "a", "owned_by": "y"}, "c", "d")
    assert told is not None
    assert (told.held, told.detail) == (None, "added: c, d; removed: b; changed: a")
    assert figures == {"models_listed": 3, "models_added": 2, "models_removed": 1, "models_changed": 1}
    told, figures = changes(memory, "d", "c", {"owned_by": "y", "id": "a"})
    assert told is not None
    assert told.held is True
    assert figures == {"models_listed": 3, "models_added": 0, "models_removed": 0, "models_changed": 0}


def test_what_servers_make_anew_each_time_is_no_change() -> None:
    """A time of creation and an id of a permission, which some servers make for each answer, are not compared."""
    memory: dict[str, Any] = {}
    changes(memory, {"id": "a", "created": 1, "permission": [{"id": "p1"}]})
    told, _ = changes(memory, {"id": "a", "created": 2, "permission": [{"id": "p2"}]})
    assert told is not None
    assert told.held is True


def test_a_long_list_of_models_is_kept_small() -> None:
    """A thousand models are remembered in some bytes each, more than 2,000 not at all, and a detail names a few."""
    memory: dict[str, Any] = {}
    about = {"description": "x" * 2_000}
    changes(memory, *({"id": f"provider/model-{number}", **about} for number in range(1_000)))
    assert len(json.dumps(memory)) < 1_000 * 40
    told, figures = changes(memory, *(f"{number}-{'long' * 45}" for number in range(5_000)))
    assert told is not None
    assert told.detail is not None
    assert len(told.detail) < 1_500
    assert "and 1995 more" in told.detail
    assert figures["models_listed"] == 5_000
    assert len(memory["models"]) <= 2_000


def test_an_unchanged_list_writes_no_memory() -> None:
    """What is remembered stays the same object, so that a history need not write it again."""
    memory: dict[str, Any] = {}
    changes(memory, "a", "b")
    before = memory["models"]
    changes(memory, "b", "a")
    assert memory["models"] is before


def test_what_is_remembered_may_be_anything() -> None:
    """A memory that something else wrote is begun anew."""
    memory: dict[str, Any] = {"models": ["a"]}
    assert changes(memory, "a")[0] is None
    assert list(memory["models"]) == ["a"]


@pytest.mark.parametrize("odd", ["a\x1b[31m", "a\x00b", "a\ud800", "a\u202e", "x" * 201])
def test_an_id_that_is_no_text_is_never_asked(odd: str) -> None:
    """Control characters, half a surrogate pair and no end: told, kept without them, and the next model is asked."""
    memory: dict[str, Any] = {}
    found = run("models", Scripted(target(model=None), {"models": listed(odd, "b")}, memory))
    assert [one.name for one in found.assertions if one.held is False] == ["ids_are_text"]
    assert (of(found, "ids_are_text").detail or "").isprintable()
    assert found.facts == {"first_model": "b"}
    assert all(name.isprintable() and len(name) <= 200 for name in memory["models"])
    alone = run("models", Scripted(target(model=None), {"models": listed(odd)}))
    assert "first_model" not in alone.facts


def test_a_key_among_the_models_is_neither_kept_nor_asked() -> None:
    """A server that makes an id of the key has it taken out of memory and details; another model is asked."""
    key = "sk-of-the-checks-0123"
    memory: dict[str, Any] = {}
    asked = target(model=None, api_key=Secret(key), wanted_models=("gone",))
    for ids in ([f"m-{key}", "b"], [f"n-{key}", "b"]):
        found = run("models", Scripted(asked, {"models": listed(*ids)}, memory))
        assert found.facts == {"first_model": "b"}
        assert key not in json.dumps(memory) + repr(found.assertions) + repr(found.figures)
    assert memory["models"].keys() == {"n-[redacted]", "b"}


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_a_list_is_told_of_the_setting(status: int) -> None:
    """Where no list is served the reason names what to leave out, and a model to set where none is."""
    hint = "leave `models` out of this target's checks if the server has none"
    named = run("models", Scripted(target(), {"models": answer("models", status)}))
    unnamed = run("models", Scripted(target(model=None), {"models": answer("models", status)}))
    assert (of(named, "status_is_200").detail or "").endswith(f"({hint})")
    assert (of(unnamed, "status_is_200").detail or "").endswith(f"({hint}, and set `model`)")


# what is asked


def test_models_give_the_first_to_who_names_none() -> None:
    """The first model of the list goes to the checks below."""
    found = run("models", Scripted(target(model=None), {"models": listed("b", "a")}))
    assert found.facts["first_model"] == "b"


def test_the_good_key_is_not_tried_twice_in_a_round() -> None:
    """What the check of the models asked a moment ago is not asked again; alone, both keys are tried."""
    refused = answer("unauthorised", 401, {"error": {"message": "no", "type": "t", "code": "c"}})
    answers = {"models": listed("a"), "unauthorised": refused}
    alone, after = Scripted(target(), answers), Scripted(target(), answers)
    after.earlier["models"] = Finding(answer=answers["models"])
    run("auth", alone)
    run("auth", after)
    bad = {"method": "GET", "path": "/models", "kind": "unauthorised", "key": "sk-invalid"}
    assert alone.asked == [{"method": "GET", "path": "/models", "kind": "models"}, bad]
    assert after.asked == [bad]


def test_the_question() -> None:
    """The prompt at temperature 0 with few tokens; streams ask for their usage; the configuration may add to it."""
    context = Scripted(target(), {"chat": answer("chat", 500), "stream": answer("stream", 500)})
    run("chat", context)
    run("stream", context)
    chat, stream = (asked["body"] for asked in context.asked)
    assert chat == {
        "model": _MODEL,
        "messages": [{"role": "user", "content": "What is 17 + 25? Answer with the number only."}],
        "temperature": 0,
        "max_tokens": 16,
    }
    assert stream == {**chat, "stream": True, "stream_options": {"include_usage": True}}
    assert [asked["charged"] for asked in context.asked] == [most(target())] * 2
    canary = Canary(body={"max_completion_tokens": 500, "reasoning_effort": "low", "temperature": 1})
    body = question(target(canary=canary), _MODEL)
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["reasoning_effort"], body["temperature"]) == (500, "low", 1)


def test_a_mistake_costs_no_tokens() -> None:
    """The request that is to be refused has no messages, so that no server can take it for one, and asks for little."""
    context = Scripted(target(), {"bad_request": answer("bad_request", 200)})
    run("errors", context)
    assert context.asked[0]["body"] == {"model": _MODEL, "max_tokens": 1}
    assert context.asked[0]["charged"] == Cost(1, 0)


@pytest.mark.parametrize("check", ["models", "auth", "chat", "stream", "errors"])
@pytest.mark.parametrize("kind", [ErrorKind.CANCELLED, ErrorKind.INTERNAL])
def test_what_we_ended_ourselves_says_nothing(check: str, kind: ErrorKind) -> None:
    """A probe that was cancelled, or a defect of ours, is inconclusive."""
    ended = Failure(kind, Phase.HEADERS, "ended by us")
    names = ("models", "unauthorised", "chat", "stream", "bad_request")
    found = run(check, Scripted(target(), {name: answer(name, None, failure=ended) for name in names}))
    assert found.inconclusive == f"{kind}: ended by us"
    assert found.assertions == ()


@pytest.mark.parametrize(("kind", "name"), [("text/event-stream", "answered"), ("text/html", "is_streamed")])
def test_a_damaged_stream_is_not_called_unstreamed(kind: str, name: str) -> None:
    """Where events were announced and their framing is broken, it is the answer that failed, and not the streaming."""
    damaged = Failure(ErrorKind.MALFORMED, Phase.FIRST_TOKEN, "the answer is not HTTP: illegal chunk header")
    came = answer("stream", headers=(("content-type", kind),), failure=damaged)
    found = run("stream", Scripted(target(), {"stream": came}))
    assert [one.name for one in found.assertions if one.held is False] == [name]
    assert "illegal chunk header" in (of(found, name).detail or "")


# what it costs


def test_the_most_that_is_reserved_is_enough() -> None:
    """Bytes of the prompt bound its tokens; to them come those of a template and the reply's."""
    assert most(target()) == Cost(1, 78 + 64 + 16)
    assert most(target(canary=Canary(prompt="ü" * 100, max_tokens=1))).tokens == 33 + 200 + 64 + 1
    assert most(target(canary=Canary(body={"max_completion_tokens": 500}))).tokens == 78 + 64 + 500


def test_what_was_spent() -> None:
    """By the usage where it came; where a model may have worked and nothing says how much, the most; else nothing."""
    priced = target(prices=Prices(prompt_per_million=1.0, completion_per_million=10.0))
    whole, dearest = answer("chat"), most(priced).tokens
    assert spent(target(), whole, Usage(20, 5, 25)) == Spent(0, 25, None)
    assert spent(priced, whole, Usage(20, 5, 25)) == Spent(0, 25, 70e-6)
    assert spent(priced, whole, None) == Spent(0, dearest, dearest * 10 / 1e6)
    assert spent(target(), answer("chat", None), None) == Spent(0, dearest, None)
    assert spent(priced, answer("chat", 429), None) == Spent()
    assert spent(priced, answer("chat", None, phases=Phases(connect_ns=1)), None) == Spent()


@pytest.mark.parametrize("check", ["chat", "stream"])
@pytest.mark.parametrize("count", [10**4_000, 2**63, 300_000], ids=["10**4000", "2**63", "300000"])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_absurd_usage_is_charged_as_the_most(check: str, count: int, name: str) -> None:
    """Tokens that no such request can take break a promise, and are neither charged nor kept."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, name: count}
    message = {"role": "assistant", "content": "42"}
    body = {"choices": [{"index": 0, "message": message, "delta": message, "finish_reason": "stop"}], "usage": usage}
    came = answer(check, body=body, events=events((1, body), (2, b"[DONE]")))
    found = run(
        check, Scripted(target(prices=Prices(prompt_per_million=1.0, completion_per_million=10.0)), {check: came})
    )
    assert found.spent == Spent(0, most(target()).tokens, most(target()).tokens * 10 / 1e6)
    failed = {one.name: one.detail for one in found.assertions if one.held is False}
    assert len(failed["usage_is_plausible"] or "") < 400
    assert not {"prompt_tokens", "completion_tokens", "tokens_per_second"} & found.figures.keys()
    assert "usage" not in found.facts


# figures


def events(*parts: tuple[float, Any]) -> tuple[StreamEvent, ...]:
    """Events by their time in ms and what they hold."""
    return tuple(
        StreamEvent(round(at * _MS), part if isinstance(part, bytes) else json.dumps(part).encode())
        for at, part in parts
    )


def delta(**fields: Any) -> dict[str, Any]:
    """A chunk with this delta."""
    return {"id": "c", "choices": [{"index": 0, "delta": fields}]}


def test_figures_of_a_stream() -> None:
    """The largest gap counts from the first token on; the speed is that of the tokens after the first."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    came = events(
        (100, delta(role="assistant")),
        (900, delta(reasoning_content="Hm")),
        (1_000, delta(content="4")),
        (1_400, delta(content="2")),
        (1_450, {"id": "c", "choices": [], "usage": usage}),
        (1_900, b"[DONE]"),
    )
    found = run("stream", Scripted(target(), {"stream": answer("stream", events=came)}))
    assert found.facts == {"text": "42", "usage": Usage(3, 5, 8)}
    assert found.figures == {
        "chunks": 5,
        "largest_gap_s": 0.45,
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "tokens_per_second": 8.0,
    }


def test_a_stream_in_one_read_has_no_speed() -> None:
    """Where all tokens came at once nothing is divided by nothing."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    came = events((5, delta(content="4")), (5, delta(content="2")), (5, {"choices": [], "usage": usage}))
    found = run("stream", Scripted(target(), {"stream": answer("stream", events=came)}))
    assert "tokens_per_second" not in found.figures


def test_a_stream_that_was_cut_keeps_its_figures() -> None:
    """What came before is told, and charged as the most, since nobody says what it took."""
    cut = Failure(ErrorKind.CUT, Phase.STREAM, "the connection broke")
    came = events((10, delta(content="4")), (500, delta(content="2")))
    found = run("stream", Scripted(target(), {"stream": answer("stream", events=came, failure=cut)}))
    assert found.figures == {"chunks": 2, "largest_gap_s": 0.49}
    assert found.spent.tokens == most(target()).tokens
    assert of(found, "answered").detail == "cut in phase stream after status 200: the connection broke"


# what servers send back


def test_details_hold_no_secret() -> None:
    """A server that repeats the key, or a secret header, in its answer has it taken out of what is kept."""
    key, other = "sk-of-the-checks-0123", "another-secret-4567"
    asked = target(api_key=Secret(key), extra_headers={"x-team": Secret(other)})
    said = f"Bearer {key} of {other}"
    error = {"error": {"message": said, "type": said, "code": said}}
    completion = {"id": said, "choices": [{"message": {"content": said}, "finish_reason": said}], "model": said}
    for check, answers in {
        "models": {"models": answer("models", 500, error)},
        "auth": {"models": listed("a"), "unauthorised": answer("unauthorised", 401, error)},
        "chat": {"chat": answer("chat", body=completion)},
        "stream": {"stream": answer("stream", events=events((1, {"id": said, "error": said})))},
        "errors": {"bad_request": answer("bad_request", 503, error)},
    }.items():
        found = run(check, Scripted(asked, answers))
        details = " ".join(one.detail or "" for one in found.assertions)
        assert "[redacted]" in details, check
        assert key not in details
        assert other not in details


_BODIES = [b"", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b"\x00", b"NaN", b'"\\ud800"']


@pytest.mark.parametrize("body", _BODIES, ids=lambda body: repr(body[:8]))
@pytest.mark.parametrize("check", ["models", "auth", "chat", "stream", "errors"])
def test_no_body_is_a_defect(check: str, body: bytes) -> None:
    """Bytes, nesting and numbers without end break a promise, and never the check."""
    answers = {
        "models": answer("models", body=body) if check == "models" else listed("a"),
        "unauthorised": answer("unauthorised", 401, body),
        "chat": answer("chat", body=body),
        "stream": answer("stream", events=(StreamEvent(1, body),)),
        "bad_request": answer("bad_request", 400, body),
    }
    failed = [one for one in run(check, Scripted(target(), answers)).assertions if one.held is False]
    assert failed
    assert all(one.detail is not None and one.detail.isprintable() and len(one.detail) < 600 for one in failed)


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("place", ["id", "object", "created", "model", "usage", "choices"])
def test_nested_values_are_quoted_without_harm(place: str) -> None:
    """A value as deep as JSON can be read is told of, in a few characters."""
    deep = nested(sys.getrecursionlimit() // 3)
    body = {"id": "x", "choices": [{"message": {"content": "42"}}], place: deep}
    found = run("chat", Scripted(target(), {"chat": answer("chat", body=body)}))
    assert all(len(one.detail or "") < 600 for one in found.assertions)


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_FIELDS = """id object created model choices usage data error message delta role content finish_reason index type code
prompt_tokens completion_tokens total_tokens tool_calls reasoning text"""
_NAMES = st.sampled_from(_FIELDS.split())
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES | st.text(max_size=4), inner, max_size=6),
    max_leaves=25,
)
_OBJECTS = st.dictionaries(_NAMES, _ANYTHING, max_size=6)
_LISTS = st.fixed_dictionaries({"data": st.lists(_OBJECTS | st.fixed_dictionaries({"id": st.text()}), max_size=4)})
_CHOICES = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": _OBJECTS, "delta": _OBJECTS | _ANYTHING}), max_size=2)},
    optional={"usage": _ANYTHING | _OBJECTS, "id": _ANYTHING, "model": _ANYTHING, "created": _ANYTHING},
)


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(_ANYTHING | _OBJECTS | _LISTS | _CHOICES, min_size=1, max_size=4), memory=_OBJECTS)
def test_no_json_is_a_defect(bodies: list[Any], memory: dict[str, Any]) -> None:
    """Whatever JSON comes, in whatever place, a check ends with a finding whose details are short and on one line."""
    came = events(*enumerate(bodies))
    answers = {
        "models": answer("models", body=bodies[0]),
        "unauthorised": answer("unauthorised", 401, bodies[0]),
        "chat": answer("chat", body=bodies[0]),
        "stream": answer("stream", events=came),
        "bad_request": answer("bad_request", 400, bodies[0]),
    }
    context = Scripted(target(), answers, {"models": memory})
    for check in ("models", "auth", "chat", "stream", "errors"):
        found = run(check, context)
        context.earlier[check] = found
        details = [one.detail for one in found.assertions if one.detail is not None]
        assert all(detail.isprintable() and len(detail) < 1_000 for detail in details)
        json.dumps(dict(found.figures), allow_nan=False)
        json.dumps(context.memory)
