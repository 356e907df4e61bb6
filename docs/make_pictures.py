"""The pictures of the documents, from runs that are made here: loads on the simulator, and made-up spans and probes.

    python docs/make_pictures.py [NAME …] [--out FOLDER] [--keep FOLDER] [--list]

Each name is a picture, `docs/pictures/NAME.png`; without one, all are made: about four minutes. Needs Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tensorix_records.history import History, ResultRow, RoundRow
from tensorix_reports.uptime import Objective, uptime_report, write_uptime_report
from tensorix_simulator import Simulator

MOST_BYTES = 150_000
_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_FLAGS += " --disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=8000"
_QUEUE: Mapping[str, Any] = {"latency": "batch", "slots": 8, "queue": None, "step": "8ms", "step_per_sequence": "400us"}
_DAY = datetime(2026, 9, 22, tzinfo=UTC)


def _tensorix(*words: str, accepted: tuple[int, ...] = (0,)) -> None:
    """Run the command itself; whatever status the objectives of a run may bring is `accepted`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TENSORIX_")}
    environment |= {"TENSORIX_API_KEY": "sk-of-the-pictures", "NO_PROXY": "*", "no_proxy": "*"}
    ran = subprocess.run(
        [sys.executable, "-m", "tensorix_cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode not in accepted:
        sys.exit(f"tensorix {' '.join(words)}: status {ran.returncode}\n{ran.stdout}{ran.stderr}")


@contextmanager
def _simulated(**settings: Any) -> Iterator[str]:
    with Simulator(**({"rpm": None, "tpm": None, "seed": 1} | settings)) as simulator:
        yield simulator.base_url


@cache
def _load(folder: Path) -> Path:
    run = folder / "load"
    goals = ("--slo", "ttft_p95 < 60ms", "--slo", "error_rate < 1%", "--good", "e2e < 400ms")
    with _simulated(reply_tokens="uniform(5, 15)", **_QUEUE) as url:
        steps = ("--steps", "10,20,40,60 x 10s", "--seed", "3", "--label", "Four steps, on the simulator")
        _tensorix("load", "--base-url", url, *steps, *goals, "--out", str(run), accepted=(0, 1, 3))
    _tensorix("report", str(run), "--format", "html,png")
    return run / "report"


@cache
def _limits(folder: Path) -> Path:
    _tensorix("demo", "--out", str(folder / "demo"))
    _tensorix("report", str(folder / "demo"), "--format", "html,png")
    return folder / "demo" / "report"


def _capacity(folder: Path) -> Path:
    asked = ("--slo", "ttft_p95 < 60ms", "--from", "20", "--step", "4s", "--max-tokens", "16", "--seed", "3")
    with _simulated(reply_tokens="uniform(5, 15)", **_QUEUE) as url:
        _tensorix("search", "--base-url", url, *asked, "--out", str(folder / "search"), accepted=(0, 3))
    return folder / "search" / "capacity.html"


def _comparison(folder: Path) -> Path:
    asked = ("--rate", "40", "--duration", "20s", "--max-tokens", "8", "--seed", "3")
    with Simulator(rpm=None, tpm=None, seed=1, between_tokens="2ms") as simulator:
        for name, ttft in (("before", 100), ("after", 115)):
            simulator.change(ttft=f"lognormal({ttft}ms, 0.3)")
            _tensorix("load", "--base-url", simulator.base_url, *asked, "--out", str(folder / name))
    gates = ("--fail-if", "ttft_p50 +5%", "--fail-if", "error_rate +1pp")
    _tensorix("compare", str(folder / "before"), str(folder / "after"), *gates, accepted=(0, 1, 3))
    return folder / "after" / "report" / "compare" / "compare.html"


def _uptime(folder: Path) -> Path:
    """Five days of a probe every five minutes in two places: an outage in both, a fault in one, maintenance, a gap."""
    dice, rounds = random.Random(5), []
    for n in range(5 * 288):
        for location in ("frankfurt", "new york"):
            if location == "new york" and 900 <= n < 930:
                continue
            down = 400 <= n < 409 or (location == "frankfurt" and 1200 <= n < 1203)
            start = round((_DAY + timedelta(minutes=5 * n)).timestamp()) * 10**9
            first = round((0.2 + 0.1 * (n % 288 > 150) + dice.random() ** 3) * 1e9)
            stream = ResultRow(
                check="stream",
                state="up",
                started_unix_ns=start,
                phases_ns={"connect": 20_000_000, "first_token": first, "total": first + 10**9},
                requests=1,
                tokens=30,
                cost=0.0001,
            )
            row: dict[str, Any] = {"round_id": f"{location}-{n}", "target": "production", "location": location}
            row |= {"state": "up", "started_unix_ns": start, "duration_ns": 2 * 10**9, "results": (stream,)}
            if down:
                row |= {"state": "down", "cause_check": "chat", "cause": "status_is_200", "results": ()}
                row |= {"reason": "the server answered 503"}
            rounds.append(RoundRow(**row, maintenance="upgrade" if 700 <= n < 712 else None))
    path = str(folder / "history.sqlite")
    with History.open(path) as history:
        history.append(rounds)
    report = uptime_report(path, since=_DAY, until=_DAY + timedelta(days=5), objectives=Objective(availability=0.99))
    return write_uptime_report(report, folder / "uptime").page


def _value(value: Any) -> dict[str, Any]:
    kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
    return {kinds[type(value)]: str(value) if type(value) is int else value}


def _attributes(**attributes: Any) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "."), "value": _value(value)} for key, value in attributes.items()]


def _traces(folder: Path) -> Path:
    """The spans of 600 calls of a service, a file as a collector writes it."""
    dice, lines = random.Random(9), []
    for n in range(600):
        start = round(_DAY.timestamp()) * 10**9 + n * 500_000_000 + int(dice.random() * 4e8)
        first = 0.25 + dice.random() ** 4 * 2
        last = first + 0.5 + dice.random()
        fate = dice.random()
        told: dict[str, Any] = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "z-ai/glm-5"}
        told |= {"gen_ai__request__stream": True, "tensorix__attempts": 1, "server__address": "api.tensorix.ai"}
        told |= {"tensorix__key__alias": "assistant", "http__response__status_code": 200}
        if fate < 0.03:
            told |= {"http__response__status_code": 429, "error__type": "429", "tensorix__retry_after": 4.0}
        elif fate < 0.05:
            told |= {"tensorix__stream__outcome": "cut", "error__type": "cut", "tensorix__time_to_first_token": first}
        else:
            told |= {"tensorix__stream__outcome": "completed", "tensorix__stream__chunks": 60}
            told |= {"tensorix__time_to_first_token": first, "tensorix__time_to_first_output": first + 0.1}
            told |= {"tensorix__time_to_last_token": last, "gen_ai__response__time_to_first_chunk": first - 0.02}
            told |= {"gen_ai__usage__input_tokens": 200, "gen_ai__usage__output_tokens": 60 + int(dice.random() * 40)}
            told |= {"tensorix__ratelimit__remaining_requests": 59 - n % 55, "tensorix__ratelimit__limit_requests": 60}
        span = {"traceId": f"{n + 1:032x}", "spanId": f"{n + 1:016x}", "name": "chat z-ai/glm-5", "kind": 3}
        span |= {"startTimeUnixNano": str(start), "endTimeUnixNano": str(start + round((last + 0.01) * 1e9))}
        span |= {"attributes": _attributes(**told)}
        scope = {"scope": {"name": "tensorix_tracing"}, "spans": [span]}
        service = {"attributes": _attributes(service__name="assistant", host__name=f"web-{n % 2 + 1}")}
        lines.append(json.dumps({"resourceSpans": [{"resource": service, "scopeSpans": [scope]}]}))
    spans = folder / "traces.jsonl"
    spans.write_text("\n".join(lines) + "\n", "utf-8")
    _tensorix("spans", str(spans), "--out", str(folder / "traces"))
    return folder / "traces" / "report" / "report.html"


_Made = Callable[[Path], Path]
PICTURES: dict[str, tuple[_Made, int]] = {
    "load": (lambda folder: _load(folder) / "report.html", 870),
    "ttft": (lambda folder: _load(folder) / "ttft.png", 0),
    "rate-limit": (lambda folder: _limits(folder) / "report.html", 870),
    "remaining": (lambda folder: _limits(folder) / "remaining_requests.png", 0),
    "capacity": (_capacity, 950),
    "uptime": (_uptime, 1000),
    "traces": (_traces, 820),
    "comparison": (_comparison, 900),
}
"""Name: what makes it, and how much of a page's top is shown, in pixels; 0 where it is a picture already."""


def _photograph(page: Path, to: Path, height: int) -> None:
    """What a browser shows of the top of a page."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("Chromium is not installed (Debian, Ubuntu: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as profile:
        size = (f"--window-size=1000,{height}", f"--user-data-dir={profile}", f"--screenshot={to}")
        subprocess.run([program, *_FLAGS.split(), *size, page.as_uri()], check=True, capture_output=True, timeout=90)


def main() -> None:
    """Make the pictures that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures", metavar="FOLDER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the runs here, and leave them")
    parser.add_argument("--list", action="store_true", help="the names, and no more")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in PICTURES]:
        parser.error(f"there is no picture {unknown[0]!r}, but {', '.join(PICTURES)}")
    if asked.list:
        print("\n".join(PICTURES))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    large = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = (asked.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.names or PICTURES:
            make, height = PICTURES[name]
            made, to = make(folder), asked.out.resolve() / f"{name}.png"
            if height:
                _photograph(made, to, height)
            else:
                shutil.copyfile(made, to)
            size = to.stat().st_size
            print(f"{to.name:20} {size:9,} bytes", flush=True)
            if size > MOST_BYTES:
                large.append(to.name)
    if large:
        sys.exit(f"over {MOST_BYTES:,} bytes: {', '.join(large)}")


if __name__ == "__main__":
    main()
