"""`tensorix simulate`: its help is enough to use it, its settings come from where they are given, its lines work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from tensorix_cli._simulate_help import EXAMPLES
from tensorix_simulator.faults import fault_text
from tensorix_simulator.presets import PRESETS
from tensorix_simulator.setting_checks import CHECKS
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.settings_file import allowed

Command = Callable[..., subprocess.CompletedProcess[str]]
Served = Callable[..., tuple[subprocess.Popen[str], list[str]]]


@pytest.fixture
def served(tmp_path: Path, environment: dict[str, str]) -> Iterator[Served]:
    """Starts `tensorix simulate`, on a port that is free; gives the process and what it says when it listens."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tensorix_cli", "simulate", "--port", "0", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("  tensorix load"):
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1], process.communicate()
        return process, lines

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def help_text() -> str:
    """`tensorix simulate --help` on a wide terminal, without the frames of its panels."""
    ran = subprocess.run(
        [sys.executable, "-m", "tensorix_cli", "simulate", "--help"],
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=True,
    )
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", ran.stdout).split())


def settings_printed(ran: subprocess.CompletedProcess[str]) -> SimulatorSettings:
    assert (ran.returncode, ran.stderr) == (0, "")
    return SimulatorSettings.from_dict(json.loads(ran.stdout))


def test_the_help_has_every_choice(help_text: str) -> None:
    """Presets, the kinds of everything that has kinds, every form of fault and clause, and where the rest is."""
    for name in PRESETS:
        assert name in help_text
    for name in ("limiter", "over_limit", "charging", "retry_after", "headers", "header_lie", "style", "latency"):
        for choice in CHECKS[name][1].removeprefix("one of ").split(", "):
            assert re.search(rf"--{name.replace('_', '-')} .*\b{choice}\b", help_text), (name, choice)
    for form, meaning in {**fault_text.FORMS, **fault_text.CLAUSES}.items():
        assert f"{form} {meaning}" in help_text
    for words in ("valid, expired, wrong_name or unknown_chain", "--set", "sk-no-credit", "2 requests/1s", "127.0.0.1"):
        assert words in help_text
    for panel in (
        "Server",
        "Limits of a key",
        "Headers and bodies",
        "Replies",
        "Faults",
        "Keys",
        "Connections and TLS",
    ):
        assert panel in help_text


def test_the_examples_of_the_help_work_as_printed(help_text: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Each is in the help, and run in order in one folder, each serves or prints; none is a mistake."""
    for _, command in EXAMPLES:
        assert command in help_text
        line = command.replace("tensorix", f"exec {shlex.quote(sys.executable)} -m tensorix_cli", 1)
        prints = "--print" in command
        # Of what would serve for ever the settings are enough here: others below serve.
        line += "" if prints else " --print-settings"
        ran = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=20
        )
        assert (ran.returncode, ran.stderr) == (0, ""), command
        if not prints:
            settings = settings_printed(ran)
            assert settings != SimulatorSettings()
    assert settings.idle_s == 5
    assert tomllib.loads((tmp_path / "settings.toml").read_text())["rpm"] == 60


def test_every_setting_can_be_given(tensorix: Command, tmp_path: Path) -> None:
    """By its option where it has one, by --set, and in a file of either form; what is given later goes first."""
    (tmp_path / "s.toml").write_text('rpm = 1\ntpm = 1\nburst = 1\nslots = 1\npresets = ["litellm"]\n')
    ran = tensorix(
        *("simulate", "--settings", "s.toml", "--preset", "fast-chat", "--rpm", "none", "--tpm", "2", "--slots", "2"),
        *("--limit", "2 requests/1s", "--limit", "8 in flight", "--fault", "status 503, rate 5%", "--model", "a/b"),
        *(
            "--header-lie",
            "null",
            "--window",
            "1m30s",
            "--idle",
            "5s",
            "--set",
            "slots=3",
            "--set",
            "tool_call_rate=0.5",
        ),
        *("--valid-key", "sk-secret", "--credit-tokens", "9", "--print-settings"),
    )
    settings = settings_printed(ran)
    assert (settings.rpm, settings.tpm, settings.burst, settings.slots) == (None, 2, 1, 3)
    assert (settings.style, settings.latency, settings.header_lie) == ("litellm", "batch", None)
    assert settings.more_limits == ("2 requests/1s", "8 in flight")
    assert (settings.faults, settings.models) == (("status 503, rate 5%",), ("a/b",))
    assert (settings.window_s, settings.idle_s, settings.tool_call_rate) == (90.0, 5.0, 0.5)
    assert settings.credit_tokens == 9
    assert "sk-secret" not in ran.stdout
    for known in fields(SimulatorSettings):
        assert allowed(known.name)


def test_settings_are_printed_and_read_again(tensorix: Command, tmp_path: Path) -> None:
    """JSON and TOML, each as a file that gives the same settings; nothing else is on standard output."""
    given = ("--preset", "reasoning", "--rpm", "none", "--fault", "cut after 3 chunks")
    printed = tensorix("simulate", *given, "--print-settings")
    toml = tensorix("simulate", *given, "--print-settings-toml")
    for name, text in (("s.json", printed.stdout), ("s.toml", toml.stdout)):
        (tmp_path / name).write_text(text)
        assert tensorix("simulate", "--settings", name, "--print-settings").stdout == printed.stdout
    assert "# one of fixed_window, " in toml.stdout


@pytest.mark.parametrize(
    ("file", "arguments", "said"),
    [
        (
            '{\n "rpm": -1}',
            [],
            "s.file, line 2: setting 'rpm' must be a whole number from 0 to 10**12, or null for no limit",
        ),
        ('{\n "rqm": 1}', [], "s.file, line 2: unknown setting 'rqm': one of prefix, models, rpm"),
        ("tpm = 5\nlimiter = 'odd'", [], "s.file, line 2: setting 'limiter' must be one of fixed_window, "),
        ('faults = ["stauts 5"]', [], "s.file, line 1: setting 'faults': 'stauts 5' is no fault: write one of status"),
        ("rpm = \ntpm = 5", [], "s.file, line 1, column 7: no valid TOML"),
        ("{", [], "s.file, line 1, column 2: no valid JSON"),
        ("", ["--limiter", "odd"], "setting 'limiter' must be one of fixed_window, "),
        ("", ["--preset", "huge"], "unknown preset 'huge': one of fast-chat, "),
        ("", ["--rpm", "many"], "'--rpm': 'many' is no whole number, and not none"),
        ("", ["--limit", "odd"], "setting 'more_limits': 'odd' is no limit"),
        ("", ["--set", "rpm"], "'rpm' sets nothing: write NAME=VALUE"),
        ("", ["--set", "rqm=1"], "unknown setting 'rqm': one of "),
        ("", ["--tls", "odd"], "tls must be one of valid, expired, wrong_name, unknown_chain, not 'odd'"),
        ("", ["--ca-file", "ca.pem"], "--ca-file goes with --tls"),
        ("", ["--idle", "soon"], "'--idle': 'soon' is no length of time above 0"),
        ("", ["--slots", "0"], "setting 'slots' must be a whole number from 1 to 1000000, or null for no bound, not 0"),
        ("", ["--seed", str(2**64)], "setting 'seed' must be a whole number from 0 to 2**63"),
        ('presets = [\n"huge"]', [], "s.file, line 1: unknown preset 'huge': one of fast-chat"),
        ('{"rpm": 1,\n"presets": "openai"}', [], "s.file, line 2: 'presets' must be a list of names"),
        ("rpm = 5\n[limits]\ntpm = 3", [], "s.file, line 2: unknown section 'limits': settings stand before any"),
        (" \n", [], "s.file is empty: for no settings write {}"),
    ],
)
def test_a_mistake_is_named(tensorix_here: Command, tmp_path: Path, file: str, arguments: list[str], said: str) -> None:
    """One line and exit status 2: the file and its line where it is in one, the setting, and what it may be."""
    if file:
        (tmp_path / "s.file").write_text(file)
        arguments = ["--settings", "s.file"]
    ran = tensorix_here("simulate", "--port", "0", *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("tensorix: error: ")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


def in_a_shell(line: str, tmp_path: Path, environment: dict[str, str]) -> str:
    """What a line says, run as somebody would who has copied it."""
    ran = subprocess.run(
        ["/bin/bash", "-ec", line],
        cwd=tmp_path,
        env={name: value for name, value in environment.items() if name != "TENSORIX_API_KEY"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("tls", [[], ["--tls", "valid"]])
def test_the_load_test_that_it_says_to_try_works(
    served: Served, environment: dict[str, str], tmp_path: Path, tls: list[str]
) -> None:
    """With the variables that it says to export; then its settings are where it says, and Ctrl-C ends it in order."""
    process, lines = served("--ttft", "1ms", "--between-tokens", "1ms", *tls)
    assert lines[0].startswith(f"Simulating a chat API at {'https' if tls else 'http'}://127.0.0.1:")
    export, _, load = (line.strip() for line in lines[-3:])
    command = load.replace("tensorix", f"{shlex.quote(sys.executable)} -m tensorix_cli", 1)
    assert "50 requests" in in_a_shell(f"{export}; {command} --no-report --out run", tmp_path, environment)
    control = next(word for word in lines[1].split() if word.endswith("/settings"))
    assert httpx.get(control, trust_env=False).json()["rpm"] == 60
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("tls", [[], ["--tls", "valid"]])
def test_the_request_that_it_says_to_try_works(
    served: Served, environment: dict[str, str], tmp_path: Path, tls: list[str]
) -> None:
    """By curl, as it is printed; where there is no curl, by what it would send."""
    _, lines = served("--ttft", "1ms", "--between-tokens", "1ms", *tls)
    line = lines[-2].strip()
    if shutil.which("curl"):
        answer = in_a_shell(f"{line} --silent --show-error --noproxy '*'", tmp_path, environment)
    else:
        words = shlex.split(line)
        given = {word: words[k + 1] for k, word in enumerate(words) if word.startswith("-")}
        (url,) = (word for word in words if word.startswith("http"))
        verify = ssl.create_default_context(cafile=given.get("--cacert"))
        headers = dict([given["-H"].split(": ", 1)])
        answer = httpx.post(url, content=given["-d"], headers=headers, verify=verify, trust_env=False).text
    assert json.loads(answer)["object"] == "chat.completion"


def test_it_says_loudly_that_others_can_reach_it(served: Served) -> None:
    """Off loopback a warning comes on standard error; on loopback nothing does. The control port stays at home."""
    for arguments, clear in (([], True), (["--tls", "valid"], False)):
        process, lines = served("--host", "0.0.0.0", *arguments)
        assert "http://127.0.0.1:" in lines[1]
        process.terminate()
        _, err = process.communicate(timeout=10)
        assert err.startswith("tensorix: WARNING: listening on 0.0.0.0 port ")
        assert "everybody who reaches this machine can use it" in err
        assert ("travel in clear" in err) is clear
        assert err.count("\n") == 1
    process, _ = served()
    process.terminate()
    assert process.communicate(timeout=10)[1] == ""


def test_it_listens_on_loopback_only(served: Served) -> None:
    """Without --host both ports are bound to 127.0.0.1, as the kernel's own list says."""
    _, lines = served()
    ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", " ".join(lines[:2]))}
    assert len(ports) == 2
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows += [line.split()[1:4] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    listening = {row[0] for row in rows if row[2] == "0A" and int(row[0].split(":")[1], 16) in ports}
    assert listening == {f"0100007F:{port:04X}" for port in ports}


@pytest.mark.parametrize(
    ("closed", "status", "said"),
    [
        ("simulate --port 0 >&-", 1, "tensorix: error: the output cannot be written: it is closed\n"),
        ("simulate --port 0 --truth /dev/full", 1, "tensorix: error: the truth cannot be written to /dev/full: "),
        ("simulate --settings - <&-", 2, "tensorix: error: the settings cannot be read from standard input: it is "),
        ("simulate --port 0 >&- 2>&-", 1, ""),
        ("simulate --set odd=1 2>&-", 2, ""),
        ("--help >&-", 1, "tensorix: error: the output cannot be written: it is closed\n"),
    ],
)
def test_what_is_closed_or_full_is_said(
    environment: dict[str, str], tmp_path: Path, closed: str, status: int, said: str
) -> None:
    """A standard stream that is closed and a disk that is full are no defects: one line, where it can be written."""
    ran = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -m tensorix_cli {closed}', sys.executable],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith(said)
    assert ran.stderr.count("\n") == (1 if said else 0)


@pytest.mark.parametrize("said", ["none", "null"])
def test_every_option_that_may_be_null_takes_none(tensorix: Command, tmp_path: Path, said: str) -> None:
    """Over a file in which it is something, and after `--set` too; what has a `none` of its own keeps it."""
    something = {
        "rpm": 1, "tpm": 1, "burst": 1, "header_lie": "late", "valid_keys": ["sk-a"], "credit_tokens": 1, "slots": 1,
        "queue": 1, "reply_tokens": "5", "idle_s": 5, "burst_tokens": 1,
    }  # fmt: skip
    nullable = [name for name in CHECKS if CHECKS[name][0](None)]
    assert set(something) == {*nullable, "reply_tokens"}
    flags = {"valid_keys": "valid-key", "idle_s": "idle"}
    options = [
        word
        for name in something
        for word in (
            ("--set", f"{name}={said}")
            if name == "burst_tokens"
            else (f"--{flags.get(name, name.replace('_', '-'))}", said)
        )
    ]
    (tmp_path / "s.json").write_text(json.dumps(something))
    ran = tensorix("simulate", "--settings", "s.json", *options, "--retry-after", "none", "--print-settings")
    settings = settings_printed(ran)
    assert [getattr(settings, name) for name in something] == [None] * len(something)
    assert settings.retry_after == "none"


def test_an_empty_toml_file_is_no_settings(tensorix: Command, tmp_path: Path) -> None:
    """As TOML has it: everything keeps its default."""
    (tmp_path / "s.toml").write_text("")
    assert settings_printed(tensorix("simulate", "--settings", "s.toml", "--print-settings")) == SimulatorSettings()
