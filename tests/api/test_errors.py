"""What can go wrong: the statuses, the bodies that come with them, our own exceptions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorix_api import errors
from tensorix_api.errors import STATUS_MEANING, ErrorBody, ErrorKind, kind_of_status, parse_error_body

QUIETLY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (204, None),
        (400, "bad_request"),
        (401, "authentication"),
        (402, "payment"),
        (403, "authentication"),
        (404, "bad_request"),
        (422, "bad_request"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
        (529, "server_error"),
        (100, "unexpected_status"),
        (302, "unexpected_status"),
        (600, "unexpected_status"),
        (0, "unexpected_status"),
    ],
)
def test_kind_of_status(status: int, kind: str | None) -> None:
    """Each status is one kind of error, and only a 2xx is none."""
    assert kind_of_status(status) == kind


def test_the_documented_statuses() -> None:
    """The table holds what Tensorix documents, and each error in it has a kind of its own."""
    assert set(STATUS_MEANING) == {200, 400, 401, 402, 429, 500}
    assert len({kind_of_status(status) for status in STATUS_MEANING}) == 6


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(
            {
                "error": {
                    "message": "Invalid API key provided",
                    "type": "authentication_error",
                    "code": "invalid_api_key",
                }
            },
            ErrorBody("Invalid API key provided", "authentication_error", "invalid_api_key"),
            id="as documented",
        ),
        pytest.param(
            {"error": {"message": "no", "type": "None", "param": "None", "code": "401"}},
            ErrorBody("no", "None", "401", "None"),
            id="a LiteLLM gateway's",
        ),
        pytest.param({"error": {"message": "no", "code": 429}}, ErrorBody("no", code="429"), id="code as a number"),
        pytest.param({"error": {"message": "no", "code": None}}, ErrorBody("no"), id="code as null"),
        pytest.param(
            {"error": {"message": "no", "param": "max_tokens"}}, ErrorBody("no", param="max_tokens"), id="param"
        ),
        pytest.param({"error": "no"}, ErrorBody("no"), id="an error as text"),
        pytest.param({"error": ["a", 1]}, ErrorBody('["a", 1]'), id="an error as a list"),
        pytest.param({"error": None, "message": "no"}, ErrorBody("no"), id="an error that is null"),
        pytest.param({"error": {}}, ErrorBody(), id="an empty error"),
        pytest.param({"message": "no", "type": "t"}, ErrorBody("no", "t"), id="no error around it"),
        pytest.param({"detail": "Not Found"}, ErrorBody("Not Found"), id="FastAPI's"),
        pytest.param({"detail": [{"loc": ["body"]}]}, ErrorBody('[{"loc": ["body"]}]'), id="FastAPI's, of a bad body"),
        pytest.param({"error": {"message": "", "detail": "no"}}, ErrorBody("no"), id="an empty message"),
        pytest.param({"error": {"message": {"text": "no"}}}, ErrorBody('{"text": "no"}'), id="a message as an object"),
        pytest.param({}, ErrorBody(), id="an empty object"),
        pytest.param([], ErrorBody("[]"), id="a list"),
        pytest.param(None, ErrorBody(), id="null"),
        pytest.param("no", ErrorBody("no"), id="a JSON text"),
    ],
)
def test_bodies(body: Any, expected: ErrorBody) -> None:
    """The same from bytes and, for an object, from what was decoded."""
    assert parse_error_body(json.dumps(body).encode()) == expected
    if isinstance(body, dict):
        assert parse_error_body(body) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", None),
        (b"  \n", None),
        (b"upstream connect error", "upstream connect error"),
        (b"<html>502 Bad Gateway</html>\n", "<html>502 Bad Gateway</html>"),
        (b'{"error":{"message":"cut', '{"error":{"message":"cut'),
        (b"\xff\xfe no text", "\ufffd\ufffd no text"),
        (b"[" * 100_000, "[" * 2_000),
        (b"x" * 10_000, "x" * 2_000),
        (b"9" * 5_000, "9" * 2_000),
    ],
)
def test_what_is_no_json_is_the_message(body: bytes, message: str | None) -> None:
    """Up to 2,000 bytes of it, whatever it is."""
    assert parse_error_body(body) == ErrorBody(message)


@pytest.mark.parametrize("large", ["x" * 100_000, ["x"] * 20_000, {"x" * 50_000: 1}], ids=["text", "list", "object"])
@pytest.mark.parametrize("shape", ["message", "type", "code", "param", "detail", "error", None])
def test_no_more_than_a_little_is_handed_on(shape: str | None, large: Any) -> None:
    """A field as large as the body is cut, whatever it is made of and wherever it stands."""
    body = large if shape is None else {"error": large if shape == "error" else {shape: large}}
    error = parse_error_body(json.dumps(body).encode())
    parts = [part for part in (error.message, error.type, error.code, error.param) if part]
    if isinstance(large, dict) and shape in (None, "error"):
        assert not parts, "an error without any of the fields"
    else:
        assert [len(part) for part in parts] == [4_000]


@pytest.mark.parametrize(
    "shape", ['{"error":{"message":%s}}', '{"error":%s}', "%s", '{"error":{"message":"no","code":%s}}']
)
def test_a_depth_that_can_just_be_read_is_no_trouble(shape: str) -> None:
    """Somewhere below the depth at which reading fails, writing it again fails first."""
    for depth in range(300, 1_100):
        assert isinstance(parse_error_body((shape % ("[" * depth + "]" * depth)).encode()), ErrorBody)


@QUIETLY
@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "type", "code", "param", "x"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_read(body: bytes) -> None:
    """Garbage and any JSON: never an exception, and nothing but text comes out."""
    error = parse_error_body(body)
    assert all(part is None or isinstance(part, str) for part in (error.message, error.type, error.code, error.param))


def test_the_exceptions_are_one_small_tree() -> None:
    """Whoever catches TensorixError has them all."""
    exceptions = [value for name in errors.__all__ if isinstance(value := getattr(errors, name), type)]
    raised = [value for value in exceptions if issubclass(value, Exception)]
    assert len(raised) == 6
    assert all(issubclass(value, errors.TensorixError) for value in raised)


def test_kinds_are_columns_texts() -> None:
    """A kind is written in a record by its value, which is its name in small letters."""
    assert all(kind.value == kind.name.lower() == str(kind) for kind in ErrorKind)
