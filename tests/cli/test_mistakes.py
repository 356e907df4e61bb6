"""What people get wrong: each mistake is one clear line on standard error and exit status 2, never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tensorix_cli import main
from tensorix_records import Run
from tensorix_simulator import Simulator

Command = Callable[..., subprocess.CompletedProcess[str]]


def is_one_line_of_a_mistake(ran: subprocess.CompletedProcess[str], *words: str) -> None:
    """The form that every mistake is answered in, with these words in it."""
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.startswith("tensorix: error: ")
    assert ran.stderr.count("\n") == 1, ran.stderr
    for word in words:
        assert word in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["no-such-command"], "no-such-command"),
        (["load", "--no-such-option"], "--no-such-option"),
        (["load", "surplus"], "surplus"),
        (["load", "--users"], "--users"),
        (["load", "--users", "0"], "--users"),
        (["load", "--users", "many"], "--users"),
        (["load", "--spawn-rate", "0"], "spawn rate"),
        (["load", "--requests", "-1"], "--requests"),
        (["load", "--duration", "soon"], "--duration"),
        (["load", "--max-tokens", "0"], "--max-tokens"),
        (["load", "--temperature", "3"], "temperature"),
        (["load", "--mix", "cats=1"], "cats"),
        (["load", "--mix", "chat-streamed=1", "--no-stream"], "--no-stream"),
        (["load", "--header", "nonsense"], "--header"),
        (["load", "--header", "Authorization: Bearer sk-12345678"], "TENSORIX_API_KEY"),
        (["load", "--body", "nonsense"], "--body"),
        (["load", "--body", '{"model": "other"}'], "model"),
        (["load", "--body", '{"a": ' * 101 + "1" + "}" * 101], "nested"),
        (["load", "--body", "[" * 100_000], "nested"),
        (["load", "--prompt", ""], "prompt"),
        (["load", "--prompt-file", "none.txt"], "none.txt"),
        (["load", "--ca-bundle", "none.pem"], "none.pem"),
        (["load", "--base-url", "far.example"], "base URL"),
        (["load", "--base-url", "https://user:secret@far.example/v1"], "TENSORIX_API_KEY"),
        (["load", "--out", "/dev/null/run"], "/dev/null"),
        (["load", "--out", "r" * 300], "too long"),
        (["demo", "--out", "r" * 300], "too long"),
        (["report"], "RUN"),
        (["report", "r" * 300], "too long"),
        (["report", "no-run"], "no-run"),
        (["simulate", "--rpm", "-1"], "--rpm"),
        (["simulate", "--ttft", "quick"], "ttft"),
        (["simulate", "--port", "65536"], "--port"),
        (["simulate", "--settings", "none.json"], "none.json"),
    ],
)
def test_a_mistake_in_the_arguments(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    word: str,
) -> None:
    """What is written wrong is named, without what may be secret in it, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    if "--base-url" not in arguments and arguments[0] == "load":
        arguments = [*arguments, "--base-url", "http://127.0.0.1:1/v1"]
    status = main(arguments)
    said = capsys.readouterr()
    is_one_line_of_a_mistake(subprocess.CompletedProcess(arguments, status, said.out, said.err), word)
    assert "secret" not in said.err
    assert "sk-12345678" not in said.err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_the_command_itself(tensorix: Command) -> None:
    """The process ends with the status that `main` returns, and says its line."""
    is_one_line_of_a_mistake(tensorix("--no-such-option"), "--no-such-option")


def test_a_missing_key(tensorix: Command) -> None:
    """Off this machine a key is needed; the line says which variable holds it."""
    ran = tensorix("load", "--base-url", "https://far.example/v1", TENSORIX_API_KEY="")
    is_one_line_of_a_mistake(ran, "TENSORIX_API_KEY", "far.example")


def test_keys_of_other_names_are_keys(tensorix_here: Command) -> None:
    """Off this machine the variables of --key-env do as well: it comes to the question, and not to the missing key."""
    far = ("load", "--base-url", "https://far.example/v1", "--requests", "10", "--key-env", "ONE_KEY")
    is_one_line_of_a_mistake(tensorix_here(*far, TENSORIX_API_KEY="", ONE_KEY="sk-one-of-the-keys"), "--yes")


def test_nobody_to_ask(tensorix: Command) -> None:
    """Without a terminal and without --yes nothing is sent off this machine, but what it would use is said."""
    ran = tensorix("load", "--base-url", "https://far.example/v1", "--requests", "10")
    is_one_line_of_a_mistake(ran, "--yes")
    assert "at most 11 requests" in ran.stdout


def test_the_bound_of_a_duration_is_said(tensorix: Command) -> None:
    """A run of 10 minutes off this machine says after how many requests it ends before, and what changes that."""
    far = ("load", "--base-url", "https://far.example/v1", "--duration", "10m")
    bound = "ends after 1,320 requests or after 10 min, whichever comes first; --requests N sets another bound.\n"
    assert bound in tensorix(*far).stdout
    assert "or after 10 min, whichever comes first.\n" in tensorix(*far, "--requests", "2000").stdout


def test_an_unreachable_host(tensorix: Command, tmp_path: Path) -> None:
    """A port that nobody listens on is named, and no run folder is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = tensorix("load", "--base-url", f"http://127.0.0.1:{port}/v1", "--requests", "1", "--out", "run")
    is_one_line_of_a_mistake(ran, f"{port}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tls", "trusted", "kind", "said"),
    [
        ("valid", False, "tls_chain", "; for a certificate of your own give --ca-bundle\n"),
        ("unknown_chain", True, "tls_chain", "/ca.pem has signed it\n"),
        ("expired", True, "tls_expired", "the certificate of 127.0.0.1: certificate has expired\n"),
        ("wrong_name", True, "tls_name", "the certificate is for another server than 127.0.0.1\n"),
    ],
)
def test_a_certificate_that_cannot_be_trusted(
    tensorix: Command, tmp_path: Path, tls: str, trusted: bool, kind: str, said: str
) -> None:
    """The kind is named as the records name it, and an authority asked for only where one would help."""
    with Simulator(tls=tls) as simulator:
        (tmp_path / "ca.pem").write_bytes(Path(simulator.ca_path).read_bytes())
        given = ["--ca-bundle", "ca.pem"] if trusted else []
        ran = tensorix("load", "--base-url", simulator.base_url, "--requests", "1", "--out", "run", *given)
    is_one_line_of_a_mistake(ran, f"cannot be trusted ({kind}): ")
    assert ran.stderr.endswith(said)
    assert ("--ca-bundle" in ran.stderr) is (not trusted)


def test_a_host_that_has_no_address(tensorix: Command, tmp_path: Path) -> None:
    """A name that no resolver knows is a mistake too."""
    ran = tensorix("load", "--base-url", "http://nobody.invalid/v1", "--requests", "1", "--out", "run", "--yes")
    is_one_line_of_a_mistake(ran, "nobody.invalid")
    assert not (tmp_path / "run").exists()


def test_a_wrong_key(tensorix: Command, simulator: Simulator, tmp_path: Path) -> None:
    """A key that the server refuses is a mistake before anything is measured; the line does not hold the key."""
    ran = tensorix(
        "load", "--base-url", simulator.base_url, "--requests", "1", "--out", "run", TENSORIX_API_KEY="sk-invalid"
    )
    is_one_line_of_a_mistake(ran, "key")
    assert "sk-invalid" not in ran.stderr
    assert not (tmp_path / "run").exists()


class _Website(BaseHTTPRequestHandler):
    """A server that speaks HTTP and nothing of this API."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "13")
        self.end_headers()
        self.wfile.write(b"<h1>Hello</h1"[:13])

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def website() -> Iterator[str]:
    """The address of a website on loopback."""
    with HTTPServer(("127.0.0.1", 0), _Website) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_a_server_that_is_not_openai_compatible(tensorix: Command, website: str) -> None:
    """A website is told apart from a chat API before anything is measured."""
    is_one_line_of_a_mistake(tensorix("load", "--base-url", website, "--requests", "1"), "OpenAI")


def test_a_folder_that_is_already_a_run(tensorix: Command, tmp_path: Path) -> None:
    """A run is never written over."""
    Run.create(tmp_path / "run", {"run_id": "r"})
    ran = tensorix("load", "--base-url", "http://127.0.0.1:1/v1", "--requests", "1", "--out", "run")
    is_one_line_of_a_mistake(ran, "already a run")


def test_a_folder_that_cannot_be_written(tensorix: Command) -> None:
    """Where no folder can be made, that is said before anything is sent."""
    out = "/proc/run" if os.path.isdir("/proc") else "/run-of-a-test"  # noqa: PTH112
    ran = tensorix("load", "--base-url", "http://127.0.0.1:1/v1", "--requests", "1", "--out", out)
    is_one_line_of_a_mistake(ran, "cannot be written")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser enters every folder")
def test_a_folder_that_cannot_be_entered(tensorix: Command, tmp_path: Path) -> None:
    """Where the parent of the run's folder may not be looked into, that is a mistake like another."""
    (tmp_path / "closed").mkdir(mode=0)
    ran = tensorix("load", "--base-url", "http://127.0.0.1:1/v1", "--requests", "1", "--out", "closed/run")
    is_one_line_of_a_mistake(ran, "closed")


def test_a_port_in_use(tensorix: Command, simulator: Simulator) -> None:
    """The simulator says which port is taken."""
    is_one_line_of_a_mistake(tensorix("simulate", "--port", str(simulator.port)), str(simulator.port))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1, "rpm": ' + "[" * 900 + "]" * 900 + "}"])
def test_settings_that_are_nested_too_deep(tensorix: Command, tmp_path: Path, text: str) -> None:
    """A file that no reader of JSON gets to the bottom of is refused like any other that is wrong."""
    (tmp_path / "settings.json").write_text(text)
    ran = tensorix("simulate", "--settings", "settings.json", timeout=10)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


def test_settings_that_are_wrong_name_the_setting(tensorix: Command, tmp_path: Path) -> None:
    """A file of settings with an unknown one is refused by that name."""
    (tmp_path / "settings.json").write_text(json.dumps({"format": 1, "rmp": 5}))
    is_one_line_of_a_mistake(tensorix("simulate", "--settings", "settings.json"), "rmp")
