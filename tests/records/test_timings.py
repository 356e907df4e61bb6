from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorix_records import RequestRecord
from tensorix_records import timings as t
from tensorix_records._schema import batch_of_rows, row_of_record

Maker = Callable[..., RequestRecord]
_T0 = 1_800_000_000_000_000_000


@pytest.fixture
def table_of(make_record: Maker) -> Callable[..., Any]:
    """A table with one row for each dictionary of columns, streamed unless it says otherwise."""
    import pyarrow as pa

    def make(*rows: dict[str, Any]) -> Any:
        records = [make_record(number, **({"stream": True} | row)) for number, row in enumerate(rows)]
        if not records:
            return pa.Table.from_batches([], batch_of_rows([row_of_record(make_record())])[0].schema)
        return pa.Table.from_batches([batch_of_rows([row_of_record(record) for record in records])[0]])

    return make


def _list(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def test_times_to_first_token_and_output(table_of: Callable[..., Any]) -> None:
    """TTFT and TTFO are those of streams only; a reply in one piece has none, whatever its stamps."""
    table = table_of(
        {"first_token_at_ns": 5, "first_output_at_ns": 9},
        {"first_token_at_ns": 5},
        {"first_token_at_ns": 5, "first_output_at_ns": 5, "stream": False},
        {"first_token_at_ns": 5, "stream": None},
        {},
    )
    assert _list(t.ttft_ns(table)) == [5, 5, None, None, None]
    assert _list(t.ttfo_ns(table)) == [9, None, None, None, None]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 10),
        ({"completion_tokens": 2}, 100),
        ({"completion_tokens": 1}, None),
        ({"completion_tokens": 0}, None),
        ({"completion_tokens": None}, None),
        ({"n": 1}, 10),
        ({"n": 2}, None),
        ({"reasoning_tokens": 0}, 10),
        ({"reasoning_tokens": 4, "first_output_at_ns": 60}, 10),
        ({"reasoning_tokens": 4, "first_output_at_ns": None}, 10),
        ({"reasoning_tokens": 4}, None),
        ({"last_token_at_ns": None}, None),
        ({"stream": False}, None),
    ],
)
def test_inter_token_latency(table_of: Callable[..., Any], changes: dict[str, Any], expected: float | None) -> None:
    """First to last token over tokens less one; null below two tokens, for n > 1 and for reasoning not streamed."""
    plain = {"first_token_at_ns": 50, "first_output_at_ns": 50, "last_token_at_ns": 150, "completion_tokens": 11}
    assert _list(t.itl_ns(table_of(plain | changes))) == [expected]


def test_latency_from_intended_includes_the_delay(table_of: Callable[..., Any]) -> None:
    """What a stalled client did not send in time counts; a closed loop has no such figure."""
    table = table_of({"end_at_ns": 70, "intended_at_ns": -30}, {"end_at_ns": 70})
    assert _list(t.e2e_ns(table)) == [70, 70]
    assert _list(t.latency_from_intended_ns(table)) == [100, None]


def test_schedule_delay_has_four_parts(table_of: Callable[..., Any]) -> None:
    """Waiting for a user, the gate, opening a connection and the client's own dispatch add up to the whole delay."""
    delay = t.schedule_delay(
        table_of(
            {"intended_at_ns": -100, "user_ready_at_ns": -70, "connect_start_at_ns": -60, "tls_done_at_ns": -10},
            {"intended_at_ns": -100, "user_ready_at_ns": -300, "held_ns": 70, "connection_reused": True},
            {"user_ready_at_ns": -40, "connect_start_at_ns": -30, "dns_done_at_ns": -25, "tcp_done_at_ns": -20},
            {},
        )
    )
    assert _list(delay.waiting_ns) == [30, 0, 0, None]
    assert _list(delay.held_ns) == [0, 70, 0, 0]
    assert _list(delay.connecting_ns) == [50, 0, 10, 0]
    assert _list(delay.dispatch_ns) == [20, 30, 30, None]


def test_the_steady_state_is_from_warm_up_to_the_last_start(table_of: Callable[..., Any]) -> None:
    """A request belongs to it by its start alone, however long it took; its length ends with the last start."""
    rows = [{"start_unix_ns": _T0 + second * 10**9, "end_at_ns": 60 * 10**9} for second in range(11)]
    table = table_of(*rows)
    window = t.Window.of(table, warmup_s=3)
    assert window.seconds == 7
    assert window.contains(t.start_unix_ns(table)).tolist() == [False] * 3 + [True] * 8
    assert t.Window.of(table, last_start_unix_ns=_T0 + 20 * 10**9).seconds == 20
    assert t.Window.of(table, warmup_s=30).seconds == 0
    assert t.Window.of(table_of()).seconds == 0


def test_starts_are_exact(table_of: Callable[..., Any]) -> None:
    """Unix nanoseconds do not pass through floats, which would lose the last 8 bits."""
    assert t.start_unix_ns(table_of({"start_unix_ns": _T0 + 1})).tolist() == [_T0 + 1]


def test_output_tokens_are_counted_when_they_arrived(table_of: Callable[..., Any]) -> None:
    """A stream of ten seconds is spread over them; a reply in one piece arrives at its end."""
    second = 10**9
    table = table_of(
        {
            "start_unix_ns": _T0,
            "first_token_at_ns": second // 2,
            "last_token_at_ns": second * 5 // 2,
            "completion_tokens": 40,
        },
        {"start_unix_ns": _T0 + second, "stream": False, "end_at_ns": second * 7 // 2, "completion_tokens": 7},
        {"start_unix_ns": _T0, "completion_tokens": None, "end_at_ns": second},
        {"start_unix_ns": _T0, "completion_tokens": 5},
    )
    seconds, tokens = t.output_tokens_per_second(table)
    assert seconds.tolist() == [_T0 // second + index for index in range(5)]
    assert tokens.tolist() == pytest.approx([10, 20, 10, 0, 7])
    assert t.output_tokens_in(table, t.Window(_T0 + second, _T0 + 2 * second)) == pytest.approx(20)
    assert t.output_tokens_in(table, t.Window(_T0, _T0 + 10 * second)) == pytest.approx(47)
    assert t.output_tokens_in(table, t.Window(_T0 + 10 * second, _T0 + 20 * second)) == 0


def test_no_token_is_lost_among_many_requests(table_of: Callable[..., Any]) -> None:
    """The bins add up to the tokens, and to what a window over the same seconds holds."""
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(500):
        first = int(rng.integers(0, 3 * 10**9))
        rows.append(
            {
                "start_unix_ns": _T0 + int(rng.integers(0, 20 * 10**9)),
                "first_token_at_ns": first,
                "last_token_at_ns": first + int(rng.integers(0, 8 * 10**9)) * int(rng.integers(0, 2)),
                "completion_tokens": int(rng.integers(0, 300)),
            }
        )
    table = table_of(*rows)
    seconds, tokens = t.output_tokens_per_second(table)
    assert tokens.sum() == pytest.approx(sum(row["completion_tokens"] for row in rows))
    for index in (3, 10):
        # One instant short of the next second, so that a single-token reply on the edge is not in both.
        window = t.Window(int(seconds[index]) * 10**9, int(seconds[index + 4]) * 10**9 - 1)
        assert t.output_tokens_in(table, window) == pytest.approx(tokens[index : index + 4].sum(), rel=1e-6)
    empty_seconds, empty_tokens = t.output_tokens_per_second(table_of())
    assert empty_seconds.size == empty_tokens.size == 0


def test_throttled_and_cancelled_are_no_errors(table_of: Callable[..., Any]) -> None:
    """The error rate is failed out of failed and successful; the rest stands apart."""
    outcomes = ["success"] * 6 + ["failed"] * 2 + ["throttled"] * 5 + ["cancelled"]
    table = table_of(*({"outcome": outcome} for outcome in outcomes))
    figure = t.error_rate(table)
    assert (figure.value, figure.count) == (0.25, 8)
    assert t.successful(table).sum() == 6
    assert t.outcome_is(table, "throttled").sum() == 5
    assert t.error_rate(table_of()).value is None
