"""`tensorix probe once` and `check-config`, as people run them: processes of their own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from junitparser import JUnitXml

from tensorix_simulator import Simulator

Command = Callable[..., subprocess.CompletedProcess[str]]

QUICK: dict[str, Any] = {"ttft": "5ms", "between_tokens": "1ms"}


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A healthy simulator, for all tests of the module."""
    with Simulator(**QUICK) as running:
        yield running


@pytest.fixture
def key() -> str:
    """A key that nobody used yet."""
    return f"sk-{uuid4().hex}"


@pytest.fixture
def once(tensorix: Command, key: str) -> Command:
    """Runs `tensorix probe once` with a new key."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return tensorix("probe", "once", *arguments, **{"TENSORIX_API_KEY": key, **variables})

    return run


def write(folder: Path, text: str) -> str:
    """A configuration file."""
    (folder / "probes.toml").write_text(text, encoding="utf-8")
    return "probes.toml"


# Exit statuses.


def test_a_healthy_server_is_up(once: Command, server: Simulator) -> None:
    """Address and key are enough; the table has every check, what was spent and what is left of the budget."""
    ran = once("--share", "20%", TENSORIX_BASE_URL=server.base_url)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(r"127\.0\.0\.1-\d+ is up after ", ran.stdout)
    rows = re.findall(r"(?m)^  (\w+) +up +[0-9.]+ m?s", ran.stdout)
    assert rows == ["tls", "models", "chat", "stream", "auth", "errors", "ratelimit"]
    assert re.search(r"stream +up .*first token [0-9.]+ m?s", ran.stdout)
    assert re.search(r"spent \d requests, \d\d tokens", ran.stdout)
    assert re.search(r"left for probes of this key: \d of 12 requests this minute", ran.stdout)


def test_a_server_that_fails_is_down(once: Command) -> None:
    """500 on chat completions: 1, with the assertion and what was seen; what it explains is not run."""
    with Simulator(**QUICK, faults=["status 500, on chat"]) as broken:
        ran = once("--base-url", broken.base_url)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert re.match(r"127\.0\.0\.1-\d+ is down", ran.stdout)
    assert re.search(r"chat +down", ran.stdout)
    assert "500" in ran.stdout
    assert re.search(r"stream +inconclusive .*explained by chat", ran.stdout)


def test_a_server_that_is_not_there_is_down(once: Command) -> None:
    """Nobody listens: 1, said in words."""
    ran = once("--base-url", "http://127.0.0.1:1/v1")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "refused" in ran.stdout


def test_a_wrong_answer_is_degraded(once: Command, server: Simulator) -> None:
    """Another answer than expected: 1, and it says what was expected and what came; accepted, it is up."""
    ran = once("--base-url", server.base_url, "--expect", "43", "--check", "chat")
    assert ran.returncode == 1
    assert re.match(r"127\.0\.0\.1-\d+ is degraded", ran.stdout)
    assert re.search(r"expected what /43/ finds,\s+got\s+42", ran.stdout)
    (assertion,) = re.findall(r"failed (\w+): expected what", ran.stdout)
    accept = f"chat.{assertion}"
    accepted = once("--base-url", server.base_url, "--expect", "43", "--check", "chat", "--accept", accept)
    assert accepted.returncode == 0


def test_a_wrong_key_is_down_and_shown_nowhere(once: Command, tmp_path: Path) -> None:
    """401: 1, with the reason; whatever was asked for, the key is in nothing that was printed or written."""
    key = f"sk-{uuid4().hex}"
    files = ["--junit", "out.xml", "--textfile", "out.prom"]
    with Simulator(**QUICK, invalid_keys=[key], style="litellm") as server:
        outputs = [
            once("--base-url", server.base_url, *files, *form, TENSORIX_API_KEY=key)
            for form in ([], ["--json"], ["--nagios"])
        ]
    assert [ran.returncode for ran in outputs] == [1, 1, 2]
    assert "401" in outputs[0].stdout
    written = [(tmp_path / name).read_text() for name in ("out.xml", "out.prom")]
    for text in [*written, *(ran.stdout + ran.stderr for ran in outputs)]:
        assert key not in text
        assert key[3:] not in text


def test_no_credit_is_payment(once: Command, server: Simulator) -> None:
    """402 is a bill: 4."""
    ran = once("--base-url", server.base_url, TENSORIX_API_KEY="sk-no-credit")
    assert ran.returncode == 4
    assert re.match(r"127\.0\.0\.1-\d+ is out of credit \(payment\)", ran.stdout)


def test_a_key_at_its_limit_is_inconclusive(once: Command) -> None:
    """429 says nothing of the server: 3."""
    with Simulator(**QUICK, rpm=1) as server:
        ran = once("--base-url", server.base_url)
    assert ran.returncode == 3
    assert re.match(r"127\.0\.0\.1-\d+ is inconclusive", ran.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_probe_ends_at_once(environment: dict[str, str], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM wait for no server that stalls: one line, and 130."""
    with Simulator(**QUICK, faults=["stall 100s before headers, on chat"]) as server:
        command = [sys.executable, "-m", "tensorix_cli", "probe", "once", "--base-url", server.base_url]
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            while not any(line["path"].endswith("chat/completions") for line in server.truth("arrival")):
                assert running.poll() is None
                time.sleep(0.02)
            running.send_signal(number)
            assert running.communicate(timeout=10) == (b"", b"tensorix: interrupted\n")
            assert running.returncode == 130


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--base-url", "https://api.test/v1"], "no API key for api.test: set TENSORIX_API_KEY"),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--check", "chatt"],
            "there is no check 'chatt': did you mean 'chat'?",
        ),
        (["--base-url", "http://127.0.0.1:1/v1", "--expect", "("], "--expect: '(' is no regular expression"),
        (["--config", "a.toml", "--model", "m"], "--config says already what --model would"),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--junit", "no/where.xml"],
            "--junit: 'no/where.xml' cannot be written",
        ),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--pushgateway", "ftp://x"],
            "--pushgateway: it is no http(s) address",
        ),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--ca-bundle", "no.pem"],
            "the file of certificates 'no.pem' is not there",
        ),
        (["--base-url", "http://127.0.0.1:1/v1", "--pushgateway", "foo"], "--pushgateway: it is no http(s) address"),
        (["--base-url", "http://127.0.0.1:1/v1", "--accept", "foo"], "--accept: 'foo' is no assertion: write it like"),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--accept", "chat.foo"],
            "--accept: chat asserts nothing of that name",
        ),
        (
            ["--base-url", "http://127.0.0.1:1/v1", "--accept", "chatt.foo"],
            "is of no check that there is: did you mean",
        ),
        (["--base-url", "http://127.0.0.1:1/v1", "--textfile", "/dev/full"], "'/dev/full' is no ordinary file"),
        (["--base-url", "http://127.0.0.1:1/v1", "--share", "0"], "--share: 0.0 is out of range"),
        (["--config", "none.toml"], "none.toml: it cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_2(tensorix_here: Command, arguments: list[str], said: str) -> None:
    """What was asked wrongly is said in one line, with nothing sent."""
    ran = tensorix_here("probe", "once", *arguments, TENSORIX_API_KEY="")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["--json"], "--json, --nagios and --quiet each say what is printed"),
        (["--config", "none.toml"], "none.toml: it cannot be read: No such file or directory"),
        (
            ["--config", "two.toml"],
            "two.toml, line 1: locaton: there is no such setting: did you mean 'location'?; two",
        ),
        (["--accept", "foo"], "--accept: 'foo' is no assertion"),
    ],
)
def test_a_mistake_is_unknown_to_nagios(
    tensorix_here: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    """Whatever is wrong with a command for Nagios, it is UNKNOWN, with the reason in the one line it reads."""
    (tmp_path / "two.toml").write_text("locaton = 1\nbogus = 2\n")
    ran = tensorix_here("probe", "once", "--nagios", *arguments, TENSORIX_BASE_URL="http://127.0.0.1:1/v1")
    assert (ran.returncode, ran.stderr, ran.stdout.count("\n")) == (3, "", 1)
    assert ran.stdout.startswith(f"TENSORIX UNKNOWN - {said}")


def test_what_will_not_go_as_it_seems_is_warned_of(once: Command) -> None:
    """A text file that node exporter leaves alone, and ratelimit without anything to read, are told of."""
    ran = once("--check", "ratelimit", "--textfile", "x.txt", "--base-url", "http://127.0.0.1:1/v1", "--share", "0.3")
    assert ran.returncode == 3
    assert re.findall("warning: (.{20})", ran.stderr) == ["node exporter reads ", "ratelimit asks nothi"]
    assert "of 18 requests this minute" in ran.stdout


@pytest.mark.parametrize(
    "columns", ["30", "71", *(pytest.param(width, marks=pytest.mark.slow) for width in ("50", "80"))]
)
def test_a_narrow_terminal_loses_nothing(once: Command, columns: str) -> None:
    """All words of every check are there, whatever the width."""
    with Simulator(**QUICK, faults=["status 500, on chat"]) as broken:
        ran = once("--base-url", broken.base_url, COLUMNS=columns)
    assert all(len(line.rstrip()) <= int(columns) for line in ran.stdout.splitlines())
    joined = "".join(ran.stdout.split())
    for words in ("failedstatus_is_200:expected200,got500", "explainedbychat", "ratelimit", "leftforprobesofthiskey:"):
        assert words in joined
    assert "…" not in ran.stdout


def test_the_usual_mistakes_of_a_beginner_get_a_hint(once: Command, server: Simulator) -> None:
    """No key, an address that stops short of /v1, https where http is spoken: each is guessed at."""
    keyless = once("--base-url", server.base_url, "--check", "models", TENSORIX_API_KEY="")
    assert "no key was sent: set TENSORIX_API_KEY" in " ".join(keyless.stdout.split())
    short = once("--base-url", server.base_url + "/v9", "--check", "models")
    assert "is the base URL right, up to /v1?" in " ".join(short.stdout.split())
    secure = once("--base-url", server.base_url.replace("http:", "https:"), "--check", "tls")
    assert "does it speak http?" in " ".join(secure.stdout.split())


def test_tls_where_http_was_expected_gets_a_hint(once: Command) -> None:
    """A server that answers plain HTTP with an alert of TLS is told of as such."""

    def alert(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        answering = threading.Thread(target=alert, args=[listening])
        answering.start()
        ran = once("--base-url", f"http://127.0.0.1:{listening.getsockname()[1]}/v1", "--check", "models")
        answering.join()
    assert "the answer is not HTTP, but TLS: is it https?" in " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    ("address", "name"),
    [("http://127.0.0.1:1/v1", "127.0.0.1-1"), ("http://[::1]:1/v1", "ip6-localhost-1"), ("http://localhost/v1", "")],
)
def test_a_target_by_hand_has_a_readable_name(once: Command, address: str, name: str) -> None:
    """Host and port, the port only where it is not that of the scheme."""
    ran = once("--base-url", address, "--check", "tls", "--nagios")
    assert ran.stdout.split(" - ")[1].split()[0] == (name or "localhost")


def test_every_mistake_of_a_configuration_is_a_line(tensorix_here: Command, tmp_path: Path) -> None:
    """`once` and `check-config` name each with its place, status 2, and show no key; for Nagios it is UNKNOWN."""
    file = write(
        tmp_path, "[[target]]\nname = 'a'\napi_key = 'sk-0123456789abcdef'\n[target.timeouts]\nconnect = '5 apples'\n"
    )
    for command in (["check-config", file], ["once", "--config", file]):
        ran = tensorix_here("probe", *command)
        assert (ran.returncode, ran.stdout) == (2, "")
        first, second = ran.stderr.splitlines()
        assert first.startswith('tensorix: error: probes.toml, line 3: target 1 ("a"), api_key: a key does not belong')
        assert second.startswith("tensorix: error: probes.toml, line 5: target 1 (\"a\"), timeouts.connect: '5 apples'")
        assert "0123456789abcdef" not in ran.stderr


# Configurations.


def test_targets_of_a_configuration_are_told_apart(tensorix: Command, server: Simulator, tmp_path: Path) -> None:
    """Each has its table and its key; the status is that of the worst, and --target chooses among them."""
    file = write(
        tmp_path,
        f"""
        location = "here"
        [defaults]
        base_url = "{server.base_url}"
        [[target]]
        name = "good"
        key_env = "GOOD_KEY"
        [[target]]
        name = "unpaid"
        key_env = "UNPAID_KEY"
        [[target]]
        name = "gone"
        base_url = "http://127.0.0.1:1/v1"
        """,
    )
    keys = {"GOOD_KEY": f"sk-{uuid4().hex}", "UNPAID_KEY": "sk-no-credit"}
    ran = tensorix("probe", "once", "-c", file, "--json", **keys)
    assert ran.stderr == ""
    document = json.loads(ran.stdout)
    assert [(one["target"], one["state"]) for one in document["rounds"]] == [
        ("good", "up"),
        ("unpaid", "payment"),
        ("gone", "down"),
    ]
    assert (ran.returncode, document["exit_status"], document["state"]) == (1, 1, "down")
    some = tensorix("probe", "once", "-c", file, "--target", "unpaid", "--target", "gone", "--check", "tls", **keys)
    assert re.findall(r"(?m)^(\w+) is (\w+)", some.stdout) == [("unpaid", "up"), ("gone", "down")]
    ran = tensorix("probe", "once", "-c", file, "--target", "goof", **keys)
    assert (ran.returncode, ran.stderr) == (2, "tensorix: error: there is no target 'goof': did you mean 'good'?\n")


def test_files_are_written_for_a_server_that_is_down(once: Command, tmp_path: Path) -> None:
    """JUnit and the text file say so; a gateway that cannot be reached is complained of, and changes no status."""
    ran = once(
        *("--base-url", "http://127.0.0.1:1/v1", "--quiet", "--junit", "out.xml", "--textfile", "out.prom"),
        *("--pushgateway", "http://127.0.0.1:1"),
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "tensorix: nothing was pushed: Connection refused\n"
    (suite,) = JUnitXml.fromfile(str(tmp_path / "out.xml"))
    assert (suite.name, suite.failures) == ("127.0.0.1-1", 1)
    assert re.search(r"(?m)^probe_success\{.*\} 0\.0$", (tmp_path / "out.prom").read_text())


def test_nagios_gets_its_line(once: Command, server: Simulator) -> None:
    """One line with figures, and Nagios's codes."""
    ran = once("--base-url", server.base_url, "--nagios")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.fullmatch(r"TENSORIX OK - 127\.0\.0\.1-\d+ up \| .*'ttft'=[0-9.]+s;10;30;0.*\n", ran.stdout)


def test_a_history_is_gone_on_with(tensorix: Command, server: Simulator, key: str, tmp_path: Path) -> None:
    """A second run knows when the hourly checks ran and what was spent; a history that fails stops no probe."""
    text = f'[history]\nurl = "h.sqlite"\n[[target]]\nname = "a"\nbase_url = "{server.base_url}"\nkey_env = "A_KEY"\n'
    file = write(tmp_path, text + "[target.budget]\nshare = '10%'\n")
    runs = [tensorix("probe", "once", "-c", file, "--json", A_KEY=key) for _ in range(4)]
    checks = [[one["check"] for one in json.loads(ran.stdout)["rounds"][0]["results"]] for ran in runs]
    assert set(checks[0]) - set(checks[1]) == {"auth", "errors"}
    # Each takes two requests at least, and six are allowed: the fourth has none left.
    assert [runs[0].returncode, runs[3].returncode] == [0, 3]
    assert "budget" in json.loads(runs[3].stdout)["rounds"][0]["reason"]
    (tmp_path / "h.sqlite").write_bytes(b"this is no database" * 100)
    last = tensorix("probe", "once", "-c", file, A_KEY=key)
    assert last.returncode == 0
    assert all("h.sqlite" in line for line in last.stderr.splitlines())
    assert 1 <= last.stderr.count("\n") <= 2


# What a configuration would do.


def test_check_config_says_what_would_be_done(tensorix: Command, tmp_path: Path) -> None:
    """Targets, checks, requests, tokens, money a day and the budget, in words; what it cannot pay is warned of."""
    file = write(
        tmp_path,
        """
        [[target]]
        name = "prod"
        key_env = "TENSORIX_API_KEY"
        interval = "10s"
        prices = { prompt_per_million = 1.0, completion_per_million = 1.0 }
        """,
    )
    ran = tensorix("probe", "check-config", file)
    assert ran.returncode == 0
    assert (
        "target prod: https://api.tensorix.ai/v1, the first model that is listed, key in $TENSORIX_API_KEY"
        in ran.stdout
    )
    assert "tls, models, chat, stream, ratelimit every 10s; auth, errors every 1h" in ran.stdout
    # Three checks in each of 8,640 slots that may take a request, and two in every hour.
    assert "about 25,968 requests and 483,840 tokens, 0.48 USD a day" in ran.stdout
    assert "3 requests (5 % of 60, the documented limit)" in ran.stdout
    assert "prod would take 18.0 requests in 1m, and the budget of the key allows 3" in ran.stderr
    assert "prod would take about 483,840 tokens a day, and budget.tokens_a_day is 250,000" in ran.stderr
    assert "sk-test-of-the-command" not in ran.stdout + ran.stderr


def test_the_example_is_a_configuration_that_can_be_used(tensorix: Command, tmp_path: Path) -> None:
    """What --example prints is read without a mistake or a warning, from standard input, too."""
    example = tensorix("probe", "check-config", "--example")
    assert (example.returncode, example.stderr) == (0, "")
    assert tomllib.loads(example.stdout)["target"]
    ran = tensorix("probe", "check-config", write(tmp_path, example.stdout))
    assert (ran.returncode, ran.stderr) == (0, "")
    neither = tensorix("probe", "check-config")
    assert (neither.returncode, neither.stdout) == (2, "")
    assert "--example" in neither.stderr
