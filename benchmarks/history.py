"""How large a history of probes becomes, and how long its questions take: `python benchmarks/history.py [ROUNDS]`.

Twenty targets, a probe a minute, six results a round, about as many assertions, phases and figures as the checks that
come with the toolkit give. The default of 100,000 rounds is three and a half days of them, 864,000 a month.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from tensorix_records.history import History, ResultRow, RoundRow

_TARGETS = [f"target-{number:02}" for number in range(20)]
_CHECKS = {"tls": 4, "models": 5, "chat": 9, "stream": 12, "errors": 5, "ratelimit": 14}
_MINUTE_NS = 60 * 10**9
_PHASES = ("dns", "connect", "tls", "send", "first_byte", "first_chunk", "first_token", "last_byte", "total")


def _rounds(count: int, end_unix_ns: int) -> Iterator[RoundRow]:
    rng = random.Random(1)
    start = end_unix_ns - count // len(_TARGETS) * _MINUTE_NS
    for number in range(count):
        at = start + number // len(_TARGETS) * _MINUTE_NS + rng.randrange(_MINUTE_NS)
        failed = rng.random() < 0.01
        results = []
        for check, assertions in _CHECKS.items():
            bad = failed and check == "chat"
            results.append(
                ResultRow(
                    check=check,
                    state="down" if bad else "up",
                    started_unix_ns=at,
                    duration_ns=rng.randrange(10**9),
                    reason="the server answered 503" if bad else None,
                    failed=("assertion_number_0",) if bad else (),
                    assertions=tuple(
                        {
                            "name": f"assertion_number_{index}",
                            "held": not bad or index > 0,
                            "otherwise": "down",
                            "detail": f"saw {rng.randrange(1000)} of them" if index % 4 == 0 else None,
                        }
                        for index in range(assertions)
                    ),
                    phases_ns={
                        name: int(rng.lognormvariate(18, 0.3)) for name in _PHASES[: 4 if check == "tls" else 9]
                    },
                    figures={"tokens_per_second": round(rng.uniform(10, 90), 3), "largest_gap_s": rng.random()},
                    status=503 if bad else 200,
                    request_id=f"{rng.getrandbits(128):032x}",
                    key_alias="key-0a1b2c3d",
                    model="deepseek/deepseek-chat-v3.1",
                    requests=1,
                    tokens=rng.randrange(100),
                    cost=1e-5,
                )
            )
        yield RoundRow(
            round_id=f"{rng.getrandbits(128):032x}",
            target=_TARGETS[number % len(_TARGETS)],
            location="fra",
            state="down" if failed else "up",
            started_unix_ns=at,
            slot_unix_ns=at,
            duration_ns=rng.randrange(10**9),
            reason="the server answered 503" if failed else None,
            cause_check="chat" if failed else None,
            cause="assertion_number_0" if failed else None,
            trace_id=f"{rng.getrandbits(128):032x}",
            results=tuple(results),
        )


def _timed(what: str, work: Callable[[], Any]) -> None:
    began = time.perf_counter()
    found = work()
    print(f"  {what:<58} {time.perf_counter() - began:9.3f} s   {found if found is not None else ''}")


def main(count: int) -> None:
    """Write, ask, roll up, ask again, forget."""
    now = time.time_ns() // 3_600_000_000_000 * 3_600_000_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        history = History.open(str(path))
        rounds = _rounds(count, now)

        def size() -> str:
            return f"{sum(file.stat().st_size for file in path.parent.iterdir()) / 1e6:,.0f} MB"

        def write() -> str:
            made, written = 0.0, 0.0
            while True:
                began = time.perf_counter()
                batch = list(islice(rounds, 500))
                made += time.perf_counter() - began
                if not batch:
                    return f"of which writing {written:.1f} s: {count / written:,.0f} rounds/s; {size()}"
                began = time.perf_counter()
                history.append(batch)
                written += time.perf_counter() - began

        def all_pages(**of: Any) -> Callable[[], str]:
            return lambda: f"{sum(1 for _ in history.rounds(**of)):,} rounds"

        def all_hours(**of: Any) -> Callable[[], str]:
            return lambda: f"{sum(1 for _ in history.hours(**of)):,} hours"

        day = now - 86_400 * 10**9
        target = _TARGETS[0]

        def questions() -> None:
            _timed("a target's rounds, without results", all_pages(target=target, results=False))
            _timed("a target's rounds of the last day, with results", all_pages(target=target, since_unix_ns=day))
            _timed("a target's hours, of each check", all_hours(target=target))
            _timed("all targets' hours, of rounds", all_hours(checks=False))
            _timed("what a key spent in the last day", lambda: f"{len(history.spends('key-0a1b2c3d', day)):,} results")

        print(f"{count:,} rounds of {len(_CHECKS)} results, SQLite")
        _timed("write, in batches of 500", write)
        one = next(_rounds(1, now))
        _timed("write one round, on the disk", lambda: history.append([one]))
        questions()
        keep = {"keep_results_s": 1e9, "keep_hours_s": 1e9}
        _timed("roll up all of it, in pieces", lambda: history.maintain(now, **keep))
        print("once it is rolled up:")
        questions()
        _timed("all rounds with results", all_pages())
        _timed("forget all rounds, in pieces", lambda: history.maintain(now + 1, keep_results_s=0, keep_hours_s=1e9))
        history.close()
        print(f"  {size()} on the disk; the rows' room is used again")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
