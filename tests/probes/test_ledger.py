"""The ledger of a key: its share, its days, a clock that is set, and who shares it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.limiters import Cost
from tensorix_api.ratelimit_headers import RateLimits
from tensorix_probes.limits.keys import Keys
from tensorix_probes.limits.ledger import Ledger, Refusal, Reservation
from tensorix_probes.limits.observation import Observation
from tensorix_probes.limits.room import room
from tensorix_probes.result import Spent
from tensorix_probes.settings import Budget, Headers, Target

SECOND = 10**9
DAY = 86_400 * SECOND
NOON = 20_000 * DAY + DAY // 2


class Times:
    """A clock on the wall, which may be set, and one that only runs."""

    def __init__(self) -> None:
        self.monotonic, self.unix = 5 * SECOND, NOON

    def run(self, seconds: float) -> None:
        self.monotonic += round(seconds * SECOND)
        self.unix += round(seconds * SECOND)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def ledger(times: Times) -> Callable[..., Ledger]:
    def make(**fields: Any) -> Ledger:
        known = {"requests": 60, "tokens": 2_000_000, "monotonic_ns": lambda: times.monotonic}
        return Ledger(**{**known, **fields})

    return make


def reserve(ledger: Ledger, times: Times, requests: int = 1, tokens: int = 36) -> Reservation | Refusal:
    return ledger.reserve(times.unix, Cost(requests, tokens))


def test_three_requests_a_minute_of_sixty(times: Times, ledger: Callable[..., Ledger]) -> None:
    """5 % by default; the fourth is refused with the reason and the time, and passes then."""
    key = ledger()
    for _ in range(3):
        assert isinstance(reserve(key, times), Reservation)
        times.run(10)
    refused = reserve(key, times)
    assert isinstance(refused, Refusal)
    assert refused.reason == (
        "the probes of this key may use 3 requests a minute (5 % of 60, `budget.share`): 3 used, 1 needed, "
        "enough in 25 s"
    )
    assert refused.until_unix_ns == times.unix + 25 * SECOND
    times.run(24.999)
    assert isinstance(reserve(key, times), Refusal)
    times.run(0.001)
    assert isinstance(reserve(key, times), Reservation)


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_clock_that_is_set_neither_freezes_nor_doubles_the_share(
    times: Times, ledger: Callable[..., Ledger], step_s: int
) -> None:
    """An hour either way, there are three requests in any 55 s, no more and no less."""
    key, passed = ledger(), []
    for second in range(600):
        if second in (65, 250, 251, 400):
            times.unix += step_s * SECOND
        if isinstance(reserve(key, times), Reservation):
            passed.append(second)
        times.run(1)
    assert passed == [start + k for start in range(0, 600, 55) for k in range(3)]


def test_rounds_a_minute_apart_never_refuse_one_another(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Two requests a round, each some ms to two seconds early or late: within 3 requests a minute, always."""
    key, rng = ledger(), random.Random(1)
    for nth in range(500):
        times.monotonic = round((1000 + 60 * nth + rng.uniform(-2, 2)) * SECOND)
        for _ in range(2):
            assert isinstance(reserve(key, times), Reservation)
            times.run(rng.uniform(0, 0.4))


def test_settled_is_what_was_used(times: Times, ledger: Callable[..., Ledger]) -> None:
    """The worst case is held until the answer is there; what was not used may be used by others."""
    key = ledger(tokens=1000, share=0.1, tokens_a_day=150)
    first = reserve(key, times, tokens=90)
    assert isinstance(first, Reservation)
    assert isinstance(reserve(key, times, tokens=20), Refusal)
    key.settle(times.unix, first, Spent(1, 12))
    assert isinstance(reserve(key, times, tokens=80), Reservation)
    standing = key.standing(times.unix)
    assert (standing.requests_a_minute, standing.tokens_a_minute, standing.tokens_allowed) == (2, 92, 100)
    assert (standing.tokens_today, standing.tokens_a_day, standing.cost_today) == (92, 150, None)
    times.run(3600)
    assert (key.standing(times.unix).tokens_a_minute, key.standing(times.unix).tokens_today) == (0, 92)


def test_caps_of_a_day(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Tokens and money, until midnight UTC, named with what was used."""
    key = ledger(tokens_a_day=100, cost_a_day=0.5)
    assert isinstance(key.reserve(times.unix, Cost(1, 70), 0.4), Reservation)
    times.run(60)
    tokens, money = key.reserve(times.unix, Cost(1, 31), 0.0), key.reserve(times.unix, Cost(1, 1), 0.2)
    assert isinstance(tokens, Refusal)
    assert isinstance(money, Refusal)
    assert "100 tokens a day (UTC; `budget.tokens_a_day`): 70 used, 31 needed" in tokens.reason
    assert "0.5 a day (UTC; `budget.cost_a_day`): 0.4 used, 0.2 needed" in money.reason
    assert tokens.until_unix_ns == 20_001 * DAY
    times.run(DAY / 2 / SECOND)
    assert isinstance(key.reserve(times.unix, Cost(1, 31), 0.2), Reservation)


def test_more_than_the_share_ever_is_says_so(times: Times, ledger: Callable[..., Ledger]) -> None:
    """A limit of 10 lets one request a minute through; a check that needs two is told that it never gets them."""
    key = ledger(requests=10)
    refused = reserve(key, times, requests=2)
    assert isinstance(refused, Refusal)
    assert refused.until_unix_ns is None
    assert refused.reason.endswith("1 request a minute (5 % of 10, `budget.share`): 0 used, 2 needed, never enough")
    assert isinstance(reserve(key, times, requests=1), Reservation)


def test_what_costs_nothing_always_passes(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Lists of models are made with no budget left, too."""
    key = ledger(tokens_a_day=0, share=0.01)
    assert isinstance(reserve(key, times, tokens=0), Reservation)
    assert isinstance(reserve(key, times, requests=1, tokens=0), Refusal)
    assert isinstance(reserve(key, times, requests=0, tokens=0), Reservation)


def test_a_history_is_taken_over(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Rows of the last minute hold the share, those of today the day; a row that comes twice counts once."""
    key = ledger(tokens_a_day=1000)
    ago = [(times.unix - seconds * SECOND, Spent(1, 100)) for seconds in (70_000, 3600, 45, 20, 20)]
    key.restore(ago, times.unix)
    key.restore(ago, times.unix)
    standing = key.standing(times.unix)
    assert (standing.requests_a_minute, standing.tokens_today) == (3, 400)
    assert isinstance(reserve(key, times), Refusal)
    times.run(10)
    assert isinstance(reserve(key, times), Reservation)


def test_own_rows_come_back_uncounted(times: Times, ledger: Callable[..., Ledger]) -> None:
    """What was settled here and stands in the history as well counts once, as what others spent meanwhile does."""
    key = ledger()
    used = reserve(key, times)
    assert isinstance(used, Reservation)
    key.settle(times.unix, used, Spent(1, 20))
    key.own(times.unix, Spent(1, 20))
    rows = [(times.unix, Spent(1, 20)), (times.unix + 1, Spent(1, 30))]
    for _ in range(2):
        key.restore(rows, times.unix + 2)
    standing = key.standing(times.unix)
    assert (standing.requests_a_minute, standing.tokens_today) == (2, 50)
    assert key.restored_unix_ns == times.unix + 2


def test_only_rows_that_may_be_read_again_are_remembered(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Of rounds each 10 s, read back each 15 s, each row counts once, own or not; those of 10 min are remembered."""
    key, rows, most = ledger(tokens_a_day=10**9), [], 0
    times.unix = 20_000 * DAY
    for second in range(0, 6 * 3600 + 1, 5):
        if second % 10 == 0:
            rows.append((times.unix, Spent(1, 20)))
            rows.append((times.unix + 1, Spent(1, 3)))
            reserved = reserve(key, times, requests=0)
            assert isinstance(reserved, Reservation)
            key.settle(times.unix, reserved, Spent(1, 20))
            key.own(*rows[-2])
        if second % 15 == 0:
            since = (key.restored_unix_ns or times.unix) - 600 * SECOND
            key.restore([row for row in rows[-200:] if row[0] >= since], times.unix, since_unix_ns=since)
            most = max(most, len(key._known.rows))
        times.run(5)
    assert key.standing(times.unix).tokens_today == 23 * (6 * 360 + 1)
    assert most <= 2 * 63


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_clock_that_is_set_counts_no_row_twice(times: Times, ledger: Callable[..., Ledger], step_s: int) -> None:
    """Set for half an hour and right again: own rows that come back once more stay uncounted, others' count once."""
    key, rows = ledger(tokens_a_day=10**9), []
    for minute in range(180):
        if minute in (90, 120):
            times.unix += step_s * SECOND * (1 if minute == 90 else -1)
        rows.append((times.unix, Spent(1, 20)))
        reserved = reserve(key, times, requests=0)
        assert isinstance(reserved, Reservation)
        key.settle(times.unix, reserved, Spent(1, 20))
        key.own(*rows[-1])
        rows.append((times.unix + 7 * SECOND, Spent(1, 3)))
        times.run(15)
        since = min(key.restored_unix_ns or times.unix, times.unix) - 600 * SECOND
        key.restore([row for row in rows if row[0] >= since], times.unix, since_unix_ns=since)
        times.run(45)
    # Of the others' rows those count as known that are found with the first look after it was set back.
    assert 23 * 180 - 3 <= key.standing(times.unix).tokens_today <= 23 * 180


def test_a_history_that_is_not_read_holds_no_memory(times: Times, ledger: Callable[..., Ledger]) -> None:
    """Own rows that do not come back are forgotten beyond 50,000, and are not counted where they come in the end."""
    key, since = ledger(), times.unix
    for nth in range(60_000):
        key.own(times.unix + nth, Spent(1, 20))
    assert len(key._known.rows) <= 50_000
    times.run(60)
    key.restore([(since + nth, Spent(1, 20)) for nth in range(60_000)], times.unix, since_unix_ns=since)
    assert key.standing(times.unix).tokens_today == 0


@pytest.mark.parametrize("tokens", [10**400, 2**63, 10**30], ids=["10**400", "2**63", "10**30"])
def test_nonsense_of_a_server_is_no_defect(times: Times, ledger: Callable[..., Ledger], tokens: int) -> None:
    """A usage beyond all numbers uses a cap up, in plain words; without a cap it holds nothing up."""
    capped, free = ledger(tokens_a_day=1000), ledger()
    for key in (capped, free):
        used = reserve(key, times)
        assert isinstance(used, Reservation)
        key.settle(times.unix, used, Spent(1, tokens, float("inf")))
        key.restore([(times.unix - 3600 * SECOND, Spent(1, tokens))], times.unix)
        assert key.standing(times.unix).tokens_today <= 2 * 10**9
    refused = reserve(capped, times)
    assert isinstance(refused, Refusal)
    assert "of this key may use 1,000 tokens a day" in refused.reason
    times.run(60)
    assert isinstance(reserve(free, times), Reservation)


def test_a_row_of_the_future_was_just_now(times: Times, ledger: Callable[..., Ledger]) -> None:
    """After the clock was set back, what lies ahead of it holds the share for a minute, not for an hour."""
    key = ledger()
    key.restore([(times.unix + 3600 * SECOND, Spent(3, 10))], times.unix)
    assert isinstance(reserve(key, times), Refusal)
    times.run(60)
    assert isinstance(reserve(key, times), Reservation)


def test_many_threads_never_take_more_than_there_is() -> None:
    """Sixteen threads that reserve and settle at once: never more than the share is out, and nothing is lost."""
    key = Ledger(requests=1000, tokens=None, window_s=3600, share=0.5)
    passed: list[int] = []

    def use(seed: int) -> None:
        rng, mine = random.Random(seed), 0
        for _ in range(200):
            got = key.reserve(NOON, Cost(1, 10))
            if isinstance(got, Reservation):
                used = rng.random() < 0.5
                key.settle(NOON, got, Spent(int(used), 10))
                mine += used
        passed.append(mine)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == key.standing(NOON).requests_a_minute == 500


def seen(at_ns: int, remaining: int | None = None, *, status: int = 200, **fields: Any) -> Observation:
    limits = RateLimits(remaining_requests=remaining, **fields.pop("limits", {}))
    known: dict[str, Any] = {"kind": "chat", "status": status, "requests": 1, "sure": status == 200, "tokens": 10}
    times = {"sent_unix_ns": at_ns - SECOND // 100, "head_unix_ns": at_ns, "end_unix_ns": at_ns}
    return Observation(**{**known, **times, "most_tokens": 36, "limits": limits, **fields})


def test_targets_of_one_server_and_key_share_a_ledger(target_at: Callable[..., Target], times: Times) -> None:
    """The tightest of their budgets holds; another key, and the same word at another server, have their own."""
    here, there = "http://127.0.0.1:4001/v1", "http://127.0.0.1:4002/v1"
    one = target_at(here, name="one", budget=Budget(share=0.5, tokens_a_day=None))
    two = target_at(here, name="two", budget=Budget(share=0.1, tokens_a_day=500, cost_a_day=1.0))
    other = target_at(here, name="other", api_key=Secret("sk-another"))
    far = target_at(there, name="far")
    keys = Keys([one, two, other, far], monotonic_ns=lambda: times.monotonic)
    assert keys.of(one) is keys.of(two)
    assert len({id(keys.of(target)) for target in (one, other, far)}) == 3
    standing = keys.of(one).ledger.standing(NOON)
    assert (standing.requests_allowed, standing.tokens_a_day, standing.cost_a_day) == (6, 500, 1.0)
    assert [isinstance(reserve(keys.of(two).ledger, times), Reservation) for _ in range(7)] == [True] * 6 + [False]
    assert isinstance(reserve(keys.of(far).ledger, times), Reservation)


def test_the_users_of_a_ledger_are_told(target_at: Callable[..., Target]) -> None:
    """By server and key, the names of the targets that share a ledger: what a history is asked for."""
    targets = [
        target_at("http://127.0.0.1:4001/v1", name="a"),
        target_at("http://127.0.0.1:4001/v1", name="b"),
        target_at("http://127.0.0.1:4002/v1", name="c"),
    ]
    assert [names for _, names, _ in Keys(targets).by_users()] == [["a", "b"], ["c"]]


def test_both_addresses_of_tensorix_are_one_server(target_at: Callable[..., Target]) -> None:
    """A key has its limits wherever its requests come in."""
    one, two = target_at("https://api.tensorix.ai/v1"), target_at("https://eu.api.tensorix.ai/v1", name="two")
    keys = Keys([one, two])
    assert keys.of(one) is keys.of(two)


@pytest.mark.parametrize(
    ("told", "stated", "remaining", "allowed"),
    [
        (None, None, None, 3),
        (None, None, 599, 29),
        (None, 200, 150, 10),
        (1000, 200, 150, 50),
        (20, None, 599, 1),
    ],
    ids=["documented", "seen to remain", "stated by a header", "told", "told to be less"],
)
def test_whose_word_on_the_limit_goes_first(
    target_at: Callable[..., Target],
    told: int | None,
    stated: int | None,
    remaining: int | None,
    allowed: int,
) -> None:
    """The configuration's, then a header's, then the documented one, or what remains where that is more."""
    target = target_at("http://127.0.0.1:4001/v1", headers=Headers(requests=told))
    keys = Keys([target])
    keys.of(target).observe([seen(NOON, remaining, limits={"limit_requests": stated})])
    assert keys.of(target).ledger.standing(NOON).requests_allowed == allowed


def test_a_new_configuration_goes_on_with_what_was_used(target_at: Callable[..., Target], times: Times) -> None:
    """Another share holds at once, what was used stays used, and what is under way is settled where it counts."""
    target = target_at("http://127.0.0.1:4001/v1")
    before = Keys([target], monotonic_ns=lambda: times.monotonic)
    under_way = reserve(before.of(target).ledger, times, tokens=500)
    assert isinstance(under_way, Reservation)
    before.of(target).observe([seen(times.unix, 58)])
    wider = replace(target, budget=Budget(share=0.1))
    after = Keys([wider], monotonic_ns=lambda: times.monotonic, before=before)
    before.of(target).ledger.settle(times.unix, under_way, Spent(1, 20))
    standing = after.of(wider).ledger.standing(times.unix)
    assert (standing.requests_allowed, standing.requests_a_minute, standing.tokens_today) == (6, 1, 20)
    assert len(after.of(wider).observations) == 1


def test_room_by_what_the_server_said_last(target_at: Callable[..., Target]) -> None:
    """Too little left is a reason for a window, less what we sent since; after it, or a reset that was named, none."""
    target = target_at("http://127.0.0.1:4001/v1", budget=Budget(keep_free_requests=2))

    def why(*observations: Observation, after_s: float = 1, cost: Cost = Cost(1, 36)) -> str | None:
        return room(observations, NOON + round(after_s * SECOND), cost, target)

    assert why() is None
    assert why(seen(NOON, 3)) is None
    assert why(seen(NOON, 2)) == "only 2 requests remained 1 s ago, 1 needed and 2 to be kept free"
    assert why(seen(NOON, 0), cost=Cost(0, 0)) is None
    assert why(seen(NOON, 0), after_s=59) is not None
    assert why(seen(NOON, 0), after_s=60) is None
    assert why(seen(NOON, 0), after_s=-5) is None, "the clock was set back"
    assert why(seen(NOON, 0, limits={"reset_requests_ns": 5 * SECOND}), after_s=6) is None
    assert why(seen(NOON, 4), seen(NOON + SECOND // 2)) is None
    assert why(seen(NOON, 4), seen(NOON + SECOND // 4), seen(NOON + SECOND // 2)) is not None
    assert why(seen(NOON, -3)) is None, "nonsense says nothing"
    assert why(seen(NOON, 50, limits={"remaining_tokens": 30})) == "only 30 tokens remained 1 s ago, 36 needed"
    assert why(seen(NOON, 0, kind="unauthorised", status=401)) is None, "another key's"


def test_after_a_429_nothing_is_sent_until_its_time(target_at: Callable[..., Target]) -> None:
    """As long as it says, a window at most; 5 s where it does not say; not longer than until one passed."""
    target = target_at("http://127.0.0.1:4001/v1")

    def why(*observations: Observation, after_s: float) -> str | None:
        return room(observations, NOON + round(after_s * SECOND), Cost(1, 36), target)

    plain, long = seen(NOON, status=429), seen(NOON, status=429, limits={"retry_after_ns": 3600 * SECOND})
    assert why(plain, after_s=1) == "the key was limited (429) 1 s ago: nothing is sent for 4 s more"
    assert why(plain, after_s=5) is None
    assert why(long, after_s=59) is not None
    assert why(long, after_s=60) is None
    assert why(plain, seen(NOON + SECOND), after_s=2) is None
