"""When a client says of itself that it is the bottleneck, and what helps."""

from __future__ import annotations

from typing import Any

import pytest

from tensorix_loadtests._saturation import Saturation
from tensorix_records import RequestRecord

_MS = 1_000_000


def _record(**columns: Any) -> RequestRecord:
    least: dict[str, Any] = {
        "run_id": "r",
        "record_id": "1",
        "request_id": "1",
        "endpoint": "/models",
        "start_unix_ns": 0,
        "outcome": "success",
        "headers_at_ns": 5 * _MS,
        "user_ready_at_ns": -900 * _MS,
    }
    return RequestRecord(**(least | columns))


@pytest.mark.parametrize(
    ("what", "second"),
    [
        ("cpu", {"cpu_share": 0.93}),
        ("loop_lag", {"loop_lag_max_ns": 150 * _MS}),
        ("dispatch", {"dispatch_delay_p99_ns": 40 * _MS}),
    ],
)
def test_three_bad_seconds_of_five_are_said_once(what: str, second: dict[str, Any]) -> None:
    """One or two bad seconds may be anything's fault; at the third it is said, with what helps, and not again."""
    saturation = Saturation()
    fine = {"cpu_share": 0.5, "loop_lag_max_ns": 2 * _MS, "dispatch_delay_p99_ns": _MS}
    told = [saturation.second(fine | one) for one in (second, {}, {}, {}, second, second, {}, second, second)]
    assert [[one.what for one in each] for each in told] == [[]] * 7 + [[what], []]
    assert "--processes" in told[7][0].advice


def test_too_few_users_are_said_at_once() -> None:
    """Arrivals that wait while every user waits for an answer are the fault of the most users allowed."""
    saturation = Saturation(most_users=50)
    assert saturation.second({"waited_for_user_max_ns": 900 * _MS, "most_users_reached": False}) == []
    (said,) = saturation.second({"waited_for_user_max_ns": 900 * _MS, "most_users_reached": True})
    assert said.what == "users"
    assert "all 50 users" in said.words
    assert "0.9 s" in said.words


def test_the_dispatch_delay_leaves_out_what_is_nobodys_fault() -> None:
    """Waiting for the instant, for a user, at the gate and for a connection are none; retries have none."""
    saturation = Saturation()
    for columns in (
        {"intended_at_ns": -3 * _MS},
        {"intended_at_ns": -80 * _MS, "user_ready_at_ns": -4 * _MS},
        {"intended_at_ns": -80 * _MS, "held_ns": 78 * _MS},
        {"intended_at_ns": -80 * _MS, "connect_start_at_ns": -79 * _MS, "tcp_done_at_ns": -2 * _MS},
        {"intended_at_ns": -80 * _MS, "attempt": 2},
        {"intended_at_ns": -80 * _MS, "headers_at_ns": None},
        {},
    ):
        saturation.on_record(_record(**columns))
    assert saturation.dispatch() == {"dispatch_delay_p99_ns": 4 * _MS}
    assert saturation.dispatch() == {}
