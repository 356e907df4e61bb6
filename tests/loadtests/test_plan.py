"""The plan of a load test: what it refuses, what it bounds, how it travels."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import CHAT_STREAMED, CHAT_UNSTREAMED, MODELS, Limits, LoadPlan, Timeouts, users_by_kind

URL = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_url": "ftp://x"}, "base URL"),
        ({"base_url": "https://ann:pw@x/v1"}, "base URL"),
        ({"users": 0}, "users"),
        ({"users": True}, "users"),
        ({"users": 1.5}, "users"),
        ({"spawn_rate": 0}, "spawn rate"),
        ({"spawn_rate": float("inf")}, "spawn rate"),
        ({"spawn_rate": float("nan")}, "spawn rate"),
        ({"requests": None}, "neither a number of requests nor a duration"),
        ({"requests": 0}, "number of requests"),
        ({"requests": -3}, "number of requests"),
        ({"duration_s": 0}, "duration"),
        ({"duration_s": float("nan")}, "duration"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"mix": {}}, "mix"),
        ({"mix": {CHAT_STREAMED: 0}}, "mix"),
        ({"mix": {"video": 1}}, "'video'"),
        ({"mix": {CHAT_STREAMED: -1}}, CHAT_STREAMED),
        ({"mix": {CHAT_STREAMED: 1, MODELS: 1}, "users": 1}, "2 kinds"),
        ({"prompts": ()}, "prompt"),
        ({"prompts": ("a", "")}, "prompt"),
        ({"headers": {"Authorization": "Bearer x"}}, "TENSORIX_API_KEY"),
        ({"headers": {"content-length": "3"}}, "'content-length'"),
        ({"headers": {"X-Request-Id": "abc"}}, "'X-Request-Id' is set by the client itself"),
        ({"headers": {"content-type": "text/plain"}}, "'content-type' is set by the client itself"),
        ({"headers": {"bad name": "x"}}, "'bad name'"),
        ({"headers": {"": "x"}}, "extra header"),
        ({"headers": {"X-A": "hidden\r\nX-B: y"}}, "'X-A'"),
        ({"headers": {"X-A": "hidden\u20ac"}}, "'X-A'"),
        ({"body": {"stream": True}}, "'stream'"),
        ({"body": {"messages": []}}, "'messages'"),
        ({"prompts": ("a", "b\udcff")}, "prompt"),
        ({"model": "m\ud800"}, "model"),
        ({"label": "\udc80"}, "label"),
        ({"body": {"user": "\ud800"}}, "extra body"),
        ({"body": {"\ud800": 1}}, "extra body"),
        ({"body": {"top_p": float("nan")}}, "extra body"),
        ({"body": {"logit_bias": {"1": float("-inf")}}}, "extra body"),
        ({"body": {"stop": {1, 2}}}, "extra body"),
        ({"timeouts": Timeouts(connect_s=0)}, "connect_s"),
        ({"timeouts": Timeouts(total_s=float("inf"))}, "total_s"),
        ({"limits": Limits(window_s=0)}, "window"),
        ({"ca_bundle": "/nonexistent.pem"}, "CA bundle"),
    ],
)
def test_what_is_refused_is_named(changes: dict[str, Any], named: str) -> None:
    """Each value that cannot be used is refused in one line that names it, and no header's value is repeated."""
    values: dict[str, Any] = {"base_url": URL, "requests": 1} | changes
    with pytest.raises(SettingsError) as caught:
        LoadPlan(**values)
    message = str(caught.value)
    assert named in message
    assert "\n" not in message
    assert "hidden" not in message
    assert message.encode()


@pytest.mark.parametrize(
    "data",
    [
        {"base_url": URL, "requests": 1, "surprise": 2},
        {"requests": 1},
        {"base_url": 7, "requests": 1},
        {"base_url": URL, "requests": "many"},
        {"base_url": URL, "requests": 1, "mix": 3},
        {"base_url": URL, "requests": 1, "mix": {CHAT_STREAMED: "all"}},
        {"base_url": URL, "requests": 1, "prompts": 3},
        {"base_url": URL, "requests": 1, "prompts": [3]},
        {"base_url": URL, "requests": 1, "headers": []},
        {"base_url": URL, "requests": 1, "headers": {"x": 1}},
        {"base_url": URL, "requests": 1, "body": 1},
        {"base_url": URL, "requests": 1, "temperature": "hot"},
        {"base_url": URL, "requests": 1, "timeouts": {"lunch_s": 1}},
        {"base_url": URL, "requests": 1, "timeouts": 3},
        {"base_url": URL, "requests": 1, "limits": {"window_s": "a"}},
        {"base_url": URL, "requests": 1, "limits": 3},
        {"base_url": URL, "requests": 1, "ca_bundle": 3},
    ],
)
def test_a_plan_of_wrong_types_is_refused_in_words(data: dict[str, Any]) -> None:
    """JSON that is no plan gives a SettingsError of one line, never another exception."""
    with pytest.raises(SettingsError) as caught:
        LoadPlan.from_dict(data)
    assert "\n" not in str(caught.value)


def test_a_plan_travels_whole() -> None:
    """Through JSON and back it is the same plan."""
    plan = LoadPlan(
        base_url=URL,
        model="m",
        users=5,
        requests=10,
        duration_s=3.5,
        mix={CHAT_STREAMED: 2, CHAT_UNSTREAMED: 1.5},
        max_tokens=None,
        temperature=0.0,
        prompts=("a", "b"),
        headers={"X-Team": "blue"},
        body={"top_p": 0.5},
        timeouts=Timeouts(total_s=9),
        limits=Limits(requests=None),
        keep_gaps=True,
        label="a label",
    )
    assert LoadPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_only_an_endless_plan_needs_no_end() -> None:
    """A plan that says so has neither a number of requests nor a duration, and travels as it is."""
    plan = LoadPlan(base_url=URL, endless=True)
    assert (plan.requests, plan.duration_s, plan.most_requests()) == (None, None, None)
    assert LoadPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_is_written_down_holds_no_headers_value() -> None:
    """The manifest's form names the extra headers and leaves their values out."""
    plan = LoadPlan(base_url=URL, requests=1, headers={"X-Gateway-Token": "hidden-value"})
    assert plan.public_dict()["headers"] == ["X-Gateway-Token"]
    assert "hidden-value" not in json.dumps(plan.public_dict())


@pytest.mark.parametrize(
    ("mix", "users", "expected"),
    [
        ({CHAT_STREAMED: 1}, 7, {CHAT_STREAMED: 7}),
        ({CHAT_STREAMED: 0.5, CHAT_UNSTREAMED: 0.5}, 10, {CHAT_STREAMED: 5, CHAT_UNSTREAMED: 5}),
        ({CHAT_STREAMED: 95, MODELS: 5}, 20, {CHAT_STREAMED: 19, MODELS: 1}),
        ({CHAT_STREAMED: 999, MODELS: 1}, 3, {CHAT_STREAMED: 2, MODELS: 1}),
        ({CHAT_STREAMED: 1, CHAT_UNSTREAMED: 1, MODELS: 1}, 3, {CHAT_STREAMED: 1, CHAT_UNSTREAMED: 1, MODELS: 1}),
        ({CHAT_STREAMED: 1, MODELS: 0}, 2, {CHAT_STREAMED: 2}),
    ],
)
def test_users_by_kind(mix: dict[str, float], users: int, expected: dict[str, int]) -> None:
    """Users are shared out by the mix, every kind that has a share gets one, and none is lost."""
    assert users_by_kind(mix, users) == expected


def test_users_are_never_lost() -> None:
    """For any shares and any number the kinds' users sum up to all of them."""
    for users in range(3, 60):
        for weights in ((1, 1, 1), (98, 1, 1), (3, 2, 0.1), (1e-9, 1, 1e9)):
            mix: dict[str, float] = dict(zip((CHAT_STREAMED, CHAT_UNSTREAMED, MODELS), weights, strict=True))
            counts = users_by_kind(mix, users)
            assert sum(counts.values()) == users
            assert min(counts.values()) >= 1


def test_the_bound_on_what_a_run_can_use() -> None:
    """The most requests count the list of models; the most tokens of one count prompt, answer and completions."""
    plan = LoadPlan(base_url=URL, requests=10, max_tokens=100, prompts=("x" * 250, "y"), body={"n": 3})
    assert plan.most_requests() == 11
    assert plan.most_tokens_a_request() == 100 + 16 + 300
    with_tools = LoadPlan(base_url=URL, requests=1, max_tokens=1, prompts=("y",), body={"tools": ["x" * 25_000]})
    assert (with_tools.most_tokens_a_request() or 0) > 10_000
    assert LoadPlan(base_url=URL, duration_s=1).most_requests() is None
    assert LoadPlan(base_url=URL, duration_s=1, max_tokens=None).most_tokens_a_request() is None


def test_reading_a_plan_starts_no_locust() -> None:
    """The plan can be used where Locust and gevent must not be loaded."""
    code = "import sys, tensorix_loadtests.plan; print(sorted({'locust', 'gevent'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"


def test_limits_are_told_documented_or_unknown() -> None:
    """Only the documented service's own address brings its limits along; what the user tells is marked so."""
    ours = Limits.of("https://api.tensorix.ai/v1")
    assert (ours.requests, ours.tokens, ours.window_s, ours.told) == (60, 2_000_000, 60.0, ())
    other = Limits.of(URL, requests=7)
    assert (other.requests, other.tokens, other.window_s, other.told) == (7, None, 60.0, ("requests",))
    again = LoadPlan.from_dict(LoadPlan(base_url=URL, requests=1, limits=other).to_dict())
    assert again.limits == other
