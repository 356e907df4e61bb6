"""The settings of `instrument`: what may be written, what the environment adds, and what is said of a mistake."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tensorix_api.errors import SettingsError
from tensorix_tracing import instrument
from tensorix_tracing._settings import CAPTURE_VARIABLE, HOSTS_VARIABLE, NAMES_VARIABLE, settings_from

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"hosts": "localhost"}, "hosts is a text: write a list, such as ['localhost']"),
    ({"hosts": 5}, "hosts is 5: write a list, such as ['api.tensorix.ai']"),
    ({"hosts": []}, "hosts is empty: write a list, such as ['api.tensorix.ai'], or leave it out"),
    ({"hosts": [5]}, "a host is 5: write a text like api.tensorix.ai or localhost:8000"),
    ({"hosts": ["*.x.y"]}, "'*.x.y' names no host to trace: write it like api.tensorix.ai or localhost:8000"),
    ({"hosts": ["h:port"]}, "'h:port' names no host to trace: write it like api.tensorix.ai or localhost:8000"),
    ({"hosts": ["h:99999"]}, "'h:99999' names no host to trace: write it like api.tensorix.ai or localhost:8000"),
    ({"provider_name": ""}, "provider_name is empty: name who serves the models, such as 'tensorix'"),
    ({"provider_name": 7}, "provider_name is 7: name who serves the models, such as 'tensorix'"),
    ({"provider_name": "a\nb"}, "provider_name is 'a\\nb': name who serves the models, such as 'tensorix'"),
    ({"key_alias": b"x"}, "key_alias is b'x': write a name for the key, such as 'production', never the key"),
    ({"key_alias": ""}, "key_alias is empty: write a name for the key, such as 'production', never the key"),
    ({"key_alias": "sk-0123456789ab"}, "key_alias looks like a key: write a name for it, such as 'production'"),
    ({"tracer_provider": "otlp"}, "tracer_provider is 'otlp': give a provider of OpenTelemetry's"),
    ({"meter_provider": 1}, "meter_provider is 1: give a provider of OpenTelemetry's"),
    ({"metric_names": "older"}, "metric_names is 'older': write 'old', 'new' or 'both'"),
    ({"metric_names": ["old"]}, "metric_names is ['old']: write 'old', 'new' or 'both'"),
    ({"propagate": "yes"}, "propagate is 'yes': write True or False"),
    ({"capture_content": 1}, "capture_content is 1: write True or False"),
    ({"content_limit": 0}, "content_limit is 0: write the characters of a text to keep, a whole number from 1 on"),
    ({"content_limit": 1.5}, "content_limit is 1.5: write the characters of a text to keep, a whole number from 1 on"),
    (
        {"content_limit": True},
        "content_limit is True: write the characters of a text to keep, a whole number from 1 on",
    ),
    ({"redact": ["a"]}, "redact is ['a']: give a function that takes a text and returns one"),
    ({"idle_after_s": "60"}, "idle_after_s is '60': write seconds, above 0 and up to a year"),
    ({"idle_after_s": 0}, "idle_after_s is 0: write seconds, above 0 and up to a year"),
    ({"idle_after_s": float("nan")}, "idle_after_s is nan: write seconds, above 0 and up to a year"),
    ({"idle_after_s": float("inf")}, "idle_after_s is inf: write seconds, above 0 and up to a year"),
    (
        {"most_models": -1},
        "most_models is -1: write how many names of models metrics may have, a whole number from 1 on",
    ),
    ({"chunk_gap_share": 1.1}, "chunk_gap_share is 1.1: write a share from 0 to 1"),
    ({"chunk_gap_share": float("nan")}, "chunk_gap_share is nan: write a share from 0 to 1"),
    ({"chunk_gap_share": "all"}, "chunk_gap_share is 'all': write a share from 0 to 1"),
]


@pytest.mark.parametrize(("options", "said"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_named_in_one_line(options: dict[str, Any], said: str) -> None:
    """Every mistake is a SettingsError that says what is wrong and what to write, and leaves the client as it was."""
    with httpx.Client(base_url="http://localhost:1/v1") as client:
        with pytest.raises(SettingsError) as raised:
            instrument(client, **options)
        assert str(raised.value) == said
        assert "send" not in vars(client)


def test_a_mistake_that_is_a_key_is_not_repeated() -> None:
    """What looks like a key is not shown, whichever setting it was given to by mistake."""
    for name in ("hosts", "metric_names", "redact", "idle_after_s"):
        with pytest.raises(SettingsError) as raised:
            settings_from(**{name: "sk-0123456789abcdef"})  # type: ignore[arg-type]
        assert "0123456789" not in str(raised.value)


@pytest.mark.parametrize("client", [None, object(), "https://api.tensorix.ai", httpx.Client, 3])
def test_what_is_no_client_is_said(client: Any) -> None:
    """A class, a text or anything else that cannot be traced is named; None stands for all clients."""
    if client is None:
        assert instrument(client) is None
        return
    with pytest.raises(SettingsError, match="cannot be instrumented: give a client of openai, httpx or httpx2"):
        instrument(client)


@pytest.mark.parametrize(
    ("word", "captures"),
    [
        ("SPAN_ONLY", True),
        ("span_and_event", True),
        (" True ", True),
        ("EVENT_ONLY", False),
        ("NO_CONTENT", False),
        ("false", False),
        ("", False),
        (None, False),
    ],
)
def test_the_environment_says_whether_contents_are_captured(
    word: str | None, captures: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The words of OpenTelemetry's variable are understood in any case; the argument goes before them."""
    environ = {} if word is None else {CAPTURE_VARIABLE: word}
    assert settings_from(environ=environ).capture_content is captures
    assert settings_from(environ=environ, capture_content=not captures).capture_content is not captures
    assert caplog.records == []


def test_a_word_that_is_not_understood_captures_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """In doubt nothing is captured, and a warning says so."""
    with caplog.at_level(logging.WARNING):
        assert settings_from(environ={CAPTURE_VARIABLE: "yes please"}).capture_content is False
    assert caplog.messages == [
        f"{CAPTURE_VARIABLE} is 'yes please': nothing is captured; write span_only or no_content"
    ]


@pytest.mark.parametrize(
    ("environ", "hosts"),
    [
        ({}, {"api.tensorix.ai"}),
        ({"TENSORIX_BASE_URL": "https://Gateway.Example/v1"}, {"gateway.example"}),
        ({"TENSORIX_BASE_URL": "http://[::1]:8000/v1"}, {"::1:8000"}),
        ({HOSTS_VARIABLE: "a.example, localhost:8000,,", "TENSORIX_BASE_URL": "x"}, {"a.example", "localhost:8000"}),
    ],
)
def test_the_environment_says_which_hosts(environ: dict[str, str], hosts: set[str]) -> None:
    """For all clients: the list of its own, else where the API is, else api.tensorix.ai."""
    assert settings_from(environ=environ).hosts == hosts
    assert settings_from(environ=environ, client_host="c:1").hosts == {"c:1"}
    assert settings_from(environ=environ, client_host="c:1", hosts=["B"]).hosts == {"b"}


def test_the_environment_says_which_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics' names come from the environment where the argument leaves them open; a wrong word is said."""
    assert settings_from(environ={}).metric_names == "old"
    assert settings_from(environ={NAMES_VARIABLE: " Both"}).metric_names == "both"
    assert settings_from(environ={NAMES_VARIABLE: "both"}, metric_names="new").metric_names == "new"
    monkeypatch.setenv(NAMES_VARIABLE, "newest")
    with pytest.raises(SettingsError, match=f"{NAMES_VARIABLE} is 'newest': write old, new or both"):
        instrument()


def test_instrumenting_again_replaces_the_settings(
    simulator: Any, tell: Callable[..., Any], asked: dict[str, Any]
) -> None:
    """What a second `instrument` of the same client says holds, and nothing of the first is left."""
    first, second = tell(), tell()
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-any"}) as client:
        instrument(client, provider_name="one", **first.providers)
        instrument(client, provider_name="two", **second.providers)
        client.post("/chat/completions", json=asked).raise_for_status()
    assert first.spans == []
    assert second.span().attributes["gen_ai.provider.name"] == "two"
