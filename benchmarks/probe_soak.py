"""Does `tensorix probe serve` keep its time, its memory and its history while everything around it goes wrong?

    python benchmarks/probe_soak.py [--minutes 30] [--targets 20] [--json FILE]

Twenty targets, each with a key of its own, are probed every 10 s on a simulator, whose log of arrivals is the truth.
Beside them one target never answers, and the name of another is asked of a name server that never does. One after the
other, as shares of the time:

    0.08 - 0.18  the disk of the history is full
    0.24 - 0.34  the history's database is locked
    0.40 - 0.55  the time of day is an hour ahead, and then right again: in a second process with targets of its own,
                 since libfaketime, which makes it so, takes several times the processor time of the probe itself
    0.90         SIGKILL, and a new start; 1.00 SIGTERM

Each slot of the twenty has to bring a request within 100 ms, or be counted as missed; none of them may be called down;
no round may be lost; resident memory may not grow from the first to the last third of 0.36 - 0.90 (by then, of half an
hour, what is kept of ten minutes is full, and written what had waited for the database); and the processor time has to
stay below a tenth of a core. Prints a table, and ends with 1 where something failed. Linux; the disk and the name
server need root (a mount namespace), the clock `libfaketime` (Debian: faketime). What is missing is left out, and the
table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cores import cpu_s
from tensorix_api import Secret
from tensorix_records.history import History
from tensorix_simulator import Simulator

INTERVAL_S = 10.0
LATE_S = 0.1
_LOOK_S = 15.0
"""As often as Prometheus scrapes where nobody says otherwise."""
_NAMESERVER = "127.66.66.66"
_INSIDE = "TENSORIX_SOAK_INSIDE"
_APART = 3
"""Targets of the process whose time of day is set."""


@dataclass(slots=True)
class Serving:
    """One life of `tensorix probe serve`."""

    process: subprocess.Popen[str]
    url: str
    began_unix_s: float
    """Of this machine's true clock."""
    monotonic_less_unix_s: float
    rss: list[tuple[float, int]] = field(default_factory=list)
    last: dict[tuple[str, ...], float] = field(default_factory=dict)
    """The counters of the last scrape, by name and labels."""
    ready_s: float = 0.0
    """When it probed, on the monotonic clock, and what processor time it had taken by then."""
    ready_cpu_s: float = 0.0
    ended_s: float = 0.0
    cpu_s: float = 0.0
    unhealthy: int = 0
    pages: int = 0

    def get(self, path: str) -> tuple[int, str]:
        """A page's status and text; status 0 where there is no answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def look(self) -> None:
        """Scrape the metrics as Prometheus does, ask for its health and its page, and see what memory it has."""
        self.unhealthy += self.get("healthz")[0] != 200
        self.pages += self.get("")[0] == 200
        status, text = self.get("metrics")
        if status == 200:
            self.last = {
                (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        self.rss.append((time.monotonic(), int(pages) * os.sysconf("SC_PAGE_SIZE")))
        self.cpu_s = cpu_s(self.process.pid)
        self.ended_s = time.monotonic()

    def total(self, name: str, *labels: str) -> float:
        """The sum of a counter's last values over all samples that have these labels."""
        return sum(value for key, value in self.last.items() if key[0] == name and set(labels) <= set(key[1:]))


@contextmanager
def silent_servers() -> Iterator[int]:
    """A port that takes connections and never answers, and a name server that never does; gives the port."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        if os.geteuid() == 0:
            names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            names.bind((_NAMESERVER, 53))
        yield listening.getsockname()[1]


def configuration(folder: Path, name: str, base_url: str, numbers: range, silent_port: int | None) -> str:
    """A configuration: healthy targets with keys of their own, and two that hang where a port is given for one."""
    lines = [
        'location = "here"',
        f'[history]\nurl = "{folder}/disk/{name}.db"',
        "[serve]\nport = 0",
        f'[defaults]\ninterval = "{INTERVAL_S:.0f}s"\nmodel = "deepseek/deepseek-chat-v3.1"',
        'timeouts = { total = "9s", dns = "5s", first_byte = "9s", first_token = "9s" }',
        "headers = { requests = 600 }\nbudget = { share = 1.0, tokens_a_day = 10_000_000 }",
    ]
    for number in numbers:
        lines.append(
            f'[[target]]\nname = "t{number}"\nbase_url = "{base_url}"\nkey_file = "{folder}/key{number}"\n'
            f'offset = "{offset_s(number):.3f}s"'
        )
        (folder / f"key{number}").write_text(key_of(number))
        (folder / f"key{number}").chmod(0o600)
    hanging = (("silent", f"127.0.0.1:{silent_port}"), ("nameless", "stalls.example"))
    for name, address in () if silent_port is None else hanging:
        lines.append(f'[[target]]\nname = "{name}"\nbase_url = "http://{address}/v1"\nkey_file = "{folder}/key0"')
    return "\n".join(lines) + "\n"


def key_of(number: int) -> str:
    """The key of a target."""
    return f"sk-soak-{number:04d}-of-nobody"


def offset_s(number: int) -> float:
    """Where the slots of a target are within the interval: spread, and no two of them the same."""
    return number * 0.618034 * INTERVAL_S % INTERVAL_S


def start(folder: Path, name: str, faked: str | None = None) -> Serving:
    """Start it and wait until it says where it listens."""
    environment = dict(os.environ)
    if faked is not None:
        environment |= {
            "LD_PRELOAD": faked,
            "FAKETIME_TIMESTAMP_FILE": f"{folder}/clock",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }
    command = [str(Path(sysconfig.get_path("scripts"), "tensorix")), "probe", "serve", f"{folder}/{name}.toml"]
    log = (folder / "stderr").open("a")
    began, less = time.time(), time.monotonic() - time.time()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    url = None
    for line in process.stdout:
        if "Status page at " in line:
            url = line.split("Status page at ")[1].split()[0]
            break
    if url is None:
        raise SystemExit(f"it did not start: {(folder / 'stderr').read_text()[-1000:]}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    life = Serving(process, url, began, less)
    life.ready_s, life.ready_cpu_s = time.monotonic(), cpu_s(process.pid)
    return life


class Trouble:
    """What goes wrong around it, each to be begun and ended."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.clock = folder / "disk", folder / "clock"
        self._lock: sqlite3.Connection | None = None

    def full(self, on: bool) -> None:
        """Fill the disk of the history to its last byte, or make room again."""
        filler = self.disk / "filler"
        if not on:
            filler.unlink()
            return
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65_536)
            except OSError:
                pass

    def locked(self, on: bool) -> None:
        """Hold the database's write lock, or let it go."""
        if on:
            self._lock = sqlite3.connect(self.disk / "main.db", isolation_level=None, check_same_thread=False)
            self._lock.execute("PRAGMA busy_timeout = 10000")
            self._lock.execute("BEGIN IMMEDIATE")
        elif self._lock is not None:
            self._lock.execute("ROLLBACK")
            self._lock.close()

    def stepped(self, on: bool) -> None:
        """Set its time of day an hour ahead, or back."""
        waiting = self.clock.with_suffix(".new")
        waiting.write_text("+3600\n" if on else "+0\n")
        waiting.replace(self.clock)


def kept(folder: Path) -> dict[str, set[str]]:
    """The rounds in the history, by target: their ids."""
    found: dict[str, set[str]] = {}
    with History.open(f"{folder}/disk/main.db", create=False) as history:
        for row in history.rounds(results=False):
            found.setdefault(row.target, set()).add(row.round_id)
    return found


@dataclass(slots=True)
class Punctuality:
    """What became of the slots of some targets, by when requests arrived at the simulator."""

    late_s: list[float]
    """How late the first request of each was that came in time."""
    slots: int
    missing: int
    """Slots without a request in time."""
    odd: int
    """Requests out of time."""


def punctuality(arrivals: dict[str, list[float]], lives: list[Serving], numbers: range) -> Punctuality:
    """Look at each slot from 10 s after each start, since the first round has a time of its own, to the last look."""
    found = Punctuality([], 0, 0, 0)
    for number in numbers:
        seen, offset = arrivals.get(Secret(key_of(number)).alias, []), offset_s(number)
        for life in lives:
            k = int((life.began_unix_s + INTERVAL_S - offset) // INTERVAL_S) + 2
            while (slot := life.monotonic_less_unix_s + offset + k * INTERVAL_S) + 1.0 < life.ended_s:
                near = [at - slot for at in seen if -INTERVAL_S / 2 < at - slot < INTERVAL_S / 2]
                in_time = [behind for behind in near if -0.005 <= behind <= LATE_S][:1]
                found.late_s += in_time
                found.slots += 1
                found.missing += not in_time
                found.odd += len(near) - len(in_time)
                k += 1
    return found


def first_requests(truth: list[dict[str, Any]]) -> dict[str, list[float]]:
    """When each round's first request arrived (the list of models), by key: seconds of the monotonic clock."""
    found: dict[str, list[float]] = {}
    for event in truth:
        if str(event["path"]).endswith("/models") and event["key_alias"] is not None and event["status"] == 200:
            found.setdefault(event["key_alias"], []).append(event["arrival_ns"] / 1e9)
    return found


def soak(minutes: float, targets: int, folder: Path, faked: str | None) -> list[tuple[str, str, str, bool | None]]:
    """Run all of it; rows of what was looked at, what was seen, what was wanted, and whether it held."""
    (folder / "disk").mkdir()
    root = os.geteuid() == 0
    if root:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", f"{folder}/disk"], check=True)
        (folder / "resolv.conf").write_text(f"nameserver {_NAMESERVER}\n")
        subprocess.run(["mount", "--bind", f"{folder}/resolv.conf", "/etc/resolv.conf"], check=True)
    trouble = Trouble(folder)
    trouble.stepped(False)
    whole_s = minutes * 60
    with ExitStack() as stack:
        port = stack.enter_context(silent_servers())
        simulator = stack.enter_context(Simulator(rpm=600, ttft="20ms", between_tokens="1ms"))
        url, healthy, apart = simulator.base_url, range(targets), range(targets, targets + _APART)
        (folder / "main.toml").write_text(configuration(folder, "main", url, healthy, port))
        (folder / "apart.toml").write_text(configuration(folder, "apart", url, apart, None))
        lives = [start(folder, "main")]
        stack.callback(_kill_all, lives)
        stepped = [start(folder, "apart", faked)] if faked else []
        stack.callback(_kill_all, stepped)
        begin = time.monotonic()
        steps: list[tuple[float, str, Callable[[], None]]] = [
            (0.24, "the database is locked", lambda: trouble.locked(True)),
            (0.34, "the database is free again", lambda: trouble.locked(False)),
        ]
        if root:
            steps.append((0.08, "the disk is full", lambda: trouble.full(True)))
            steps.append((0.18, "the disk has room again", lambda: trouble.full(False)))
        if faked:
            steps.append((0.40, "the time of day is an hour ahead", lambda: trouble.stepped(True)))
            steps.append((0.55, "the time of day is right again", lambda: trouble.stepped(False)))

        def wait_until(share: float) -> None:
            while (now := time.monotonic()) < begin + share * whole_s:
                time.sleep(min(_LOOK_S, max(0.0, begin + share * whole_s - now)))
                for life in (lives[-1], *stepped):
                    life.look()

        for share, what, act in sorted(steps, key=lambda step: step[0]):
            wait_until(share)
            print(f"{time.monotonic() - begin:6.0f} s  {what}", file=sys.stderr)
            act()
        wait_until(0.90)
        lives[-1].look()
        before = kept(folder)
        lives[-1].process.kill()
        lives[-1].process.wait()
        print(f"{time.monotonic() - begin:6.0f} s  SIGKILL, and a new start", file=sys.stderr)
        lives.append(start(folder, "main"))
        after = kept(folder)
        wait_until(1.0)
        lives[-1].look()
        lives[-1].process.send_signal(signal.SIGTERM)
        told_s = time.monotonic()
        ended = lives[-1].process.wait(timeout=60), time.monotonic() - told_s
        truth = simulator.truth("arrival")
    arrivals = first_requests(truth)
    return [
        *_punctual("healthy", punctuality(arrivals, lives, healthy), lives, healthy),
        *(_punctual("set clock", punctuality(arrivals, stepped, apart), stepped, apart) if stepped else ()),
        *_harm(lives, stepped, [*healthy, *apart]),
        *_resources(lives[0], begin + 0.36 * whole_s),
        *_keeping(lives, before, after, kept(folder), ended),
        ("what was left out", "nothing" if root and faked else "; ".join(_left_out(root, faked)), "nothing", None),
    ]


def _kill_all(lives: list[Serving]) -> None:
    for life in lives:
        life.process.kill()
        life.process.wait()


def _punctual(
    name: str, seen: Punctuality, lives: list[Serving], numbers: range
) -> Iterator[tuple[str, str, str, bool | None]]:
    missed = round(sum(life.total("tensorix_probe_missed_total", f"target=t{n}") for life in lives for n in numbers))
    late = sorted(seen.late_s) or [math.nan]
    figures = [late[int(share * (len(late) - 1))] * 1e3 for share in (0.5, 0.99, 1.0)]
    yield f"{name}: slots", f"{seen.slots}", "", None
    words = "median {:.1f} ms, p99 {:.1f} ms, most {:.1f} ms".format(*figures)
    yield f"{name}: first request after its slot", words, f"≤ {LATE_S * 1e3:.0f} ms", late[-1] <= LATE_S
    held = seen.missing <= missed
    yield f"{name}: slots without one; counted as missed", f"{seen.missing}; {missed}", "no more than counted", held
    yield f"{name}: requests out of time", f"{seen.odd}", "0", seen.odd == 0


def _harm(
    lives: list[Serving], stepped: list[Serving], numbers: list[int]
) -> Iterator[tuple[str, str, str, bool | None]]:
    """What the troubles of others did to the healthy targets, and what became of those that hang."""
    rounds, both = "tensorix_probe_rounds_total", [*lives, *stepped]
    states = {
        state: round(sum(life.total(rounds, f"target=t{n}", f"state={state}") for life in both for n in numbers))
        for state in ("up", "degraded", "inconclusive", "payment", "down")
    }
    up = states.pop("up")
    others = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    yield (
        "rounds of the healthy targets",
        f"{up} up" + (f", {others}" if others else ""),
        "all up",
        not others and up > 0,
    )
    for name in ("silent", "nameless"):
        down = round(sum(life.total(rounds, f"target={name}", "state=down") for life in lives))
        every = round(sum(life.total(rounds, f"target={name}") for life in lives))
        yield f"rounds of the target {name}", f"{down} down of {every}", "all down", down == every > 0
    unhealthy, looks = sum(life.unhealthy for life in both), sum(len(life.rss) for life in both)
    yield "healthz was not 200", f"{unhealthy} of {looks} times", "0", unhealthy == 0
    pages = sum(life.pages for life in both)
    yield "status page loaded", f"{pages} of {looks} times", "each time", pages == looks


def _resources(life: Serving, from_s: float) -> Iterator[tuple[str, str, str, bool | None]]:
    settled = [(at, size / 2**20) for at, size in life.rss if at >= from_s]
    third = (settled[-1][0] - settled[0][0]) / 3
    first = statistics.fmean(size for at, size in settled if at <= settled[0][0] + third)
    last = statistics.fmean(size for at, size in settled if at >= settled[-1][0] - third)
    grown = last - first
    yield "resident memory, first and last third", f"{first:.1f}, {last:.1f} MiB", "+ 3 MiB at most", grown <= 3.0
    share = (life.cpu_s - life.ready_cpu_s) / (life.ended_s - life.ready_s)
    yield "processor", f"{100 * share:.1f} % of a core", "< 10 %", share < 0.1


def _keeping(
    lives: list[Serving],
    before: dict[str, set[str]],
    after: dict[str, set[str]],
    end: dict[str, set[str]],
    ended: tuple[int, float],
) -> Iterator[tuple[str, str, str, bool | None]]:
    def count(rows: dict[str, set[str]]) -> int:
        return sum(map(len, rows.values()))

    gone = sum(
        len(ids - after.get(target, set())) + len(ids - end.get(target, set())) for target, ids in before.items()
    )
    yield (
        "rounds stored before SIGKILL, gone after it",
        f"{count(before)}, {gone}",
        "0 gone",
        gone == 0 and bool(before),
    )
    rounds = round(sum(life.total("tensorix_probe_rounds_total") for life in lives))
    lost = round(sum(life.total("tensorix_probe_history_lost_total") for life in lives))
    # Between the last look and the end, more may have come; what was under way at SIGKILL is in neither.
    yield "rounds counted, and in the history", f"{rounds}, {count(end)}", "no fewer", count(end) >= rounds - 3
    yield "rounds lost, as it says itself", f"{lost}", "0", lost == 0
    # Ten seconds are given to rounds under way, of which those that hang make use.
    yield (
        "SIGTERM",
        f"exit status {ended[0]} after {ended[1]:.1f} s",
        "0, 20 s at most",
        ended[0] == 0 and ended[1] <= 20,
    )


def _left_out(root: bool, faked: str | None) -> Iterator[str]:
    if not root:
        yield "a full disk and a silent name server (not root)"
    if not faked:
        yield "a clock that is set (no libfaketime: apt-get install faketime)"


def main() -> int:
    """Run it, in a mount namespace of its own where that can be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the rows there, too")
    wanted = parser.parse_args()
    if os.geteuid() == 0 and _INSIDE not in os.environ:
        os.environ[_INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])
    faked = next(iter(sorted(glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))), None)  # noqa: PTH207
    folder = Path(tempfile.mkdtemp(prefix="soak"))
    failed = False
    try:
        rows = soak(wanted.minutes, wanted.targets, folder, faked)
        print(f"| {wanted.minutes:g} minutes, {wanted.targets} targets | seen | wanted | |\n| --- | --- | --- | --- |")
        for what, seen, wish, held in rows:
            failed |= held is False
            print(f"| {what} | {seen} | {wish} | {'' if held is None else 'yes' if held else '**no**'} |")
        if wanted.json:
            wanted.json.write_text(json.dumps(rows, indent=1) + "\n")
        if failed:
            print((folder / "stderr").read_text()[-3000:], file=sys.stderr)
    finally:
        subprocess.run(["umount", f"{folder}/disk"], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
