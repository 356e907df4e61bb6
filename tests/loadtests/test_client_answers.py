"""What the client makes of answers: each becomes one record that says what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.loadtests.conftest import Client, Peer, Server

Serve = Callable[..., "Server"]


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [
        (400, "failed", "bad_request"),
        (404, "failed", "bad_request"),
        (422, "failed", "bad_request"),
        (401, "failed", "authentication"),
        (403, "failed", "authentication"),
        (402, "failed", "payment"),
        (429, "throttled", "rate_limited"),
        (500, "failed", "server_error"),
        (503, "failed", "server_error"),
        (304, "failed", "unexpected_status"),
        (600, "failed", "unexpected_status"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_status(answer: Serve, client: Client, status: int, outcome: str, kind: str, stream: bool) -> None:
    """Each status is the outcome and kind that the documented table says, with the error's own words."""
    body = b"" if status == 304 else json.dumps({"error": {"message": "So it is.", "type": "t", "code": 7}}).encode()
    server = answer(lambda peer: peer.answer(status, body))
    record = client.send(server.base_url, {"stream": stream}).record
    assert (record.status, record.outcome, record.error_kind) == (status, outcome, kind)
    assert record.error_phase == "headers"
    if status >= 400:
        assert (record.error_message, record.error_type, record.error_code) == ("So it is.", "t", "7")
    assert record.headers_at_ns is not None
    assert record.first_token_at_ns is None
    assert record.stream_outcome is None


def test_a_2xx_that_is_not_200_is_no_success(answer: Serve, client: Client) -> None:
    """A 204 without a reply is not counted as an answer."""
    server = answer(lambda peer: peer.send(b"HTTP/1.1 204 No Content\r\n\r\n"))
    for stream in (True, False):
        record = client.send(server.base_url, {"stream": stream}).record
        assert record.outcome == "failed"
        assert record.status == 204
        assert record.error_kind is not None


def test_an_error_without_words_gets_the_documented_meaning(answer: Serve, client: Client) -> None:
    """An empty body of a 402 is told as what the contract says a 402 is."""
    server = answer(lambda peer: peer.answer(402))
    assert client.send(server.base_url).record.error_message == "status 402: insufficient credits"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused_with_the_address_to_use(answer: Serve, client: Client, status: int) -> None:
    """A redirect is not followed, and the message names where it led."""
    server = answer(lambda peer: peer.answer(status, location="https://elsewhere.invalid/v1"))
    record = client.send(server.base_url).record
    assert (record.outcome, record.error_kind) == ("failed", "unexpected_status")
    assert "https://elsewhere.invalid/v1" in (record.error_message or "")
    assert "base URL" in (record.error_message or "")
    assert server.connections == 1


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_under_status_200_is_a_failure(answer: Serve, client: Client, stream: bool) -> None:
    """A 200 whose JSON body is an error fails with the error's message, whether or not a stream was asked for."""
    error = {"error": {"message": "No room.", "type": "overloaded", "code": "busy"}}
    server = answer(lambda peer: peer.answer(200, error))
    record = client.send(server.base_url, {"stream": stream}).record
    assert (record.outcome, record.status, record.error_kind) == ("failed", 200, "malformed")
    assert (record.error_message, record.error_type, record.error_code) == ("No room.", "overloaded", "busy")


def test_json_where_a_stream_was_asked_for(answer: Serve, client: Client) -> None:
    """A whole reply to a streamed request is a failure that says so, and has no time to first token."""
    server = answer(lambda peer: peer.reply())
    record = client.send(server.base_url).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")
    assert "a stream was asked for" in (record.error_message or "")
    assert record.first_token_at_ns is None


def test_a_stream_where_none_was_asked_for(answer: Serve, client: Client) -> None:
    """Events instead of a reply are malformed."""

    def act(peer: Peer) -> None:
        peer.answer(200, peer.stream("a"), content_type="text/event-stream")

    record = client.send(answer(act).base_url, {"stream": False}).record
    assert (record.outcome, record.error_kind) == ("failed", "malformed")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b"\xff"])
def test_a_reply_that_is_none(answer: Serve, client: Client, body: bytes) -> None:
    """A 200 whose body is no chat completion is malformed."""
    record = client.send(answer(lambda peer: peer.answer(200, body)).base_url, {"stream": False}).record
    assert (record.outcome, record.error_kind, record.error_phase) == ("failed", "malformed", "body")


def test_a_reply_that_is_not_streamed(serve: Serve, client: Client) -> None:
    """A whole reply succeeds, with its usage, its names, and no stamps of tokens."""
    heads: list[tuple[bytes, bytes]] = []

    def handle(peer: Peer) -> None:
        heads.append(peer.request())
        peer.answer(
            200,
            peer.completion(),
            x_ratelimit_api_key_remaining_requests="59",
            x_ratelimit_api_key_remaining_tokens="1999",
        )
        peer.wait_for_end()

    record = client.send(serve(handle).base_url, {"stream": False}, key="sk-something").record
    assert (record.outcome, record.status, record.stream, record.stream_outcome) == ("success", 200, False, None)
    assert (record.prompt_tokens, record.completion_tokens, record.token_source) == (3, 2, "usage")
    assert (record.model_served, record.response_id, record.finish_reason) == ("m", "chatcmpl-1", "stop")
    assert (record.remaining_requests, record.remaining_tokens) == (59, 1999)
    assert record.first_chunk_at_ns is record.first_token_at_ns is record.last_token_at_ns is None
    head, body = heads[0]
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert "Authorization: Bearer sk-something" in lines
    assert f"X-Request-Id: {record.request_id}" in lines
    assert json.loads(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
        "max_tokens": 8,
    }
    assert record.request_bytes == len(head) + 4 + len(body)


def test_a_list_of_models(answer: Serve, client: Client) -> None:
    """Models are listed in the server's order, and the record has no column of a stream."""
    server = answer(lambda peer: peer.answer(200, {"data": [{"id": "b/two"}, {"id": "a/one"}]}))
    seen = client.send(server.base_url, {"models": True})
    assert seen.answer["results"][0]["models"] == ["b/two", "a/one"]
    assert (seen.record.outcome, seen.record.stream, seen.record.method) == ("success", None, "GET")


def test_what_else_the_caller_gives_is_sent(serve: Serve, client: Client) -> None:
    """Extra headers and fields of the body go out, a header of the caller's instead of ours of the same name."""
    seen: list[tuple[bytes, bytes]] = []

    def handle(peer: Peer) -> None:
        seen.append(peer.request())
        peer.reply()

    call: dict[str, Any] = {"stream": False, "temperature": 0.5, "extra": {"top_p": 0.1}}
    client.send(serve(handle).base_url, call, headers={"user-agent": "mine", "X-Team": "blue"})
    head, body = seen[0]
    assert head.lower().count(b"user-agent:") == 1
    assert b"user-agent: mine" in head
    assert b"X-Team: blue" in head
    assert json.loads(body)["temperature"] == 0.5
    assert json.loads(body)["top_p"] == 0.1
