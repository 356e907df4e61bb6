"""What is set aside for a request, what it counts for afterwards, and the gate that keeps to the caps."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.budget import Spend
from tensorix_api.errors import CannotWriteError, RunFolderError, SettingsError
from tensorix_api.secret import Secret
from tensorix_loadtests._call import Call
from tensorix_loadtests._gate import Closed, Pace, Passed, Wait
from tensorix_loadtests._origin import Origin
from tensorix_loadtests.plan import LoadPlan, Spending, read_prices
from tensorix_loadtests.plan._prices import Price
from tensorix_loadtests.spending import JOURNAL_NAME, Journal, SpendingGate, read_journal, read_keys
from tensorix_loadtests.spending._gate import caps_of
from tensorix_loadtests.spending._worst import Unbounded, settled, worst_of
from tensorix_records import RequestRecord

PRICE = Price(prompt=1.0, completion=10.0, cached=0.1, reasoning=20.0)
ORIGIN = Origin()


def _call(max_tokens: int | None = 10, **extra: Any) -> Call:
    return Call.chat(
        [{"role": "user", "content": "Grüße"}], model="m", stream=False, max_tokens=max_tokens, extra=extra
    )


def _record(**columns: Any) -> RequestRecord:
    usual = {"outcome": "success", "status": 200, "connection_reused": True, "token_source": "usage"}
    identity = {"run_id": "r", "record_id": "1", "request_id": "r.1", "endpoint": "/chat/completions"}
    return RequestRecord(**identity, start_unix_ns=0, **(usual | columns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prompt = 1", "model 'prompt': give a table"),
        ("[m]\nprompt = 1", "completion tokens is missing"),
        ("[m]\nprompt = 1\ncompletion = -2", "completion tokens is -2"),
        ("[m]\nprompt = 1\ncompletion = 2\nfree = 3", "unknown price 'free'"),
        ('{"m": {"prompt": true, "completion": 2}}', "prompt tokens is True"),
        ("[m", "neither TOML nor JSON"),
        ("", "names no model"),
    ],
)
def test_a_wrong_price_file_is_refused_in_one_line(text: str, named: str, tmp_path: Path) -> None:
    """What cannot be read as prices is refused with its place, whichever of the two forms it has."""
    path = tmp_path / "prices"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_prices(path)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_prices_are_the_same_in_both_forms(tmp_path: Path) -> None:
    """TOML and JSON give the same prices, and these travel within a plan."""
    toml, other = tmp_path / "prices.toml", tmp_path / "prices.json"
    toml.write_text('["a/b"]\nprompt = 0.5\ncompletion = 2\n["*"]\nprompt = 1\ncompletion = 2.5\ncached = 0.1\n')
    other.write_text('{"a/b": {"prompt": 0.5, "completion": 2}, "*": {"prompt": 1, "completion": 2.5, "cached": 0.1}}')
    prices = read_prices(toml)
    assert prices == read_prices(other)
    assert prices["*"].cached == 0.1
    plan = LoadPlan(base_url="http://127.0.0.1:1", requests=1, spending=Spending(most_money=0.5, prices=prices))
    assert LoadPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("spending", "plan", "named"),
    [
        ({"most_tokens": 100}, {"max_tokens": None}, "cap of tokens each answer needs a bound"),
        ({"most_money": 1, "prices": {"n": PRICE}}, {"model": "m"}, "no price is given for the model 'm'"),
        ({"most_money": 1}, {}, "needs prices"),
        ({"key_variables": ("sk-123",)}, {}, "no name of an environment variable"),
    ],
)
def test_a_plan_that_could_not_be_kept_to_is_refused(
    spending: dict[str, Any], plan: dict[str, Any], named: str
) -> None:
    """Open answers, models without a price and keys in place of names are refused when the plan is made."""
    with pytest.raises(SettingsError, match=named):
        LoadPlan(base_url="http://127.0.0.1:1", requests=1, spending=Spending(**spending), **plan)


def test_the_worst_case_counts_bytes_and_every_answer() -> None:
    """A prompt counts as the bytes of the body, tools too; the answer as the larger bound, as often as n says."""
    call = _call(10, n=3, max_completion_tokens=20, tools=[{"type": "function", "function": {"name": "ü"}}])
    worst = worst_of(call, PRICE)
    assert worst.prompt_tokens == len(call.body or b"")
    assert worst.answer_tokens == 60
    # Dearest of each kind: fresh prompt tokens, and all of the answer reasoning.
    assert worst.spend.money == pytest.approx((worst.prompt_tokens * 1 + 60 * 20) / 1e6, abs=2e-9)
    assert worst_of(Call.list_models(), PRICE).spend == Spend(1)


@pytest.mark.parametrize(
    "call",
    [
        _call(None),
        _call(0),
        _call(None, max_completion_tokens=True),
        _call(5, max_completion_tokens=1000.0),
        _call(-1, max_completion_tokens=5),
        _call(5, n=4.0),
        _call(5, n="4"),
        Call.chat([{"role": "user", "content": [{"type": "image_url"}]}], model="m", stream=True, max_tokens=5),
    ],
)
def test_what_has_no_bound_has_no_worst_case(call: Call) -> None:
    """An answer whose bounds are no whole numbers, or a picture in a message, cannot be set aside for."""
    with pytest.raises(Unbounded):
        worst_of(call, PRICE)


WORST = worst_of(_call(), PRICE)


@pytest.mark.parametrize(
    ("columns", "tokens", "money"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 7}, 107, 100e-6 + 70e-6),
        ({"prompt_tokens": 100, "completion_tokens": 7, "cached_tokens": 60}, 107, 40e-6 + 6e-6 + 70e-6),
        ({"prompt_tokens": 100, "completion_tokens": 7, "reasoning_tokens": 4}, 107, 100e-6 + 30e-6 + 80e-6),
        # Reasoning that the completion does not hold is counted beside it.
        ({"prompt_tokens": 100, "completion_tokens": 1, "reasoning_tokens": 4}, 105, 100e-6 + 10e-6 + 80e-6),
        ({"completion_tokens": 7, "token_source": "chunks"}, None, None),
        ({"outcome": "failed", "prompt_tokens": 3, "completion_tokens": 1}, None, None),
        ({"outcome": "cancelled", "token_source": None}, None, None),
        ({"outcome": "failed", "status": 500, "token_source": None}, None, None),
        ({"outcome": "failed", "status": 408, "token_source": None}, None, None),
        ({"outcome": "failed", "status": None, "token_source": None}, None, None),
        ({"outcome": "throttled", "status": 429, "token_source": None}, 0, 0.0),
        ({"outcome": "failed", "status": 402, "token_source": None}, 0, 0.0),
        ({"outcome": "failed", "status": None, "connection_reused": None, "token_source": None}, 0, 0.0),
    ],
)
def test_what_a_request_counts_for_when_it_has_ended(
    columns: dict[str, Any], tokens: int | None, money: float | None
) -> None:
    """By usage where a success brought it; nothing where it was refused or never left; else the worst case."""
    counted, known = settled(_record(**columns), WORST)
    if tokens is None or money is None:
        assert counted == WORST.spend
        assert known is None
    else:
        assert counted == known
        assert (counted.requests, counted.tokens) == (1, tokens)
        assert counted.money == pytest.approx(money, abs=1.01e-9)
        assert counted.money >= money - 1e-12


def test_a_journal_outlives_its_writer(tmp_path: Path) -> None:
    """What was set aside and never settled counts as its worst case, what was cut within a line for nothing."""
    journal = Journal(tmp_path, "p1")
    journal.charge(Spend(1))
    journal.reserve("a", Spend(1, 50, 0.5), 0)
    journal.reserve("b", Spend(1, 50, 0.5), 1)
    journal.settle("a", Spend(1, 20, 0.2))
    journal.reserve("c", Spend(1, 50, 0.5), 2)
    journal.release("c")
    journal.reserve("d", Spend(1, 50, 0.5), 3)
    with pytest.raises(RunFolderError, match="another engine"):
        Journal(tmp_path, "p2")
    journal.close()
    with (tmp_path / JOURNAL_NAME).open("ab") as file:
        file.write(b'{"event":"reserved","id":"e","requests":1,"tok')
    past = read_journal(tmp_path)
    assert past.spent == Spend(4, 120, 1.2)
    assert (past.sent, past.indexes, past.first_index, past.engines) == (3, frozenset({0, 1, 3}), 2, 1)
    after = Journal(tmp_path, "p2")
    assert after.past == past
    after.reserve("f", Spend(1, 5, 0.1))
    after.close()
    assert read_journal(tmp_path).spent == Spend(5, 125, 1.3)


def test_nothing_is_sent_that_cannot_be_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the disk does not take the line, the gate raises and has set nothing aside."""
    journal = Journal(tmp_path, "p1")
    gate = SpendingGate(Spending(most_requests=2), [(None, None)], journal=journal)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.write", full)
        with pytest.raises(CannotWriteError, match="No space left"):
            gate.admit(_call(), 0, ORIGIN)
    assert gate.left() == {"requests": 2}
    journal.close()


def test_caps_are_kept_and_used_whatever_the_order(tmp_path: Path) -> None:
    """Over random requests, orders of ending, usages and killed engines: never above a cap, nine tenths of it used."""
    rng = random.Random(6)
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        spending = Spending(
            most_money=rng.uniform(0.15, 0.3), most_tokens=rng.randint(40_000, 80_000), prices={"*": PRICE}
        )
        spent_tokens, spent_money, engines = 0, 0.0, 0
        closed: Closed | None = None
        while closed is None:
            engines += 1
            journal = Journal(folder, f"p{engines}")
            gate = SpendingGate(spending, [(None, None)], journal=journal, process_id=f"p{engines}")
            flying: list[tuple[Passed, dict[str, int]]] = []
            left_before_kill = rng.randint(1, 60) if engines < 4 else None
            while left_before_kill != 0:
                if left_before_kill is not None:
                    left_before_kill -= 1
                call = _call(rng.randint(1, 30))
                answer = gate.admit(call, 0, ORIGIN) if len(flying) < 3 else Wait(1)
                if isinstance(answer, Passed):
                    # The server has made all of it, whether it can still say so or not.
                    prompt, made = rng.randint(5, 40), rng.randint(0, call.max_tokens or 0)
                    spent_tokens += prompt + made
                    spent_money += PRICE.money(prompt, made)
                    flying.append((answer, {"prompt_tokens": prompt, "completion_tokens": made}))
                elif isinstance(answer, Closed):
                    assert not flying
                    closed = answer
                    break
                else:
                    passed, usage = flying.pop(rng.randrange(len(flying)))
                    assert gate.settle(passed, _record(**usage)) is not None
            journal.close()
        assert closed.reason == "budget"
        assert closed.in_order
        money, tokens = spent_money / (spending.most_money or 1), spent_tokens / (spending.most_tokens or 1)
        assert max(money, tokens) <= 1
        assert max(money, tokens) > 0.9


def test_processes_share_a_cap_without_adding_to_it() -> None:
    """The parts of all processes sum up to the cap; of requests the one is left out with which the master looks."""
    spending = Spending(most_requests=100, most_tokens=1001, most_money=0.1, prices={"*": PRICE})
    parts = [{cap.what: cap.units for cap in caps_of(spending, (part, 3))} for part in range(3)]
    assert {what: sum(part[what] for part in parts) for what in parts[0]} == {
        "requests": 99,
        "tokens": 1001,
        "money": 100_000_000,
    }


class _Slow:
    """A pace that lets nothing go before an instant."""

    def __init__(self, until_ns: int) -> None:
        self.until_ns = until_ns
        self.under_way = 0
        self.went_ns = 0

    def wait_ns(self, now_ns: int, worst: Spend) -> int:
        return max(0, self.until_ns - now_ns)

    def sent(self, now_ns: int, worst: Spend) -> object:
        self.under_way += 1
        return self

    def started(self, at_ns: int, token: object) -> None:
        self.went_ns = at_ns

    def settle(self, now_ns: int, token: object, actual: Spend | None, record: RequestRecord) -> None:
        self.under_way -= 1

    def release(self, now_ns: int, token: object) -> None:
        self.under_way -= 1

    def seen(self, now_ns: int, record: RequestRecord) -> None:
        pass

    def remaining(self, now_ns: int) -> tuple[int | None, int | None]:
        return 7, None

    def words(self) -> list[str]:
        return []


KEYS = [(Secret("sk-one-of-three"), "one"), (Secret("sk-two-of-three"), "two"), (Secret("sk-last-of-three"), "three")]


def test_keys_are_spread_by_what_may_go_and_pinned_by_user() -> None:
    """A request takes the key that may go at once and has the least under way, or its user's; a refused key is out."""
    paces: list[Pace | None] = [_Slow(0), _Slow(10), _Slow(0)]
    gate = SpendingGate(Spending(), KEYS, paces=paces, now_ns=lambda: 0)
    first, second, third = (gate.admit(_call(), 0, ORIGIN) for _ in range(3))
    assert isinstance(first, Passed)
    assert isinstance(second, Passed)
    assert isinstance(third, Passed)
    assert [passed.key for passed in (first, second, third)] == [KEYS[0][0], KEYS[2][0], KEYS[0][0]]
    assert first.ledger_remaining_requests == 7
    assert first.paced
    assert first.started is not None
    first.started(5)
    assert [pace.went_ns for pace in paces if isinstance(pace, _Slow)] == [5, 0, 0]
    assert gate.without("one")
    assert gate.without("three")
    waiting = gate.admit(_call(), 0, ORIGIN)
    assert isinstance(waiting, Wait)
    assert waiting.seconds == 10 / 1e9
    assert not gate.without("two")
    for passed in (first, second, third):
        gate.settle(passed, _record(status=402, outcome="failed"))
    assert [pace.under_way for pace in paces if isinstance(pace, _Slow)] == [0, 0, 0]
    assert isinstance(gate.admit(_call(), 0, ORIGIN), Closed)

    pinned = SpendingGate(Spending(keys="pinned"), KEYS, paces=paces, now_ns=lambda: 10)
    assert [pinned.lane(user) for user in range(4)] == [0, 1, 2, 0]
    used = [pinned.admit(_call(), user, ORIGIN) for user in (1, 1, 4, 2)]
    assert [passed.key for passed in used if isinstance(passed, Passed)] == [KEYS[1][0]] * 3 + [KEYS[2][0]]
    pinned.without("two")
    moved = pinned.admit(_call(), 1, ORIGIN)
    assert isinstance(moved, Passed)
    assert moved.key != KEYS[1][0]


def test_a_request_that_goes_out_twice_is_set_aside_for_twice(tmp_path: Path) -> None:
    """Its first sending counts as the worst case, and where the cap has no room for that it does not go again."""
    call = _call()
    spend = worst_of(call, PRICE).spend
    journal = Journal(tmp_path, "p1")
    gate = SpendingGate(Spending(most_tokens=2 * spend.tokens), [(None, None)], journal=journal)
    passed = gate.admit(call, 0, ORIGIN)
    assert isinstance(passed, Passed)
    assert gate.again(passed)
    assert not gate.again(passed)
    gate.settle(passed, _record(prompt_tokens=5, completion_tokens=1))
    assert gate.left() == {"tokens": spend.tokens - 6}
    past = read_journal(tmp_path)
    assert past.spent.tokens == spend.tokens + 6
    # One request all the same: a run that is resumed has as many more to send.
    assert (past.sent, past.spent.requests) == (1, 2)
    journal.close()


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"A": "sk-1"}, "B holds no key"),
        ({"A": "sk-1", "B": " sk-1 "}, "A and B hold the same key"),
        ({"A": "ü", "B": "b"}, "A holds a character"),
    ],
)
def test_keys_that_are_missing_or_twice_are_refused(environ: dict[str, str], named: str) -> None:
    """Each variable must hold a key of its own, and no message repeats one."""
    with pytest.raises(SettingsError, match=named) as caught:
        read_keys(["A", "B"], environ)
    assert "sk-1" not in str(caught.value)
