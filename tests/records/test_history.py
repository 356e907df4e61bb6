"""The history of probes: what is written comes back, adds up, and is forgotten in time; in SQLite and PostgreSQL."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorix_records.history import History, HourRow, ResultRow, RoundRow, merge_phases, phase_percentile_ns

MakeRound = Callable[..., RoundRow]
HOUR_NS = 3600 * 10**9
START = 1_800_000_000_000_000_000 // HOUR_NS * HOUR_NS
FOREVER = {"keep_results_s": 1e10, "keep_hours_s": 1e10}
_MODERATE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_rounds_come_back_as_they_were(history_url: str, make_round: MakeRound) -> None:
    """Every column of rounds and results, oldest first, whatever order they were written in."""
    rounds = [make_round(number) for number in range(3)]
    rounds[1] = replace(
        rounds[1],
        state="down",
        location=None,
        reason="größer 模型 🙂",
        cause_check="chat",
        cause="status_is_200",
        slot_unix_ns=7,
        maintenance="sunday",
        trace_id="t",
        results=(
            replace(rounds[1].results[1], state="down", failed=("status_is_200", "b"), error_kind="k", error_phase="p"),
        ),
    )
    with History.open(history_url) as history:
        history.append(rounds[::-1])
        assert list(history.rounds()) == rounds
        assert [row.results for row in history.rounds(results=False)] == [()] * 3
    with History.open(history_url, create=False) as again:
        assert list(again.rounds()) == rounds


def test_a_round_is_kept_once(history_url: str, make_round: MakeRound) -> None:
    """Appended again, in the same batch or later, a round stays as it was first."""
    first, other = make_round(1), make_round(2)
    with History.open(history_url) as history:
        history.append([first, replace(first, state="down"), other])
        history.append([replace(first, state="down", results=()), other])
        assert list(history.rounds()) == [first, other]


def test_reading_is_paged_and_bounded(history_url: str, make_round: MakeRound) -> None:
    """Thousands of rounds, many of one instant, come in order and once; bounds are [since, until)."""
    rounds = [make_round(number, started_unix_ns=START + number // 700, results=()) for number in range(1_501)]
    rounds.append(make_round(9_999, target="there", location="nyc", started_unix_ns=START + 5, results=()))
    with History.open(history_url) as history:
        history.append(rounds)
        assert [row.round_id for row in history.rounds()] == [row.round_id for row in rounds]
        within = history.rounds(since_unix_ns=START + 1, until_unix_ns=START + 2)
        assert [row.round_id for row in within] == [row.round_id for row in rounds[700:1400]]
        assert [row.target for row in history.rounds(target="there")] == ["there"]
        assert [row.target for row in history.rounds(location="nyc")] == ["there"]
        assert history.targets() == ["here", "there"]


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=2),
    max_leaves=4,
)
_TEXT = st.text(st.characters(codec=None), max_size=8)


@pytest.fixture
def opened(history_url: str) -> Iterator[History]:
    """A new history, open."""
    with History.open(history_url) as history:
        yield history


@settings(_MODERATE, max_examples=25)
@given(text=_TEXT, whole=st.integers(), figure=st.floats(), anything=_ANYTHING, number=st.integers())
def test_nothing_that_a_server_sends_keeps_a_round_out(
    opened: History, make_round: MakeRound, text: str, whole: int, figure: float, anything: Any, number: int
) -> None:
    """NUL, half a surrogate pair, NaN and numbers beyond 64 bits are written as near to it as can be."""
    result = replace(
        make_round().results[1],
        reason=text,
        tokens=whole,
        cost=figure,
        figures={text: figure},
        model=text,
        failed=(text,),
        assertions=({"name": text, "held": False, "detail": text, "otherwise": anything},),
    )
    row = make_round(0, round_id=f"id {number} {text}", started_unix_ns=number, reason=text, results=(result, result))
    opened.append([row], remember={"it": anything})
    assert len(list(opened.rounds(since_unix_ns=-(2**62)))) == 1
    opened.maintain(2**62, **FOREVER)
    (hour,) = opened.hours(since_unix_ns=-(2**62) // HOUR_NS * HOUR_NS, checks=False)
    assert hour.up == 1
    opened.maintain(2**62 + 2 * HOUR_NS, keep_results_s=0, keep_hours_s=0)
    assert list(opened.hours(since_unix_ns=-(2**62) // HOUR_NS * HOUR_NS)) == []


# A plain model of a history: lists, and sums worked out anew each time.

_STATES = ["up", "degraded", "inconclusive", "payment", "down"]


def _bucket(length: int) -> int:
    length = max(length, 1)
    octave = length.bit_length() - 1
    return octave * 16 + (length * 16 >> octave) - 16


def _expected_hours(rounds: list[RoundRow]) -> list[HourRow]:
    parts: dict[Any, list[tuple[str, dict[str, int], str, list[ResultRow]]]] = {}
    for row in rounds:
        hour = row.started_unix_ns // HOUR_NS * 3600
        where = row.target, hour, row.location or ""
        cause = f"{row.cause_check}.{row.cause}" if row.cause else row.cause_check or ""
        inside = row.maintenance is not None
        parts.setdefault((*where, "", inside), []).append(
            (row.state, {"total": row.duration_ns}, cause, list(row.results))
        )
        for one in row.results:
            cause = f"{one.check}.{one.failed[0]}" if one.failed else one.check
            phases = dict(one.phases_ns) if one.state in ("up", "degraded") else {}
            parts.setdefault((*where, one.check, inside), []).append((one.state, phases, cause, [one]))
    return [_expected_hour(key, parts[key]) for key in sorted(parts)]


def _expected_hour(key: Any, parts: list[Any]) -> HourRow:
    target, hour, location, check, inside = key
    causes: dict[str, int] = {}
    lengths: dict[str, list[int]] = {}
    for state, phases, cause, _ in parts:
        if state != "up" and cause:
            causes[cause] = causes.get(cause, 0) + 1
        for name, length in phases.items():
            lengths.setdefault(name, []).append(length)
    used = [one for *_, results in parts for one in results]
    costs = [one.cost for one in used if one.cost is not None]
    counts: Any = {state: sum(part[0] == state for part in parts) for state in _STATES}
    return HourRow(
        target=target,
        location=location or None,
        check=check or None,
        hour_unix_s=hour,
        maintenance=inside,
        **counts,
        phases={
            name: {
                "count": len(some),
                "sum_ns": sum(some),
                "min_ns": min(some),
                "max_ns": max(some),
                "buckets": {bucket: [_bucket(one) for one in some].count(bucket) for bucket in set(map(_bucket, some))},
            }
            for name, some in lengths.items()
        },
        causes=causes,
        requests=sum(one.requests for one in used),
        tokens=sum(one.tokens for one in used),
        cost=sum(costs) if costs else None,
    )


class _Model:
    """What a history would be with lists."""

    def __init__(self) -> None:
        self.rounds: dict[str, RoundRow] = {}
        self.fresh = set[str]()
        self.counted: list[RoundRow] = []

    def append(self, rows: list[RoundRow]) -> None:
        for row in rows:
            if row.round_id not in self.rounds:
                self.rounds[row.round_id] = row
                self.fresh.add(row.round_id)

    def maintain(self, now: int, keep_results_s: float, keep_hours_s: float) -> None:
        over = now // HOUR_NS * HOUR_NS
        for name in sorted(self.fresh):
            if self.rounds[name].started_unix_ns < over:
                self.counted.append(self.rounds[name])
                self.fresh.remove(name)
        oldest = now - keep_results_s * 1e9
        self.rounds = {
            name: row for name, row in self.rounds.items() if name in self.fresh or row.started_unix_ns >= oldest
        }
        first = (now - int(keep_hours_s * 1e9)) // HOUR_NS * HOUR_NS
        self.counted = [row for row in self.counted if row.started_unix_ns >= first]

    def hours(self) -> list[HourRow]:
        return _expected_hours(self.counted + [self.rounds[name] for name in self.fresh])


def _some_round(number: int, minute: int, state: int, target: str, location: str | None, inside: bool) -> RoundRow:
    start = START + minute * 60 * 10**9
    named: Any = _STATES[state]
    result = ResultRow(
        check="chat" if number % 2 else "stream",
        state=named,
        started_unix_ns=start + 1,
        phases_ns={"total": number * 7_919 + 1, "dns": minute},
        failed=("a",) if state else (),
        tokens=number,
        requests=1,
        cost=0.5 * state if number % 3 else None,
    )
    return RoundRow(
        round_id=f"r-{number}",
        target=target,
        location=location,
        state=named,
        started_unix_ns=start,
        duration_ns=number * 1_000 + 5,
        cause_check="chat" if state else None,
        cause="a" if state == 4 else None,
        maintenance="window" if inside else None,
        results=(result,) * (number % 4 > 0),
    )


_ROUND = st.tuples(
    st.integers(0, 60 * 8),
    st.integers(0, 4),
    st.sampled_from(["here", "there"]),
    st.sampled_from([None, "fra"]),
    st.booleans(),
)
_STEP = st.one_of(
    st.lists(_ROUND, max_size=6).map(lambda rounds: ("append", rounds)),
    st.integers(0, 60 * 9).map(lambda minute: ("maintain", minute)),
    st.just(("again", None)),
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history with nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "history.db"
    History.open(str(path)).close()
    return path


_TRIED = given(
    steps=st.lists(_STEP, max_size=8), keep=st.tuples(st.integers(0, 9), st.integers(0, 12)), since=st.integers(0, 9)
)


@settings(_MODERATE, max_examples=50)
@_TRIED
def test_hours_are_the_sums_of_all_rounds_whenever_they_were_rolled_up(
    empty: Path, tmp_path: Path, steps: list[Any], keep: tuple[int, int], since: int
) -> None:
    """Late rounds, a clock that steps back, maintenance at any time: as a plain model with lists has it."""
    _hours_are_those_of_a_model(empty, tmp_path, steps, keep, since)


@pytest.mark.slow
@settings(_MODERATE, max_examples=1_000)
@_TRIED
def test_a_thousand_histories_have_the_hours_of_the_model(
    empty: Path, tmp_path: Path, steps: list[Any], keep: tuple[int, int], since: int
) -> None:
    """The same, twenty times as often."""
    _hours_are_those_of_a_model(empty, tmp_path, steps, keep, since)


def _hours_are_those_of_a_model(
    empty: Path, tmp_path: Path, steps: list[Any], keep: tuple[int, int], since: int
) -> None:
    path = shutil.copy(empty, tmp_path / "history.db")
    kept = {"keep_results_s": keep[0] * 3600.0, "keep_hours_s": keep[1] * 3600.0}
    model, number = _Model(), 0
    with History.open(str(path), create=False) as history:
        unsynced = history._engine.raw_connection()  # the disk is not what is tried here, and may be slow
        unsynced.cursor().execute("PRAGMA synchronous = OFF")
        unsynced.close()
        for what, argument in steps:
            if what == "append":
                rows = [_some_round(number + index, *one) for index, one in enumerate(argument)]
                number += len(rows)
            elif what == "again":
                rows = list(model.rounds.values())
            else:
                now = START + argument * 60 * 10**9
                history.maintain(now, **kept)
                model.maintain(now, **kept)
                continue
            history.append(rows)
            model.append(rows)
        expected = model.hours()
        assert list(history.hours()) == expected
        assert list(history.hours(checks=False)) == [row for row in expected if row.check is None]
        from_s = START // 10**9 + since * 3600
        later = history.hours(target="here", since_unix_ns=from_s * 10**9 - 1, until_unix_ns=(from_s + 7200) * 10**9)
        assert list(later) == [
            row for row in expected if row.target == "here" and from_s <= row.hour_unix_s < from_s + 7200
        ]
        assert sorted(history.rounds(), key=lambda row: row.round_id) == sorted(
            model.rounds.values(), key=lambda row: row.round_id
        )


def test_hours_add_up_in_postgresql_as_in_sqlite(history_url: str) -> None:
    """Rolled up in two goes with a late round between them, the hours are those of all rounds; then they are gone."""
    rounds = [_some_round(number, number * 3, number % 5, "here", "fra", number % 7 == 0) for number in range(100)]
    late = _some_round(500, 1, 4, "here", "fra", False)
    with History.open(history_url) as history:
        history.append(rounds)
        history.maintain(START + 2 * HOUR_NS + 5, **FOREVER)
        history.append([late])
        assert list(history.hours()) == _expected_hours([*rounds, late])
        history.maintain(START + 4 * HOUR_NS, **FOREVER)
        assert list(history.hours()) == _expected_hours([*rounds, late])
        history.maintain(START + 6 * HOUR_NS, keep_results_s=3600, keep_hours_s=1e9)
        assert list(history.hours()) == _expected_hours([*rounds, late])
        assert list(history.rounds()) == []
        history.maintain(START + 6 * HOUR_NS, keep_results_s=3600, keep_hours_s=3 * 3600)
        assert {row.hour_unix_s for row in history.hours()} == {(START + n * HOUR_NS) // 10**9 for n in (3, 4)}


def test_what_a_key_spent(history_url: str, make_round: MakeRound) -> None:
    """Each result that used something of the key, since then, oldest first."""
    rounds = [make_round(number) for number in range(4)]
    other = replace(make_round(9), results=(replace(make_round(9).results[1], key_alias="key-2"),))
    with History.open(history_url) as history:
        history.append([*rounds[::-1], other])
        since = rounds[1].results[1].started_unix_ns
        assert history.spends("key-1", since) == [(row.results[1].started_unix_ns, 1, 20, 0.25) for row in rounds[1:]]


def test_what_a_key_spent_by_targets(history_url: str, make_round: MakeRound) -> None:
    """One word may be a key of several servers: of the named targets only."""
    here, there = make_round(1), replace(make_round(2), target="elsewhere")
    with History.open(history_url) as history:
        history.append([here, there])
        assert len(history.spends("key-1", 0)) == 2
        [(at, *_)] = history.spends("key-1", 0, targets=["elsewhere"])
        assert at == there.results[1].started_unix_ns
        assert history.spends("key-1", 0, targets=["nobody"]) == []


def test_what_is_remembered(history_url: str, make_round: MakeRound) -> None:
    """JSON by name, the last of a name, written together with rounds or alone."""
    with History.open(history_url) as history:
        assert history.recall("a") is None
        history.remember("a", [1, {"b": None}])
        history.append([make_round()], remember={"a": "x", "b": 2})
        assert (history.recall("a"), history.recall("b")) == ("x", 2)


def test_percentiles_of_phases_are_within_their_bucket() -> None:
    """Merged in any order, a percentile is within 3.2 % of the exact one, and inside of what was seen."""
    lengths = [1_000 + 37 * number * number for number in range(1_000)]
    from tensorix_records.history._phases import phase_of

    merged = merge_phases(map(phase_of, lengths[::-1]))
    assert merged is not None
    for percent in (0, 1, 50, 90, 99, 100):
        exact = sorted(lengths)[round(percent / 100 * 999)]
        assert phase_percentile_ns(merged, percent) == pytest.approx(exact, rel=0.032)
    assert phase_percentile_ns(phase_of(123), 50) == 123
    assert merge_phases([]) is None


def test_the_library_is_imported_only_by_who_keeps_a_history(subprocess_environment: dict[str, str]) -> None:
    """`import tensorix_records` loads neither SQLAlchemy nor Alembic."""
    program = "import sys, tensorix_records; print({'sqlalchemy', 'alembic'} & set(sys.modules))"
    ran = subprocess.run(
        [sys.executable, "-c", program], env=subprocess_environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "set()"
