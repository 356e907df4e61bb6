"""Budgets against an oracle that works everything out anew from all that was ever spent."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tensorix_api.budget import DAY_NS, Budget, Cap, Denied, Held, Spend, share_of

SECOND = 10**9
MINUTE = 60 * SECOND


@dataclass
class Row:
    """One spend, as the oracle keeps it."""

    at_ns: int
    unix_ns: int
    requests: int
    tokens: int
    millis: int


def counted(rows: list[Row], cap: Cap, now_ns: int, unix_ns: int) -> list[Row]:
    if cap.window_ns is not None:
        return [row for row in rows if now_ns - row.at_ns < cap.window_ns]
    if cap.daily:
        return [row for row in rows if row.unix_ns // DAY_NS == unix_ns // DAY_NS]
    return rows


def amount(row: Row, what: str) -> int:
    return {"requests": row.requests, "tokens": row.tokens}.get(what, row.millis)


def test_against_brute_force_over_random_traffic() -> None:
    """Any mix of caps, with settlements, releases, others in the past and a clock that jumps: as the oracle."""
    for seed in range(60):
        rng = random.Random(seed)
        caps = [
            Cap(what="requests", amount=rng.randint(1, 20), window_ns=MINUTE),
            Cap(what="tokens", amount=rng.randint(10, 500), window_ns=rng.choice([SECOND, MINUTE])),
            Cap(what="tokens", amount=rng.randint(100, 3000), daily=True),
            Cap(what="money", amount=rng.randint(100, 3000) / 1000, daily=rng.random() < 0.5),
            Cap(what="requests", amount=rng.randint(50, 200)),
        ]
        budget, rows = Budget(caps), list[Row]()
        now, apart = 0, 20_000 * DAY_NS + DAY_NS - 5 * MINUTE
        open_: list[tuple[Held, Row]] = []
        denied = 0
        for _ in range(250):
            now += rng.choice([0, 1, SECOND, rng.randrange(MINUTE)])
            apart += rng.choice([0] * 20 + [3600 * SECOND, -3600 * SECOND])
            unix = now + apart
            spend = Spend(rng.choice([0, 1, 1, 2]), rng.choice([0, 5, 60]), rng.choice([0, 1, 70]) / 1000)
            row = Row(now, unix, spend.requests, spend.tokens, round(spend.money * 1000))
            match rng.random():
                case draw if draw < 0.7:
                    over = [
                        cap
                        for cap in caps
                        if (need := amount(row, cap.what))
                        and sum(amount(one, cap.what) for one in counted(rows, cap, now, unix)) + need
                        > (round(cap.amount * 1000) if cap.what == "money" else cap.amount)
                    ]
                    got = budget.reserve(now, spend, unix_ns=unix)
                    assert isinstance(got, Denied) == bool(over)
                    if isinstance(got, Denied):
                        denied += 1
                        assert got.cap in over
                        if got.wait_ns is not None and got.cap.window_ns is not None:
                            late = now + got.wait_ns
                            used = [
                                sum(amount(one, got.cap.what) for one in counted(rows, got.cap, at, 0))
                                for at in (late - 1, late)
                            ]
                            need = amount(row, got.cap.what)
                            assert used[0] + need > got.cap.amount >= used[1] + need
                    else:
                        rows.append(row)
                        open_.append((got, row))
                case draw if draw < 0.75:
                    row.at_ns -= rng.randrange(2 * MINUTE)
                    budget.charge(row.at_ns, spend, unix_ns=unix)
                    rows.append(row)
                case _ if open_:
                    held, row = open_.pop(rng.randrange(len(open_)))
                    if rng.random() < 0.3:
                        budget.release(now, held)
                        row.requests = row.tokens = row.millis = 0
                    else:
                        actual = Spend(row.requests, rng.randint(0, 80), rng.randint(0, 90) / 1000)
                        budget.settle(now, held, actual)
                        row.tokens, row.millis = actual.tokens, round(actual.money * 1000)
            for (cap, spent), expected in zip(
                budget.used(now, unix_ns=unix),
                [sum(amount(one, cap.what) for one in counted(rows, cap, now, unix)) for cap in caps],
                strict=True,
            ):
                assert spent == pytest.approx(expected / 1000 if cap.what == "money" else expected)
        assert denied


def test_what_is_under_way_can_not_overspend_together() -> None:
    """The worst case is set aside until it is known better: three may run, not four; settled, there is room again."""
    budget = Budget([Cap(what="money", amount=0.30)])
    held = [budget.reserve(0, Spend(1, 0, 0.1)) for _ in range(4)]
    assert [isinstance(one, Held) for one in held] == [True, True, True, False]
    assert isinstance(held[0], Held)
    budget.settle(1, held[0], Spend(1, 0, 0.01))
    assert isinstance(budget.reserve(2, Spend(1, 0, 0.09)), Held)
    last = budget.reserve(2, Spend(1, 0, 0.01))
    assert isinstance(last, Denied)
    assert last.used == pytest.approx(0.30)
    assert last.wait_ns is None


def test_a_million_small_settlements_leave_no_dust() -> None:
    """Money is counted in whole billionths: ten thousand times 0.0001, and back, is exactly what it was."""
    budget = Budget([Cap(what="money", amount=1.0)])
    held = [budget.reserve(0, Spend(money=0.0001)) for _ in range(10_000)]
    assert isinstance(budget.reserve(0, Spend(money=0.000001)), Denied)
    for one in held:
        assert isinstance(one, Held)
        budget.release(1, one)
    assert budget.used(1) == [(Cap(what="money", amount=1.0), 0)]


@pytest.mark.parametrize(
    ("limit", "share", "units"),
    [(60, 0.05, 3), (100, 0.29, 29), (10, 0.05, 1), (0, 0.5, 0), (1, 0.01, 1), (2_000_000, 0.05, 100_000), (60, 1, 60)],
)
def test_the_share_of_a_limit(limit: int, share: float, units: int) -> None:
    """Rounded down, as it is written, and at least one of what lets anything pass."""
    assert share_of(limit, share) == units


def test_a_day_of_utc_begins_anew_and_is_never_given_twice() -> None:
    """Used up before midnight; whole after it; used up again where the clock is set back before midnight."""
    budget, midnight = Budget([Cap(what="tokens", amount=100, daily=True)]), 20_000 * DAY_NS
    assert isinstance(budget.reserve(0, Spend(tokens=100), unix_ns=midnight - 2 * SECOND), Held)
    refused = budget.reserve(1, Spend(tokens=1), unix_ns=midnight - SECOND)
    assert isinstance(refused, Denied)
    assert refused.wait_ns == SECOND
    assert isinstance(budget.reserve(2, Spend(tokens=60), unix_ns=midnight), Held)
    assert isinstance(budget.reserve(3, Spend(tokens=1), unix_ns=midnight - SECOND), Denied)
    assert isinstance(budget.reserve(4, Spend(tokens=41), unix_ns=midnight + SECOND), Denied)
    assert isinstance(budget.reserve(4, Spend(tokens=40), unix_ns=midnight + SECOND), Held)


def test_wrong_amounts_are_refused() -> None:
    """Negative amounts would give budget away."""
    with pytest.raises(ValueError, match="never negative"):
        Spend(tokens=-1)
    with pytest.raises(ValueError, match="never negative"):
        Spend(money=float("nan"))
    with pytest.raises(ValueError, match="at least 0"):
        Cap(what="tokens", amount=-1)
    with pytest.raises(ValueError, match="not both"):
        Cap(what="tokens", amount=1, window_ns=5, daily=True)
