"""What `probe_soak.py` looks at: the figures, and the bounds they have to keep to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from probe_soak_serving import INTERVAL_S, Serving, key_of, offset_s
from tensorix_api import Secret
from tensorix_records.history import History

Row: TypeAlias = tuple[str, str, str, bool | None]
"""What was looked at, what was seen, what was wanted, and whether it held; None where nothing was wanted."""

LATE_S = 0.1


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
    late_on_the_way: int
    """Slots among the missing whose round began in time, by the probe's own record of it: its request came later."""


def punctuality(
    arrivals: dict[str, list[float]], lives: list[Serving], numbers: range, begun: dict[str, list[float]]
) -> Punctuality:
    """Look at each slot from 10 s after each start, since the first round has a time of its own, to the last look.

    `begun` has the slots (Unix s), by target, of the rounds that began within 100 ms by the probe's own record.
    """
    found = Punctuality([], 0, 0, 0, 0)
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
                own = begun.get(f"t{number}", ())
                if not in_time and any(abs(slot - life.monotonic_less_unix_s - at) < 1.0 for at in own):
                    found.late_on_the_way += 1
                k += 1
    return found


def first_requests(truth: list[dict[str, Any]]) -> dict[str, list[float]]:
    """When each round's first request arrived (the list of models), by key: seconds of the monotonic clock."""
    found: dict[str, list[float]] = {}
    for event in truth:
        if str(event["path"]).endswith("/models") and event["key_alias"] is not None and event["status"] == 200:
            found.setdefault(event["key_alias"], []).append(event["arrival_ns"] / 1e9)
    return found


def punctual(name: str, seen: Punctuality, lives: list[Serving], numbers: range) -> Iterator[Row]:
    """How some targets kept to their slots."""
    missed = round(sum(life.total("tensorix_probe_missed_total", f"target=t{n}") for life in lives for n in numbers))
    late = sorted(seen.late_s) or [math.nan]
    figures = [late[int(share * (len(late) - 1))] * 1e3 for share in (0.5, 0.99, 1.0)]
    yield f"{name}: slots", f"{seen.slots}", "", None
    words = "median {:.1f} ms, p99 {:.1f} ms, most {:.1f} ms".format(*figures)
    yield f"{name}: first request after its slot", words, f"≤ {LATE_S * 1e3:.0f} ms", late[-1] <= LATE_S
    held = seen.missing <= missed + seen.late_on_the_way
    words = f"{seen.missing}; {missed}; {seen.late_on_the_way}"
    yield f"{name}: slots without one; counted as missed; begun in time", words, "none of neither", held
    # A slot that was counted, or whose request was late on its way, may have a request out of time.
    excused = missed + seen.late_on_the_way
    yield f"{name}: requests out of time", f"{seen.odd}", "none but of those", seen.odd <= excused


def harm(lives: list[Serving], stepped: list[Serving], numbers: list[int]) -> Iterator[Row]:
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


def resources(life: Serving, from_s: float) -> Iterator[Row]:
    """What memory and processor time a life took, the memory from a time on."""
    settled = [(at, size / 2**20) for at, size in life.rss if at >= from_s]
    third = (settled[-1][0] - settled[0][0]) / 3
    first = statistics.fmean(size for at, size in settled if at <= settled[0][0] + third)
    last = statistics.fmean(size for at, size in settled if at >= settled[-1][0] - third)
    grown = last - first
    yield "resident memory, first and last third", f"{first:.1f}, {last:.1f} MiB", "+ 3 MiB at most", grown <= 3.0
    share = (life.cpu_s - life.ready_cpu_s) / (life.ended_s - life.ready_s)
    yield "processor", f"{100 * share:.1f} % of a core", "< 10 %", share < 0.1


def begun_in_time(folder: Path) -> dict[str, list[float]]:
    """The slots, Unix s by target, whose round began within 100 ms, by the history."""
    found: dict[str, list[float]] = {}
    with History.open(f"{folder}/disk/main.db", create=False) as history:
        for row in history.rounds(results=False):
            if row.slot_unix_ns is not None and row.started_unix_ns - row.slot_unix_ns <= LATE_S * 1e9:
                found.setdefault(row.target, []).append(row.slot_unix_ns / 1e9)
    return found


def kept(folder: Path) -> dict[str, set[str]]:
    """The rounds in the history, by target: their ids."""
    found: dict[str, set[str]] = {}
    with History.open(f"{folder}/disk/main.db", create=False) as history:
        for row in history.rounds(results=False):
            found.setdefault(row.target, set()).add(row.round_id)
    return found


def keeping(
    lives: list[Serving],
    before: dict[str, set[str]],
    after: dict[str, set[str]],
    end: dict[str, set[str]],
    ended: tuple[int, float],
) -> Iterator[Row]:
    """What was in the history before SIGKILL, after it and at the end; and how SIGTERM ended it."""

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
