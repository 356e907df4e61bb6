"""Where the API is and what opens it: from the environment, or refused in a line that says what to write instead."""

from __future__ import annotations

import traceback

import pytest

from tensorix_api import Secret, Settings, TensorixError
from tensorix_api.errors import SettingsError

KEY = "mdUp-Key_77qXz42LmNoP9"


def test_defaults_are_those_that_tensorix_documents() -> None:
    """Nothing set: the documented address, no key, and whatever model the server lists first."""
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert (settings.base_url, settings.api_key, settings.model) == ("https://api.tensorix.ai/v1", None, None)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, key and model by their documented names; blanks around a key are a slip of copying."""
    monkeypatch.setenv("TENSORIX_BASE_URL", "http://127.0.0.1:8000/v1/")
    monkeypatch.setenv("TENSORIX_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("TENSORIX_MODEL", "z-ai/glm-5")
    settings = Settings.from_environment()
    assert settings == Settings(base_url="http://127.0.0.1:8000/v1", api_key=Secret(KEY), model="z-ai/glm-5")


def test_an_argument_goes_before_the_environment() -> None:
    """And what is set to nothing counts as not set."""
    environment = {"TENSORIX_BASE_URL": "http://a/v1", "TENSORIX_MODEL": "a", "TENSORIX_API_KEY": "  "}
    settings = Settings.from_environment(environment, base_url="http://b/v1", model="b")
    assert (settings.base_url, settings.model, settings.api_key) == ("http://b/v1", "b", None)
    settings = Settings.from_environment({"TENSORIX_BASE_URL": "", "TENSORIX_MODEL": ""}, base_url="", model="")
    assert settings == Settings()


@pytest.mark.parametrize(
    ("base_url", "host", "port", "secure", "path", "loopback"),
    [
        ("https://api.tensorix.ai/v1", "api.tensorix.ai", 443, True, "/v1", False),
        ("http://localhost:8000/v1/", "localhost", 8000, False, "/v1", True),
        ("http://127.0.0.1", "127.0.0.1", 80, False, "", True),
        ("http://127.9.9.9:1/a/b", "127.9.9.9", 1, False, "/a/b", True),
        ("https://[::1]:8443/v1", "::1", 8443, True, "/v1", True),
        ("http://[2001:db8::1]/v1", "2001:db8::1", 80, False, "/v1", False),
        ("HTTPS://API.Example/v1", "api.example", 443, True, "/v1", False),
        ("http://localhost.example/v1", "localhost.example", 80, False, "/v1", False),
        ("http://0.0.0.0:80/v1", "0.0.0.0", 80, False, "/v1", False),
    ],
)
def test_an_address_is_taken_apart(
    base_url: str, host: str, port: int, secure: bool, path: str, loopback: bool
) -> None:
    """Host without brackets, the port by the scheme, the path without its last slash."""
    settings = Settings(base_url=base_url)
    assert (settings.host, settings.port, settings.path) == (host, port, path)
    assert (settings.secure, settings.is_loopback) == (secure, loopback)


@pytest.mark.parametrize(
    ("base_url", "because"),
    [
        ("api.tensorix.ai/v1", "no http"),
        ("ftp://api.tensorix.ai", "no http"),
        ("https://", "no http"),
        ("http:///v1", "no http"),
        ("http://:8000/v1", "no http"),
        ("http://[::1/v1", "cannot be read"),
        ("http://host:port/v1", "cannot be read"),
        ("http://host:99999/v1", "cannot be read"),
        ("http://host:0/v1", "port 0"),
        ("http://user:secret@host/v1", "user or password"),
        ("http://secret@host/v1", "user or password"),
        ("http://@host/v1", "user or password"),
        ("http://host/v1?key=secret", "query"),
        ("http://host/v1?", "query"),
        ("http://host/v1#a", "query or fragment"),
        ("http://host/v 1", "space"),
        (" http://host/v1", "space"),
        ("http://host/v1\n", "space"),
        ("http://host/\x00", "control"),
        ("http://exämple.de/v1", "ASCII"),
        ("http://host/é", "ASCII"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(base_url: str, because: str) -> None:
    """In one line that says why, and repeats no password."""
    with pytest.raises(SettingsError, match=because) as caught:
        Settings(base_url=base_url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, TensorixError)


@pytest.mark.parametrize("key", [f"{KEY} {KEY}", f"{KEY}\r\nx: y", f"{KEY}é", f"{KEY}\x7f", f"{KEY}\0"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the message, nor among the locals of a traceback, the environment's own among them."""
    environment = {"TENSORIX_API_KEY": key}
    if "\0" not in key:
        monkeypatch.setenv("TENSORIX_API_KEY", key)
        environment = {}
    try:
        # An expression, so that this frame holds no name for it.
        Settings.from_environment(environment or None)
    except SettingsError as error:
        del key, environment
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "TENSORIX_API_KEY holds a character" in shown
    assert KEY not in shown


def test_a_wrong_address_in_the_environment_shows_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames of that traceback hold the key as a Secret only."""
    monkeypatch.setenv("TENSORIX_API_KEY", KEY)
    monkeypatch.setenv("TENSORIX_BASE_URL", "nowhere")
    try:
        Settings.from_environment()
    except SettingsError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "nowhere" in shown
    assert KEY not in shown
