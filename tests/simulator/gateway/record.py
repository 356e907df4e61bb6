"""Record what a LiteLLM gateway answers to the requests of sequence.json, for the simulator to be held against.

The gateway (LiteLLM 1.106.2, Python 3.11, one process, no database, no Redis) in an environment of its own::

    python -m venv gateway-venv && gateway-venv/bin/pip install 'litellm[proxy]==1.106.2'
    cd tests/simulator/gateway
    LITELLM_MASTER_KEY=sk-$(openssl rand -hex 24) LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_RATE_LIMIT_WINDOW_SIZE=5 \\
        ../../../gateway-venv/bin/litellm --config gateway.yaml --host 127.0.0.1 --port 4111 --telemetry False

It takes up to 90 s until `GET /health/liveliness` answers 200. Then, in the toolkit's environment::

    python tests/simulator/gateway/record.py --base-url http://127.0.0.1:4111 --out recording.json

which takes about a quarter of a minute, starts on port 4301 the simulator that gateway.yaml names as one model's
provider, and stops it again. Each run uses keys of its own, so it may be repeated; two recordings are the same to the
byte. But a gateway that has just seen dozens of keys forgets windows early: its cache holds 200 entries.

With `--against recording.json` it prints where this gateway, of another version or with other settings, differs.

What is kept of a response: status, headers, body; each event of a stream. `normal_*` put placeholders in the place of
ids, times, text and addresses, and drop the headers of `DROPPED`; the test does the same to the simulator's answers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["DROPPED", "WINDOW_S", "Answer", "answers", "differences", "found", "normal", "sent", "sequence"]

WINDOW_S = 5
"""LITELLM_RATE_LIMIT_WINDOW_SIZE for the recording: a window's edge comes within it."""

UPSTREAM_PORT = 4301
"""Where gateway.yaml looks for the provider of `tensorix-model`."""

DROPPED = {
    "connection": "of the connection, not of the answer",
    "keep-alive": "of the connection, not of the answer",
}
"""Headers that are not compared, and why. Nor is `llm_provider-*`: a copy of the provider's, not the gateway's own."""

_PROVIDERS = "llm_provider-"
_VALUES = {
    "date": "<time>",
    "content-length": "<length of the text>",
    "x-litellm-call-id": "<id>",
    "x-litellm-model-id": "<id>",
    "x-litellm-model-api-base": "<address>",
    "x-litellm-response-duration-ms": "<time>",
    "x-litellm-overhead-duration-ms": "<time>",
    "x-litellm-callback-duration-ms": "<time>",
    "x-request-id": "<id>",
    "request-id": "<id>",
}
_RESET = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC")
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b|\bkey-[0-9a-f]{8}\b")
_WORDING = re.compile(r"(?<=OpenAIException - ).*(?=\n\nLiteLLM: )")
_TEXTS = ("content", "reasoning_content", "arguments")
_NONE = "(none)"
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request. The key is an alias: `good-…` or `small-…`, with the limits of key_check.py, or any other."""

    what: str
    method: str = "POST"
    path: str = "/v1/chat/completions"
    key: str | None = None
    scheme: str = "Bearer"
    body: dict[str, Any] | None = None
    raw: str | None = None
    """A body that is sent as it is."""
    pause_s: float = 0.15
    """Before it. Settlement at the gateway follows the answer by some ms."""
    at_fraction: float | None = None
    """Sent so far into a second of the clock, after the pause."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def sequence() -> list[Ask]:
    """The requests, in order."""
    return [Ask(**entry) for entry in json.loads((_HERE / "sequence.json").read_text(encoding="utf-8"))]


def send(base_url: str, ask: Ask, run: str) -> Answer:
    """One request on a connection of its own. `run` makes the keys of this run."""
    address = urlsplit(base_url)
    headers = {"content-type": "application/json"}
    if ask.key is not None:
        key = f"sk-{ask.key}-{run}" if ask.key else ""
        headers["authorization"] = f"{ask.scheme} {key}".strip()
    body = ask.raw if ask.raw is not None else None if ask.body is None else json.dumps(ask.body)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=30)
    try:
        connection.request(ask.method, ask.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        return Answer(response.status, [(name.lower(), value) for name, value in response.getheaders()], data)
    finally:
        connection.close()


def wait(ask: Ask, settle: bool) -> None:
    """Pause as asked; without `settle` only for a window's edge."""
    if settle or ask.pause_s >= 1:
        time.sleep(ask.pause_s)
    if ask.at_fraction is not None:
        time.sleep((ask.at_fraction - time.time()) % 1.0)


def _reset(text: str, answer: Answer) -> str:
    """A time in a text: how far ahead it is of the response's date, in windows; else as it is."""
    date = dict(answer.headers).get("date")

    def ahead(match: re.Match[str]) -> str:
        if date is None:
            return match.group()
        then = datetime.strptime(match.group(), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        seconds = (then - parsedate_to_datetime(date)).total_seconds()
        # A second may have turned between the two, either way.
        return "<a window from now>" if abs(seconds - WINDOW_S) <= 1 else match.group()

    return _RESET.sub(ahead, text)


def _normal_text(text: str, answer: Answer) -> str:
    """Without what names a time or a key, and without the provider's own words that the gateway repeats."""
    return _WORDING.sub("<text>", _DIGEST.sub("<id>", _reset(text, answer)))


def _normal_headers(answer: Answer) -> list[str]:
    """As lines in the order of their names; one that came twice is there twice."""
    return sorted(
        f"{name}: {_VALUES.get(name) or _normal_text(value, answer)}"
        for name, value in answer.headers
        if name not in DROPPED and not name.startswith(_PROVIDERS)
    )


def _normal_value(value: Any, answer: Answer, name: str = "") -> Any:
    if isinstance(value, dict):
        kind = value.get("object")
        normal = {key: _normal_value(inner, answer, key) for key, inner in value.items()}
        if kind in ("chat.completion", "chat.completion.chunk"):
            if re.fullmatch(r"chatcmpl-[0-9a-f-]{32,36}", str(value.get("id"))):
                normal["id"] = "<id>"
            if isinstance(value.get("created"), int) and abs(value["created"] - time.time()) < 60:
                normal["created"] = "<time>"
        if kind == "model" and isinstance(value.get("created"), int):
            normal["created"] = "<time>"
        return normal
    if isinstance(value, list):
        return [_normal_value(inner, answer) for inner in value]
    if isinstance(value, str):
        if name == "id" and re.fullmatch(r"call_[0-9a-zA-Z]{24}", value):
            return "<id>"
        return "<text>" if name in _TEXTS and value else _normal_text(value, answer)
    return value


def _normal_events(answer: Answer) -> list[Any]:
    """The events in order; of several alike one is kept, since their number is the text's."""
    kept: list[Any] = []
    for event in answer.body.decode().split("\n\n"):
        if not event:
            continue
        data = event.removeprefix("data: ")
        normal = _normal_value(json.loads(data), answer) if data.startswith("{") else event
        if not kept or kept[-1] != normal:
            kept.append(normal)
    return kept


def normal(answer: Answer) -> dict[str, Any]:
    """What two answers are compared by, as JSON has it."""
    headers = _normal_headers(answer)
    kind = dict(answer.headers).get("content-type", "")
    body: Any
    if kind.startswith("text/event-stream"):
        body = {"events": _normal_events(answer)}
    elif kind.startswith("application/json"):
        body = {"json": _normal_value(json.loads(answer.body), answer)}
    else:
        body = {"text": answer.body.decode("latin-1")}
    return {"status": answer.status, "headers": headers, "body": body}


def differences(expected: Any, got: Any, where: str = "") -> list[str]:
    """Every place where two of JSON's values differ, with both. Of headers: the lines that only one of them has."""
    if isinstance(expected, dict) and isinstance(got, dict):
        return [
            line
            for name in sorted({*expected, *got})
            for line in differences(expected.get(name, _NONE), got.get(name, _NONE), f"{where}.{name}")
        ]
    if isinstance(expected, list) and isinstance(got, list):
        if where.endswith(".headers"):
            expected, got = (
                {name: [line for line in lines if _name(line) == name] for name in {_name(one) for one in lines}}
                for lines in (expected, got)
            )
            return differences(expected, got, where)
        pairs = enumerate(zip_longest(expected, got, fillvalue=_NONE))
        return [line for index, (one, other) in pairs for line in differences(one, other, f"{where}[{index}]")]
    same = expected == got and type(expected) is type(got)
    return [] if same else [f"{where}: recorded {json.dumps(expected)}, now {json.dumps(got)}"]


def _name(header: str) -> str:
    return header.split(":")[0]


def found(recorded: list[dict[str, Any]], got: list[dict[str, Any]]) -> list[str]:
    """The differences of two lists of answers, each with its request."""
    nothing: dict[str, Any] = {}
    pairs = enumerate(zip_longest(recorded, got, fillvalue=nothing), 1)
    return [
        f"request {number} ({one.get('what') or other['what']}){line}"
        for number, (one, other) in pairs
        for line in differences(one, other)
    ]


def sent(number: int, ask: Ask) -> dict[str, Any]:
    """What the recording says of a request."""
    body = ask.raw if ask.raw is not None else ask.body
    request = {"method": ask.method, "path": ask.path, "scheme": ask.scheme, "key": ask.key, "body": body}
    waited = {"pause_s": ask.pause_s, "at_fraction": ask.at_fraction}
    return {"request": number, "what": ask.what, "sent": request, "waited": waited}


def answers(address: Callable[[Ask], str], asks: list[Ask], *, run: str, settle: bool) -> Iterator[dict[str, Any]]:
    """Send them all, each to its address; gives what was sent and what came. `settle`: the server needs the pauses."""
    for number, ask in enumerate(asks, 1):
        wait(ask, settle)
        yield {**sent(number, ask), **normal(send(address(ask), ask, run))}


def main() -> int:
    """The command of this file's first lines."""
    from tensorix_api.errors import TensorixError
    from tensorix_simulator import Simulator

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True, help="of the gateway")
    parser.add_argument("--out", type=Path, help="write a recording")
    parser.add_argument("--against", type=Path, help="print where the gateway's answers are not those of a recording")
    given = parser.parse_args()
    if given.out is None and given.against is None:
        parser.error("say where to write with --out, or what to compare with --against")
    base_url: str = given.base_url.rstrip("/").removesuffix("/v1")
    settings: dict[str, Any] = json.loads((_HERE / "upstream.json").read_text(encoding="utf-8"))
    try:
        with Simulator(port=UPSTREAM_PORT, **settings):
            run = secrets.token_hex(4)
            recorded = list(answers(lambda _: base_url, sequence(), run=run, settle=True))
    except (OSError, http.client.HTTPException, TensorixError) as error:
        sys.stderr.write(f"no recording: {error}\n")
        return 2
    if given.out is not None:
        given.out.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if given.against is None:
        return 0
    lines = found(json.loads(given.against.read_text(encoding="utf-8")), recorded)
    sys.stdout.write(("\n".join(lines) or f"{len(recorded)} answers are those of {given.against}") + "\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
