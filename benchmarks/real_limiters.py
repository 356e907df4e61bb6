"""Does `tensorix limits` find out limiters that others made? nginx, haproxy and a LiteLLM gateway, on this machine.

    python benchmarks/real_limiters.py [--only nginx] [--jobs 2] [--litellm PROGRAM] [--runs FOLDER]

Starts each server with a configuration of its own in front of a simulated model that has no limit, runs the command on
it as a user would, and holds its JSON against what was configured: the kind, the parameters to 5 %, the requests within
what was announced. Servers that are not installed are named and left out. Exit status 1 where something is wrong, 2
where no server is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from real_limiters_gateway import INSTALLED, litellm
from real_limiters_judging import Expected, Judged, gateway_facts, judged
from real_limiters_servers import MissingError, haproxy, haproxy_cleared, nginx
from tensorix_simulator import Simulator

_TIMEOUT_S = 480.0
_TRACKED = "track-sc0 req.hdr(authorization) if { path_beg /v1/ }"
_REFUSE = "deny deny_status 429 if"


@dataclass(frozen=True, slots=True)
class Trial:
    """One server. `serve(folder, port of the model)` runs it and gives its base URL."""

    name: str
    serve: Callable[[Path, int], AbstractContextManager[str]]
    expected: Expected
    options: tuple[str, ...] = ()


def _trials(program: Path, model: str) -> list[Trial]:
    """The servers, those that take longest first."""
    gateway = partial(litellm, program=program, model=model, rpm=60, tpm=2_000_000)
    slow = partial(nginx, rate="60r/m", burst=9)
    return [
        Trial(
            "litellm, window 60 s",
            partial(gateway, window_s=60),
            Expected("fixed_window", 60, 60.0, facts=gateway_facts),
            ("--model", "simulated"),
        ),
        Trial(
            "litellm, window 10 s",
            partial(gateway, window_s=10),
            Expected("fixed_window", 60, 10.0, facts=gateway_facts),
            ("--model", "simulated", "--window", "10s"),
        ),
        Trial(
            "nginx 60r/m, 429",
            partial(slow, refuses_with=429),
            Expected("token_bucket", 60, 60.0, burst=10, counts_refused=False),
        ),
        Trial(
            "nginx 60r/m, 503",
            partial(slow, refuses_with=None),
            Expected("token_bucket", 60, 60.0, burst=10, counts_refused=False, refuses_with=503),
        ),
        Trial(
            "nginx 600r/m, 429",
            partial(nginx, rate="600r/m", burst=19, refuses_with=429),
            Expected("token_bucket", 600, 60.0, burst=20, counts_refused=False),
        ),
        Trial(
            "nginx 10r/s, 503",
            partial(nginx, rate="10r/s", burst=19, refuses_with=None),
            Expected("token_bucket", 10, 1.0, burst=20, counts_refused=False, refuses_with=503),
            ("--window", "1s"),
        ),
        Trial(
            "haproxy http_req_rate",
            partial(
                haproxy,
                table="expire 60s store http_req_rate(10s)",
                rules=(_TRACKED, f"{_REFUSE} {{ sc_http_req_rate(0) gt 20 }}"),
            ),
            Expected("sliding_counter", 20, 10.0, counts_refused=True),
            ("--window", "10s"),
        ),
        Trial(
            "haproxy gpc0_rate",
            partial(
                haproxy,
                table="expire 60s store gpc0,gpc0_rate(10s)",
                rules=(_TRACKED, f"{_REFUSE} {{ sc0_gpc0_rate ge 20 }}", "sc-inc-gpc0(0) if { path_beg /v1/ }"),
            ),
            Expected("sliding_counter", 20, 10.0, counts_refused=False),
            ("--window", "10s"),
        ),
        Trial(
            "haproxy http_req_cnt, cleared",
            partial(
                haproxy_cleared,
                table="expire 1h store http_req_cnt",
                rules=(_TRACKED, f"{_REFUSE} {{ sc_http_req_cnt(0) gt 20 }}"),
                window_s=10.0,
            ),
            Expected("clock_window", 20, 10.0),
            ("--window", "10s"),
        ),
    ]


def _run(trial: Trial, model_port: int, run: Path, folder: Path) -> Judged:
    """Start the server, run the command, judge. Raises MissingError, and RuntimeError with what went wrong."""
    with trial.serve(folder, model_port) as base_url:
        command = [sys.executable, "-m", "tensorix_cli", "limits", "--base-url", base_url, "--yes", "--json"]
        ended = subprocess.run(
            [*command, "--out", str(run), *trial.options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env=os.environ | {"TENSORIX_API_KEY": "sk-real-0123456789abcdef"},
        )
    announced = re.search(r"at most ([\d,]+) requests", ended.stderr)
    if ended.returncode not in (0, 3) or announced is None:
        said = ended.stderr.strip().splitlines()[-2:]
        raise RuntimeError(f"the command ended with {ended.returncode}: {' / '.join(said)}")
    found = judged(json.loads(ended.stdout), trial.expected, int(announced[1].replace(",", "")))
    if ended.returncode != 0 and not found.wrong:
        found.wrong.append(f"exit status {ended.returncode}, though one kind is stated")
    return found


def _columns(trial: Trial, one: Judged | Exception) -> tuple[str, ...]:
    if isinstance(one, Exception):
        return trial.name, str(trial.expected), str(one), "", "", "", "no"
    probability = "" if one.probability is None else f"{one.probability:.3f}"
    ok = "yes" if not one.wrong else "no: " + "; ".join(one.wrong)
    return trial.name, str(trial.expected), one.found, probability, f"{one.requests}", f"{one.seconds:.0f}", ok


def main() -> int:
    """Run all and print the table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the servers whose name has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="so many servers at a time")
    parser.add_argument("--litellm", type=Path, default=INSTALLED, metavar="PROGRAM", help="another litellm")
    parser.add_argument("--runs", type=Path, default=None, metavar="FOLDER", help="keep the run folders there")
    asked = parser.parse_args()
    lock, missing = threading.Lock(), list[str]()
    with (
        tempfile.TemporaryDirectory() as temporary,
        Simulator(rpm=None, tpm=None, headers="none", ttft="5ms", between_tokens="1ms", reply_tokens="20") as model,
        ThreadPoolExecutor(asked.jobs) as pool,
    ):
        port = int(re.findall(r":(\d+)", model.base_url)[0])
        trials = [one for one in _trials(asked.litellm, model.settings.models[0]) if asked.only in one.name]

        def of(trial: Trial) -> Judged | Exception | None:
            name = re.sub(r"\W+", "-", trial.name)
            folder = Path(temporary) / name
            folder.mkdir()
            run = folder / "run" if asked.runs is None else asked.runs / name
            try:
                one: Judged | Exception = _run(trial, port, run, folder)
            except MissingError as error:
                with lock:
                    if str(error) not in missing:
                        missing.append(str(error))
                        print(f"left out: {error}", flush=True)
                return None
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                one = error
            with lock:
                print(f"done: {trial.name}: {'  '.join(_columns(trial, one)[2:])}", file=sys.stderr, flush=True)
            return one

        tried = list(pool.map(of, trials))
        found = [(trial, one) for trial, one in zip(trials, tried, strict=True) if one is not None]
    if not found:
        print("none of the servers is installed", file=sys.stderr)
        return 2
    print("\n| server | expected | found | probability | requests | seconds | ok |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- |")
    for trial, one in found:
        print(f"| {' | '.join(_columns(trial, one))} |")
    return int(any(isinstance(one, Exception) or one.wrong for _, one in found))


if __name__ == "__main__":
    sys.exit(main())
