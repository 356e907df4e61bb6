"""A key that occurs nowhere else is found nowhere in what a run leaves or says, whatever the server does with it."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tensorix_records import Run

if TYPE_CHECKING:
    from tests.loadtests.conftest import Engine, Peer, Server

# No `sk-`, so that it does not go by its look; with what URLs, HTML and base64 write otherwise.
KEY = "Vx9q+Wm3/TrLp0&KcEa8Hd=Zu5nB7ySgJ2oQf"
TOKEN = "hG4t+Xw8/LkRm2&PzCe6Dq=Ys9bN3vUiA7oTj"
PROXY_PASSWORD = "nR7c_Kp2.WqLt5-XzGe9Mb_Ua3hS6dYfJ8oVi"

Serve = Callable[..., "Server"]


def _in_base64(data: bytes) -> Iterator[str]:
    """What is left of it in any base64 text that holds it, at each of the three alignments, in both alphabets."""
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + data)
        core = text[-(-offset * 4 // 3) + (1 if offset else 0) : len(text) // 4 * 4 - 4].decode()
        yield core
        yield core.replace("+", "-").replace("/", "_")


def _traces(secret: str) -> dict[str, str]:
    """What betrays it, by the name of its spelling; looked for without regard to case."""
    raw = secret.encode()
    traces = {
        "plain": secret,
        "percent": quote(secret, safe=""),
        "percent, as in a path": quote(secret),
        "percent twice": quote(quote(secret, safe=""), safe=""),
        "html": html.escape(secret),
        "hex": raw.hex(),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "sha1": hashlib.sha1(raw).hexdigest(),
        "md5": hashlib.md5(raw).hexdigest(),
        "sha256 in base64": base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("="),
        # A half of it is worth as much to who has the other.
        "first half": secret[: len(secret) // 2],
        "last half": secret[len(secret) // 2 :],
    }
    return traces | {f"base64 {number}": text for number, text in enumerate(_in_base64(raw))}


TRACES = {
    f"{name}, {spelling}": text.lower()
    for name, secret in (("key", KEY), ("header", TOKEN), ("proxy", PROXY_PASSWORD))
    for spelling, text in _traces(secret).items()
}


def _found(texts: Iterable[tuple[str, str]]) -> list[str]:
    """Where something was found: the name of the text, and which spelling."""
    return [
        f"{name}: {spelling}" for name, text in texts for spelling, trace in TRACES.items() if trace in text.lower()
    ]


def _texts_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder, and what compressed files hold."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode("latin-1")
        yield f"the name of {path.name}", path.name
    for manifest in folder.rglob("manifest.json"):
        run = Run.open(manifest.parent)
        for row in run.records().to_pylist():
            yield f"record {row['record_id']}", "\n".join(str(value) for value in row.values())
            yield f"record {row['record_id']} as JSON", json.dumps(row)
        yield "gaps", str(run.gap_counts().to_pylist())


def test_the_search_finds_what_it_looks_for() -> None:
    """Each spelling is found in a text that holds it, so that finding none means something."""
    assert _found([("x", f"before {KEY} after")])
    for offset in range(9):
        text = base64.b64encode(b"Bearer: "[:offset] + KEY.encode() + b" and more").decode()
        assert any("base64" in found for found in _found([("x", text)])), offset
    assert _found([("x", quote(f"?key={KEY}"))])
    assert _found([("x", hashlib.sha256(KEY.encode()).hexdigest().upper())])


# a server that repeats what it was sent

SPELLINGS: list[Callable[[str], str]] = [
    str,
    lambda text: f"Bearer {text}",
    lambda text: quote(text, safe=""),
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.b64encode(f"Bearer {text}".encode()).decode(),
    lambda text: base64.urlsafe_b64encode(f"x{text}y".encode()).decode(),
    lambda text: text.encode().hex(),
    lambda text: hashlib.sha256(text.encode()).hexdigest(),
    lambda text: hashlib.md5(text.encode()).hexdigest(),
    lambda text: html.escape(text),
    lambda text: json.dumps(text).replace("/", "\\/"),
    lambda text: text.upper(),
]


def _chunked(peer: Peer, data: bytes, size: int = 2**20) -> None:
    peer.begin_stream(transfer_encoding="chunked")
    peer.send(peer.chunked(data, size))


def _error(message: Any, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _chunk(text: str) -> dict[str, Any]:
    return {
        "id": text,
        "model": text,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": text}],
        "usage": {"prompt_tokens": text, "completion_tokens": 1},
    }


ECHOES: list[Callable[[Peer, str], object]] = [
    lambda peer, text: peer.answer(500, _error(f"Key {text} is broken")),
    lambda peer, text: peer.answer(400, _error("x", type=text, code=text, param=text)),
    lambda peer, text: peer.answer(400, _error({"nested": text})),
    lambda peer, text: peer.answer(500, _error("y" * 480 + text)),
    lambda peer, text: peer.answer(500, f"no JSON: {text}".encode(), content_type="text/plain"),
    lambda peer, text: peer.answer(500, b"z" * 1970 + f"{text}{text}".encode(), content_type="text/plain"),
    lambda peer, text: peer.answer(500, (text * 200).encode(), content_type="text/plain"),
    lambda peer, text: peer.answer(302, location=f"https://elsewhere.invalid/?key={text}"),
    lambda peer, text: peer.answer(429, _error(f"limit of {text}"), retry_after=text),
    lambda peer, text: peer.answer(
        500, _error("x"), x_ratelimit_api_key_remaining_requests=text, x_ratelimit_limit_requests=text
    ),
    lambda peer, text: peer.answer(200, peer.completion(), content_type=f"text/{text}"),
    lambda peer, text: peer.answer(200, _error(text)),
    lambda peer, text: peer.answer(200, peer.completion(), content_encoding=text),
    lambda peer, text: peer.send(f"HTTP/1.1 500 {text}\r\ncontent-length: 0\r\n\r\n".encode()),
    lambda peer, text: peer.send(f"HTTP/1.1 200 OK\r\n{text}\r\n\r\n".encode()),
    lambda peer, text: peer.send(f"{text}\r\n\r\n".encode()),
    lambda peer, text: _chunked(peer, _event(_chunk(text)) + b"data: [DONE]\n\n"),
    lambda peer, text: _chunked(peer, _event(_chunk("w" * 190 + text)) + b"data: [DONE]\n\n"),
    lambda peer, text: _chunked(peer, _event(_error(f"in mid-stream: {text}", type=text, code=text)), 3),
    lambda peer, text: _chunked(peer, b"event: error\ndata: " + text.encode() + b"\n\n", 5),
    lambda peer, text: _chunked(peer, b"data: {" + text.encode() + b"}\n\n"),
]
CASES = list(itertools.product(ECHOES, SPELLINGS))


@pytest.fixture
def echoing(serve: Serve) -> Server:
    """A server whose n-th chat answer repeats the key or the extra header's value in the n-th way."""
    turns = itertools.count()

    def handle(peer: Peer) -> None:
        while True:
            head, _ = peer.request()
            if head.startswith(b"GET"):
                peer.answer(200, {"data": [{"id": "m"}]})
                continue
            turn = next(turns)
            echo, spell = CASES[turn % len(CASES)]
            # The extra header's value where it came: nobody can repeat what he was not told.
            echo(peer, spell(TOKEN if turn % 3 == 0 and TOKEN.encode() in head else KEY))

    return serve(handle)


@pytest.fixture
def loud(subprocess_environment: dict[str, str]) -> dict[str, str]:
    """An environment with the key, and every log as loud as it gets."""
    return subprocess_environment | {"TENSORIX_API_KEY": KEY, "TENSORIX_LOG_LEVEL": "DEBUG", "COLUMNS": "200"}


def test_nothing_of_a_run_holds_the_key(echoing: Server, loud: dict[str, str], tmp_path: Path) -> None:
    """Against a server that repeats the key in every way, no file, log, page or output of load and report holds it."""
    command = [sys.executable, "-m", "tensorix_cli"]
    number = len(CASES)
    load = [*command, "load", "--base-url", echoing.base_url, "--requests", str(number), "--users", "16"]
    load += ["--spawn-rate", "100", "--out", "run", "--header", f"X-Gateway-Token: {TOKEN}"]
    # No wait of a user's own is longer than a quarter of the window: with so few successes they would grow and grow.
    load += ["--limit-window", "1s"]
    outputs = []
    for arguments in (load, [*command, "report", "run"]):
        ended = subprocess.run(arguments, cwd=tmp_path, env=loud, capture_output=True, text=True, timeout=90)
        outputs += [("stdout", ended.stdout), ("stderr", ended.stderr)]
        assert ended.returncode in (0, 1), ended.stderr
    run = Run.open(tmp_path / "run")
    rows = run.records().to_pylist()
    assert len(rows) == number + 1
    # It was repeated, and taken out: the texts around it are there.
    assert sum("[redacted]" in (row["error_message"] or "") for row in rows) > number / 3
    assert (tmp_path / "run" / "engine.log").exists()
    assert _found([*outputs, *_texts_of(tmp_path)]) == []


def test_plain_locust_does_not_show_it(echoing: Server, loud: dict[str, str], tmp_path: Path) -> None:
    """Locust's own tables and its debug log hold nothing of it."""
    locustfile = Path(__file__).parents[2] / "loadtests" / "locustfile.py"
    command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--host", echoing.base_url]
    command += ["--users", "8", "--spawn-rate", "100", "--requests", str(len(ECHOES) * 3), "--out", "run"]
    command += ["--loglevel", "DEBUG", "--csv", "stats", "--html", "locust.html", "Chat"]
    ended = subprocess.run(command, cwd=tmp_path, env=loud, capture_output=True, text=True, timeout=90)
    assert "RequestFailed" in ended.stdout + ended.stderr
    assert _found([("stdout", ended.stdout), ("stderr", ended.stderr), *_texts_of(tmp_path)]) == []


def test_a_refused_key_is_not_repeated(serve: Serve, start_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """The line that says why a run could not begin repeats nothing of the key that the server repeated."""
    statuses = iter((401, 402, 302, 500))

    def handle(peer: Peer) -> None:
        peer.request()
        body = _error(f"Incorrect API key provided: {KEY}")
        peer.answer(next(statuses), body, location=f"https://x.invalid/{KEY}")

    server = serve(handle)
    for engine in [start_engine(server.base_url, key=KEY) for _ in range(4)]:
        assert engine.end() == 2
        assert "[redacted]" in engine.said[0]
        assert _found([("said", "\n".join(engine.said)), *_texts_of(tmp_path)]) == []


def test_a_model_that_is_named_like_the_key(serve: Serve, start_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """A server whose first model repeats the key is not asked for that model: its name would stand everywhere."""

    def handle(peer: Peer) -> None:
        peer.request()
        peer.answer(200, {"data": [{"id": f"model-of-{KEY}"}]})

    engine = start_engine(serve(handle).base_url, key=KEY)
    assert engine.end() == 2
    assert "--model" in engine.said[0]
    assert _found([("said", engine.said[0]), *_texts_of(tmp_path)]) == []


def test_the_proxys_password(serve: Serve, start_engine: Callable[..., Engine], tmp_path: Path) -> None:
    """A proxy that repeats its own password in its refusal is not quoted with it."""

    def refuse(peer: Peer) -> None:
        head, _ = peer.request()
        credentials = head.split(b"Basic ")[1].split(b"\r\n")[0]
        peer.send(b"HTTP/1.1 407 " + b"x" * 20 + b" " + credentials + b"\r\n\r\n")

    proxy = serve(refuse)
    environment = {"HTTPS_PROXY": f"http://ann:{PROXY_PASSWORD}@127.0.0.1:{proxy.port}"}
    engine = start_engine("https://nobody.invalid/v1", key=KEY, environment=environment)
    assert engine.end() == 2
    assert "407" in engine.said[0]
    assert _found([("said", "\n".join(engine.said)), *_texts_of(tmp_path)]) == []


def test_tracebacks_with_locals(answer: Serve, loud: dict[str, str]) -> None:
    """A defect anywhere in the client shows no key in its traceback, though every frame's locals are printed."""
    server = answer(lambda peer: peer.answer(200, peer.stream("a"), content_type="text/event-stream"))
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("failing_client.py")), server.base_url],
        env=loud | {"HTTP_PROXY": f"http://ann:{PROXY_PASSWORD}@127.0.0.1:1", "NO_PROXY": "127.0.0.1"},
        input=TOKEN,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    broken = int(ended.stdout.rsplit("broken at ", 1)[1].split()[0])
    assert broken >= 12
    assert "request_id" in ended.stdout
    assert _found([("stdout", ended.stdout), ("stderr", ended.stderr)]) == []


def test_the_key_is_no_argument_of_a_process(
    answer: Serve, start_engine: Callable[..., Engine], wait_until: Callable[..., None]
) -> None:
    """While a run is going on its process's arguments, which everybody on the machine can read, hold no secret."""
    if not os.path.exists("/proc/self/cmdline"):  # noqa: PTH110 - no path of ours
        pytest.skip("no /proc here")
    reached: list[bool] = []
    server = answer(lambda peer: reached.append(True))
    engine = start_engine(server.base_url, key=KEY, headers={"X-Gateway-Token": TOKEN})
    wait_until(lambda: reached)
    arguments = Path(f"/proc/{engine.process.pid}/cmdline").read_bytes().decode()
    assert _found([("arguments", arguments)]) == []
