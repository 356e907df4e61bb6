"""How long a user holds back: as the server asks, else longer and longer, never in step with the others."""

from __future__ import annotations

import random

import pytest

from tensorix_loadtests._back_off import BackOff
from tensorix_records import RequestRecord
from tensorix_records.outcome import Outcome


def _record(outcome: Outcome, status: int | None = 200, retry_after_s: float | None = None) -> RequestRecord:
    retry = None if retry_after_s is None else int(retry_after_s * 1e9)
    return RequestRecord(
        run_id="r",
        record_id="1",
        request_id="r.1",
        endpoint="/chat/completions",
        start_unix_ns=0,
        outcome=outcome,
        status=status,
        retry_after_ns=retry,
    )


THROTTLED = _record("throttled", 429)


@pytest.mark.parametrize("asked", [0.5, 1.0, 12.5, 60.0, 3600.0])
def test_retry_after_is_kept(asked: float) -> None:
    """Nobody returns before the server said, nor much later, nor all at one instant."""
    waits = [BackOff(60.0, random.Random(seed)).after(_record("throttled", 429, asked)) for seed in range(200)]
    assert min(waits) >= asked
    assert max(waits) <= asked + max(0.05, asked / 10)
    assert len(set(waits)) > 190


@pytest.mark.parametrize("asked", [0.0, 0.005, 0.017, 0.49])
def test_a_tiny_retry_after_makes_no_storm(asked: float) -> None:
    """Told to come back at once, a user waits as if told nothing: longer with each refusal."""
    rng = random.Random(4)
    backs = [BackOff(60.0, rng) for _ in range(100)]
    for ceiling in (0.5, 1.0, 2.0, 4.0):
        waits = [back.after(_record("throttled", 429, asked)) for back in backs]
        assert min(waits) >= max(asked, ceiling / 2)
        assert max(waits) <= max(asked + 0.05, ceiling)


def test_refused_again_the_longer_wait_counts() -> None:
    """A server that says one second and refuses again after it is given more and more time, never less than said."""
    back = BackOff(60.0, random.Random(6))
    waits = [back.after(_record("throttled", 429, 1.0)) for _ in range(8)]
    assert min(waits) >= 1.0
    assert waits[0] <= 1.1
    assert waits[3] >= 2.0
    assert min(waits[5:]) >= 7.5
    assert back.after(_record("throttled", 429, 30.0)) >= 30.0
    back.after(_record("success"))
    assert back.after(_record("throttled", 429, 1.0)) <= 1.1


def test_server_errors_are_held_back_from() -> None:
    """Errors of the server in a row are waited for ever longer; a success between them starts anew."""
    rng = random.Random(8)
    for status in (500, 502, 503, 599):
        back = BackOff(60.0, rng)
        for ceiling in (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0):
            assert ceiling / 2 <= back.after(_record("failed", status)) <= ceiling
        assert back.after(_record("success")) == 0.0
        assert back.after(_record("failed", status)) <= 0.5


def test_an_absurd_retry_after_is_not_believed() -> None:
    """A server that asks for a century gets a day."""
    wait = BackOff(60.0, random.Random(1)).after(_record("throttled", 429, 3e9))
    assert wait <= 86_400 * 1.1


def test_without_it_the_wait_doubles_up_to_a_quarter_of_the_window() -> None:
    """Refusal after refusal the wait doubles from half a second; none is longer than a quarter of the window."""
    rng = random.Random(7)
    backs = [BackOff(60.0, rng) for _ in range(300)]
    for ceiling in (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0):
        waits = [back.after(THROTTLED) for back in backs]
        assert min(waits) >= ceiling / 2
        assert max(waits) <= ceiling
        # Spread over the whole of its half, so that users do not return in one burst.
        assert max(waits) - min(waits) > 0.9 * ceiling / 2


def test_many_refusals_do_not_overflow() -> None:
    """The ten-thousandth refusal waits as long as the tenth."""
    back = BackOff(60.0, random.Random(3))
    assert all(0 < back.after(THROTTLED) <= 15.0 for _ in range(10_000))


def test_a_short_window_has_short_waits() -> None:
    """With a window of four seconds no wait of our own exceeds one; of a tiny window, half a second."""
    for window, longest in ((4.0, 1.0), (0.1, 0.5)):
        back = BackOff(window, random.Random(5))
        assert max(back.after(THROTTLED) for _ in range(50)) <= longest


def test_a_success_starts_anew() -> None:
    """What was let through waits for nothing, and the next refusal waits as the first did."""
    back = BackOff(60.0, random.Random(2))
    for _ in range(5):
        back.after(THROTTLED)
    assert back.after(_record("success")) == 0.0
    assert back.after(THROTTLED) <= 0.5


def test_who_else_holds_back() -> None:
    """Who reached nobody waits, as does who was told to by a 503; a failure that is the request's own does not."""
    assert BackOff(60.0, random.Random(1)).after(_record("failed", None)) > 0
    assert BackOff(60.0, random.Random(1)).after(_record("failed", 503, 2.0)) >= 2.0
    for status in (400, 401, 403, 404, 422):
        assert BackOff(60.0, random.Random(1)).after(_record("failed", status)) == 0.0
    assert BackOff(60.0, random.Random(1)).after(_record("failed", 200)) == 0.0
    assert BackOff(60.0, random.Random(1)).after(_record("success", 200, 5.0)) == 0.0
