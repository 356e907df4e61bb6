"""The long-running probe as a process: it begins, is scraped, reads its configuration again, and ends in order."""

from __future__ import annotations

import platform
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tensorix_api import Secret
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.exchange.lookup import Lookup
from tensorix_probes.result import Round, State
from tensorix_probes.round import run_round
from tensorix_probes.serve.recalling import past_of
from tensorix_probes.serve.service import Service
from tensorix_probes.settings import Budget, Configuration, Headers, HistorySettings, Target, Timeouts
from tensorix_records.history import History
from tensorix_simulator import Simulator

KEY = "sk-of-nobody-0123456789"
MODEL = "deepseek/deepseek-chat-v3.1"


class Process:
    """`tensorix probe serve` with a configuration, and everything that it says."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str, file: bool = True) -> None:
        self.folder = folder
        self._log = (folder / "said").open("ab")
        given = [str(folder / "probe.toml")] if file else []
        command = [sys.executable, "-m", "tensorix_cli", "probe", "serve", *given, *options]
        self.process = subprocess.Popen(
            command, env={**environment, "PROBE_KEY": KEY}, stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        self._already = self.said().count("Status page at")

    def said(self) -> str:
        """Both outputs, of all processes in this folder."""
        return (self.folder / "said").read_text(encoding="utf-8")

    def until(self, true: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait for something that only the process can bring about."""
        deadline = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return value

    def until_said(self, words: str) -> None:
        """Wait until it says something."""
        self.until(lambda: words in self.said() or self.process.poll() is not None)
        assert words in self.said()

    def until_ready(self) -> None:
        """Wait until it listens."""
        self.until(lambda: self.said().count("Status page at") > self._already or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()
        self.url = self.said().rsplit("Status page at ", 1)[1].split()[0]

    def get(self, path: str = "") -> httpx.Response:
        """A page."""
        return httpx.get(self.url + path, trust_env=False, timeout=10)

    def rounds(self, target: str = "prod", **labels: str) -> float:
        """How many rounds it counted of a target."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("metrics").text)
            for sample in family.samples
            if sample.name == "tensorix_probe_rounds_total"
            and {"target": target, **labels}.items() <= sample.labels.items()
        )

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 30.0) -> int:
        """Wait for its end; its exit status, negative for a signal's number."""
        return self.process.wait(seconds)

    def close(self) -> None:
        """Leave nothing."""
        self.process.kill()
        self.process.wait()
        self._log.close()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration: by default the one target `prod`, probed each second, with a history."""

    def write_it(base_url: str, *more: str, top: str = "", defaults: str = "") -> Path:
        text = f"""{top}
            [history]
            url = "{tmp_path}/history.db"
            [serve]
            port = 0
            grace = "1s"
            [defaults]
            base_url = "{base_url}"
            key_env = "PROBE_KEY"
            model = "{MODEL}"
            interval = "1s"
            headers = {{ requests = 6000 }}
            budget = {{ share = 1.0 }}
            {defaults}
            [[target]]
            name = "prod"
            """
        path = tmp_path / "probe.toml"
        path.write_text(text + "\n".join(more), encoding="utf-8")
        return path

    return write_it


@pytest.fixture
def run(tmp_path: Path, subprocess_environment: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Starts processes on the configuration that was written."""
    with ExitStack() as stack:

        def run_it(*options: str) -> Process:
            process = Process(tmp_path, subprocess_environment, *options)
            stack.callback(process.close)
            return process

        yield run_it


@pytest.fixture
def silent() -> Iterator[str]:
    """The base URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


@pytest.fixture
def simulator(borrow: Callable[..., Simulator]) -> Simulator:
    """A healthy one."""
    return borrow(rpm=6_000)


def _stored(folder: Path, target: str | None = None) -> list[Any]:
    with History.open(str(folder / "history.db"), create=False) as history:
        return list(history.rounds(target=target))


def test_from_start_to_end(simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """It says where it listens and what it costs, probes, is scraped, and ends in order with every round kept."""
    write(simulator.base_url, top='location = "berlin"')
    process = run()
    process.until_ready()
    assert "requests and" in process.said()
    assert "a day" in process.said()
    process.until(lambda: process.rounds(state="up", location="berlin") >= 2)
    assert process.get("healthz").status_code == 200
    [target] = process.get("api/status").json()["targets"]
    assert target["state"] == "up"
    assert target["recent"][-1]["first_token_s"] > 0
    page, metrics = process.get().text, process.get("metrics").text
    process.send(signal.SIGTERM)
    assert process.end() == 0
    rows = _stored(process.folder)
    assert len(rows) >= 2
    assert {row.state for row in rows} == {"up"}
    slots = [row.slot_unix_ns for row in rows[1:]]
    assert all(abs((later - slot) / 1e9 % 1.0 - 0.5) > 0.45 for slot, later in pairwise(slots))
    everything = process.said() + page + metrics + "".join(map(repr, rows))
    assert KEY not in everything
    assert b"sk-of-nobody" not in b"".join(path.read_bytes() for path in process.folder.iterdir())
    assert "Traceback" not in process.said()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such heaps")
def test_threads_share_a_heap(simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """Beside its first heap it has one for all of its threads, where glibc would give each its own, of 64 MiB."""
    write(simulator.base_url)
    process = run()
    process.until_ready()
    process.until(lambda: process.rounds(state="up") >= 1)
    lines = Path(f"/proc/{process.process.pid}/maps").read_text(encoding="ascii").splitlines()
    nameless = [line.split() for line in lines if len(line.split()) == 5]
    parts = [(*addresses.split("-"), rights) for addresses, rights, *_ in nameless]
    heaps = [
        start
        for (start, middle, used), (after, end, unused) in pairwise(parts)
        if (used, unused) == ("rw-p", "---p") and middle == after and int(end, 16) - int(start, 16) == 2**26
    ]
    assert len(heaps) == 1


def test_read_again(simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """SIGHUP takes a new configuration over: what stays keeps its counts; a wrong one is told in a line and left."""
    path = write(simulator.base_url)
    process = run()
    process.until_ready()
    process.until(lambda: process.rounds(state="up") >= 2)
    before = process.rounds()
    path.write_text(path.read_text().replace('interval = "1s"', 'intervall = "1s"'))
    process.send(signal.SIGHUP)
    process.until_said("the old one goes on")
    [line] = [line for line in process.said().splitlines() if "the old one goes on" in line]
    assert "probe.toml, line " in line
    assert "did you mean 'interval'?" in line
    process.until(lambda: process.rounds() > before)
    write(simulator.base_url, '[[target]]\nname = "other"', '[[target]]\nname = "third"')
    process.send(signal.SIGHUP)
    process.until_said("read again: 3 targets")
    process.until(lambda: process.rounds("other", state="up") and process.rounds("third", state="up"))
    assert process.rounds() > before
    write(simulator.base_url, '[[target]]\nname = "third"\nchecks = ["models"]', defaults='checks = ["models", "chat"]')
    process.send(signal.SIGHUP)
    process.until_said("read again: 2 targets")
    assert 'target="other"' not in process.get("metrics").text
    third = process.rounds("third")
    process.until(lambda: process.rounds("third") > third)
    shown = {target["name"]: target for target in process.get("api/status").json()["targets"]}
    assert sorted(shown) == ["prod", "third"]
    process.send(signal.SIGINT)
    assert process.end() == 0


def test_a_round_that_is_cut_short_is_not_down(
    silent: str, write: Callable[..., Path], run: Callable[..., Process]
) -> None:
    """Told to end while a server does not answer, it gives the round its time, then cuts it short: inconclusive."""
    path = write(silent, defaults='checks = ["models"]\ntimeouts = { total = "55s", first_byte = "55s" }')
    path.write_text(path.read_text().replace('interval = "1s"', 'interval = "60s"'))
    process = run()
    process.until_ready()
    process.until(lambda: process.get("api/status").json()["targets"][0]["running"])
    began = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.end() == 0
    assert 0.9 < time.monotonic() - began < 40
    [row] = _stored(process.folder)
    assert row.state == "inconclusive", row
    assert "the next signal ends at once" in process.said()


def test_the_second_signal_ends_at_once(silent: str, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """Who does not want to wait for the rounds under way sends a second signal. Beyond loopback it is loud."""
    path = write(silent, defaults='checks = ["models"]\ntimeouts = { total = "55s", first_byte = "55s" }')
    path.write_text(path.read_text().replace('"1s"', '"60s"'))
    process = run("--host", "0.0.0.0")
    process.until_ready()
    assert (
        "warning: listening on 0.0.0.0: everybody who can reach this machine can see the status page" in process.said()
    )
    process.url = process.url.replace("0.0.0.0", "127.0.0.1")
    process.until(lambda: process.get("api/status").json()["targets"][0]["running"])
    process.send(signal.SIGTERM)
    process.until_said("the next signal ends at once")
    began = time.monotonic()
    process.send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 30


def test_a_busy_port(simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """A port that is taken is one line and exit status 2; nothing was probed."""
    write(simulator.base_url)
    before = len(simulator.truth("arrival"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run("--port", str(taken.getsockname()[1]))
        assert process.end() == 2
    [line] = process.said().splitlines()
    assert line.startswith("tensorix: error: cannot listen on 127.0.0.1, port ")
    assert len(simulator.truth("arrival")) == before


def test_without_a_configuration(simulator: Simulator, tmp_path: Path, subprocess_environment: dict[str, str]) -> None:
    """One target needs no file: its address is an option, its key a variable; a closed terminal ends it in order."""
    environment = {**subprocess_environment, "TENSORIX_API_KEY": KEY}
    options = ["--base-url", simulator.base_url, "--model", MODEL, "--interval", "1s", "--port", "0"]
    process = Process(tmp_path, environment, *options, file=False)
    try:
        process.until_ready()
        process.until(lambda: "127.0.0.1" in process.get().text and "<h1>Up</h1>" in process.get().text)
        process.send(signal.SIGHUP)
        assert process.end() == 0
    finally:
        process.close()
    assert KEY not in process.said()


def test_options_beside_a_configuration(
    simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]
) -> None:
    """What the configuration says is not said a second time by an option: one line, exit status 2."""
    write(simulator.base_url)
    process = run("--model", MODEL, "--interval", "5s")
    assert process.end() == 2
    [line] = process.said().splitlines()
    assert "says already what --model and --interval would: leave one of them out" in line


def test_the_configuration_as_once_takes_it(
    write: Callable[..., Path], tmp_path: Path, subprocess_environment: dict[str, str]
) -> None:
    """`--config` names it as well, instead of the argument and not beside it; here a wrong one, so that it ends."""
    path = write("http://127.0.0.1:1/v1", 'nonsense = "here"')
    for beside, said in ((False, "nonsense"), (True, "give one configuration")):
        process = Process(tmp_path, subprocess_environment, "--config", str(path), file=beside)
        assert process.end() == 2
        assert said in process.said().splitlines()[-1]
        process.close()


def test_killed(simulator: Simulator, write: Callable[..., Path], run: Callable[..., Process]) -> None:
    """After SIGKILL every round that was told to be written is there, and a new start goes on from them."""
    write(simulator.base_url)
    process = run()
    process.until_ready()
    written = process.until(lambda: max(0, process.get("api/status").json()["history"]["written"] - 1))
    spent = process.get("api/status").json()["targets"][0]["budget"]["tokens_today"]
    process.send(signal.SIGKILL)
    assert process.end() == -signal.SIGKILL
    before = {row.round_id for row in _stored(process.folder)}
    assert len(before) >= written
    process = run()
    process.until_ready()

    def recalled() -> bool:
        [target] = process.get("api/status").json()["targets"]
        return bool(target["windows"][0]["rounds"]["up"] >= len(before) and target["budget"]["tokens_today"] > 0)

    process.until(recalled)
    [target] = process.get("api/status").json()["targets"]
    first = min(row.started_unix_ns for row in _stored(process.folder))
    assert target["since"] <= first / 1e9 + 1.5
    assert target["budget"]["tokens_today"] >= min(spent, 20)
    # What runs once an hour has run.
    process.until(lambda: process.rounds() >= 1)
    later = [row for row in _stored(process.folder) if row.round_id not in before]
    assert {row.round_id for row in _stored(process.folder)} > before or not later
    checks = [result.check for row in later for result in row.results]
    assert "auth" not in checks


@pytest.fixture
def target_of(simulator: Simulator) -> Callable[..., Target]:
    """A target that is probed each second."""

    def make(name: str, **fields: Any) -> Target:
        known: dict[str, Any] = {
            "base_url": simulator.base_url,
            "api_key": Secret(f"sk-{name}-0123456789"),
            "model": MODEL,
            "interval_s": 1.0,
            "offset_s": 0.0,
            "checks": ("models", "chat"),
            "timeouts": Timeouts(dns_s=30.0, total_s=30.0),
            "headers": Headers(requests=6_000),
            "budget": Budget(share=1.0),
        }
        return Target(name=name, **(known | fields))

    return make


@pytest.fixture
def serving() -> Iterator[Callable[..., Service]]:
    """Starts services in this process."""
    with ExitStack() as stack:

        def start(*targets: Target, tell: Callable[[str], None] = lambda line: None, **settings: Any) -> Service:
            service = Service(Configuration(targets=targets, **settings), tell)
            stack.callback(service.stop, grace_s=0)
            service.start()
            return service

        yield start


def _rounds(service: Service, target: str, state: str) -> float:
    labels = {"target": target, "location": "", "state": state, "maintenance": "false"}
    return service.metrics.registry.get_sample_value("tensorix_probe_rounds_total", labels) or 0.0


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_hangs_harms_no_other(
    target_of: Callable[..., Target],
    serving: Callable[..., Service],
    silent: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that never answers and a name that is never resolved cost the others nothing, and count as overlaps."""
    go_on = threading.Event()

    def stalling(host: str, *rest: Any, **more: Any) -> Any:
        go_on.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    lookup = Lookup(resolve=stalling)
    monkeypatch.setattr("tensorix_probes.serve.service.Exchange", partial(Exchange, lookup=lookup))
    try:
        nameless = target_of("nameless", base_url="http://stalls.example/v1")
        service = serving(target_of("healthy"), target_of("silent", base_url=silent), nameless)
        _until(lambda: _rounds(service, "healthy", "up") >= 3)
        assert _rounds(service, "healthy", "down") == 0
        assert service.metrics.missed_slots()["healthy"]["overlap"] == 0
        _until(lambda: all(service.metrics.missed_slots()[name]["overlap"] for name in ("silent", "nameless")))
        assert service.health() == []
    finally:
        go_on.set()


def test_a_locked_history_harms_no_probe(
    target_of: Callable[..., Target], serving: Callable[..., Service], tmp_path: Path
) -> None:
    """While another process holds the database, probing goes on and the page says so; then everything is written."""
    url = str(tmp_path / "history.db")
    service = serving(target_of("healthy"), history=HistorySettings(url=url))
    _until(lambda: service.status()["history"]["written"] >= 1)
    locking = sqlite3.connect(url, isolation_level=None)
    locking.execute("PRAGMA busy_timeout = 5000")
    locking.execute("BEGIN IMMEDIATE")
    _until(lambda: service.status()["history"]["error"] is not None)
    before = _rounds(service, "healthy", "up")
    _until(lambda: _rounds(service, "healthy", "up") > before + 1)
    assert any(notice.startswith("The history cannot be written: ") for notice in service.status()["notices"])
    locking.execute("ROLLBACK")
    locking.close()
    service.stop(grace_s=5)
    assert service.status()["history"] | {"error": None} == {
        "queued": 0,
        "written": sum(_rounds(service, "healthy", state) for state in State),
        "lost": 0,
        "error": None,
    }


def test_a_round_that_raises_is_a_missed_slot(
    target_of: Callable[..., Target], serving: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, told once and without the key, and the other targets' probing is not called broken."""

    def run(target: Target, **more: Any) -> Round:
        if target.name == "odd":
            assert target.api_key is not None
            raise OverflowError(f"too large for {target.api_key.reveal()}")
        return run_round(target, **more)

    monkeypatch.setattr("tensorix_probes.serve.service.run_round", run)
    told: list[str] = []
    service = serving(target_of("healthy"), target_of("odd"), tell=told.append)
    _until(lambda: service.metrics.missed_slots()["odd"]["defect"] >= 2 and _rounds(service, "healthy", "up") >= 2)
    assert service.metrics.missed_slots()["healthy"]["defect"] == 0
    assert service.health() == []
    [line] = [line for line in told if line.startswith("odd: ")]
    assert "a defect of the probe" in line
    assert "OverflowError: too large for" in line
    assert "sk-odd-0123456789" not in line


def test_what_others_spend_is_read_meanwhile(
    target_of: Callable[..., Target], serving: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of another process, of this target only, join the ledger; rows of its own are not counted again."""
    monkeypatch.setattr("tensorix_probes.serve.service._OTHERS_S", 0.1)
    url = str(tmp_path / "history.db")
    target = target_of("one", interval_s=600.0)
    service = serving(target, history=HistorySettings(url=url))
    ledger = service._keys.of(target).ledger
    _until(lambda: service.status()["history"]["written"] == 1)
    own = ledger.standing(time.time_ns()).tokens_today
    assert own > 0
    with History.open(url) as history:
        [row] = history.rounds()
        for name, tokens in (("one", 777), ("another", 5_000)):
            results = tuple(replace(result, tokens=tokens, requests=1) for result in row.results[-1:])
            history.append([replace(row, round_id=name, target=name, results=results)])
    _until(lambda: ledger.standing(time.time_ns()).tokens_today > own)
    read = ledger.restored_unix_ns
    _until(lambda: ledger.restored_unix_ns != read)
    assert ledger.standing(time.time_ns()).tokens_today == own + 777


def test_a_history_that_opens_late(
    target_of: Callable[..., Target], serving: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where today's budget cannot be read at the start that is said in a line, and made good once it can."""
    monkeypatch.setattr("tensorix_probes.serve.service._OTHERS_S", 0.1)
    url = str(tmp_path / "history.db")
    first = serving(target_of("one", interval_s=600.0), history=HistorySettings(url=url))
    _until(lambda: first.status()["history"]["written"] == 1)
    first.stop(grace_s=5)
    spent = first.status()["targets"][0]["budget"]["tokens_today"]
    assert spent > 0
    (tmp_path / "history.db").rename(tmp_path / "aside")
    (tmp_path / "history.db").mkdir()
    told: list[str] = []
    target = target_of("one", interval_s=600.0, offset_s=300.0)
    service = serving(target, history=HistorySettings(url=url), tell=told.append)
    [line] = [line for line in told if "history" in line]
    assert "today's budget forgotten" in line
    assert "is a folder" in line
    (tmp_path / "history.db").rmdir()
    (tmp_path / "aside").rename(tmp_path / "history.db")
    _until(lambda: service.status()["targets"][0]["budget"]["tokens_today"] >= spent)


def test_a_change_never_makes_two_rounds_at_once(
    target_of: Callable[..., Target], serving: Callable[..., Service], silent: str
) -> None:
    """A target whose configuration changes while its round hangs is probed anew only when that round is over."""
    old = target_of("one", base_url=silent)
    service = serving(old)
    _until(lambda: service.status()["targets"][0]["running"])
    [before] = service._workers.values()
    service.reload(Configuration(targets=(target_of("one"),)))
    _until(lambda: sum(service.metrics.missed_slots()["one"].values()) >= 2)
    assert before.alive
    assert _rounds(service, "one", "up") == 0
    before.cancel()
    _until(lambda: _rounds(service, "one", "up") >= 1)
    assert not before.alive


def test_the_clock_is_not_asked_when_to_probe(
    target_of: Callable[..., Target], serving: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set by an hour either way, the time of day neither stops the probing nor makes up for what was not missed."""
    service = serving(target_of("healthy"))
    real, real_ns, set_by = time.time, time.time_ns, [0]
    monkeypatch.setattr(time, "time", lambda: real() + set_by[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + set_by[0] * 10**9)
    for set_by[0] in (3_600, -3_600, 0):
        before, began = _rounds(service, "healthy", "up"), time.monotonic()
        _until(lambda before=before: _rounds(service, "healthy", "up") >= before + 2)  # type: ignore[misc]
        assert _rounds(service, "healthy", "up") - before <= time.monotonic() - began + 2
    assert _rounds(service, "healthy", "down") == 0


def test_the_last_state_and_since_when() -> None:
    """What counts of rounds tell: the state goes back to the oldest of the rounds, or hours, that had no other."""
    now = 10**18
    counts = [(9_000.0, State.DOWN, 2), (9_000.0, State.UP, 58), (5_400.0, State.UP, 60), (60.0, State.UP, 1)]
    past = past_of(counts, now)
    assert (past.state, past.since_unix_ns) == (State.UP, now - 5_400 * 10**9)
    past = past_of([*counts, (30.0, State.DOWN, 1)], now)
    assert (past.state, past.since_unix_ns) == (State.DOWN, now - 30 * 10**9)
    assert past_of([], now).state is None
    counts = [(300.0, State.UP, 1), (240.0, State.DOWN, 1), (180.0, State.INCONCLUSIVE, 1), (120.0, State.DOWN, 1)]
    assert past_of(counts, now).told == (State.DOWN, now - 240 * 10**9)
    assert past_of([*counts, (60.0, State.PAYMENT, 1)], now).told == (State.DOWN, now - 240 * 10**9)


def test_no_thread_is_left(target_of: Callable[..., Target], serving: Callable[..., Service]) -> None:
    """A service that was stopped leaves no thread of its own."""
    before = set(threading.enumerate())
    service = serving(target_of("a"), target_of("b"))
    _until(lambda: _rounds(service, "a", "up") >= 1)
    service.stop(grace_s=5)
    _until(lambda: not [one for one in set(threading.enumerate()) - before if one.is_alive()])
