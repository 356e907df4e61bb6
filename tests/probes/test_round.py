"""A round: which checks run, in which order, what explains what, what is skipped, and what it all comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from tensorix_api import Secret
from tensorix_api.errors import ErrorKind, Phase
from tensorix_api.limiters import Cost
from tensorix_api.ratelimit_headers import RateLimits
from tensorix_probes import registry
from tensorix_probes import round as rounds
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.exchange.answer import Answer, Failure
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.key_memory import KeyMemory
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.result import Assertion, Phases, Round, Spent, State
from tensorix_probes.round import in_order, run_round
from tensorix_probes.settings import Budget, Headers, Prices, Target

SECOND = 10**9
DECIDING = {"tls", "models", "chat", "stream"}


class Scripted:
    """An exchange whose answers are written down beforehand, by kind; it notes what was asked."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def ask(self, method: str, path: str, *, kind: str, **_: Any) -> Answer:
        """The answer of that kind."""
        self.asked.append(kind)
        return replace(self.answers.get(kind) or answer(kind), method=method)


def answer(kind: str, status: int | None = 200, **fields: Any) -> Answer:
    """An answer that took 10 ms."""
    made = {
        "request_id": f"r-{kind}",
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "started_unix_ns": 1_000 * SECOND,
        "started_monotonic_ns": 0,
        "phases": Phases(dns_ns=1, connect_ns=2, send_ns=3, first_byte_ns=5_000_000, total_ns=10_000_000),
    }
    return Answer(kind=kind, status=status, **{**made, **fields})


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    """Checks by name in place of all real ones: each asks once and is up, unless a test puts its own there."""

    def asks(name: str) -> Callable[[Context], Finding]:
        def run(context: Context) -> Finding:
            got = context.ask("POST" if name in ("chat", "stream", "errors") else "GET", f"/{name}", kind=name)
            return Finding(assertions=(Assertion("answered", True),), answer=got, spent=Spent(tokens=7))

        return run

    costing = Check(name="", run=asks(""), most=lambda _: Cost(1, 20))
    free = Check(name="", run=asks(""))
    made = {
        name: replace(
            costing if name in ("chat", "stream", "errors") else free,
            name=name,
            run=asks(name),
            decides=name in DECIDING,
            reads_only=name == "ratelimit",
            every_s=3600.0 if name in ("auth", "errors") else None,
        )
        for name in ("tls", "models", "auth", "chat", "stream", "errors", "ratelimit", "mine")
    }
    for module in (registry, rounds):
        monkeypatch.setattr(module, "check_named", made.__getitem__)
    return made


@pytest.fixture
def play() -> Callable[..., Round]:
    """Plays a round of a target; what is remembered is the caller's, where given."""

    def played(
        exchange: Scripted | None = None,
        *,
        key: KeyMemory | None = None,
        memory: TargetMemory | None = None,
        at_s: float = 1_000.0,
        **fields: Any,
    ) -> Round:
        target = Target(
            **{"name": "t", "base_url": "http://127.0.0.1:1/v1", "api_key": Secret("sk-round-test"), **fields}
        )
        return run_round(
            target,
            exchange=cast(Exchange, exchange or Scripted()),
            key=key or Keys([target]).of(target),
            memory=memory if memory is not None else TargetMemory(),
            clock=Clock(unix_ns=lambda: round(at_s * SECOND)),
        )

    return played


def falls(name: str, otherwise: State, detail: str | None = None) -> Callable[[Context], Finding]:
    """A check's part whose one assertion does not hold."""
    return lambda _: Finding(assertions=(Assertion(name, False, detail, otherwise),))


def named(**fields: Any) -> Check:
    """A check that takes nothing."""
    return Check(**fields)


def states(played: Round) -> dict[str, str]:
    """The state of each check that ran or was skipped, in order."""
    return {result.check: str(result.state) for result in played.results}


def test_checks_run_cheapest_first_and_the_reader_last() -> None:
    """Whatever order a configuration lists them in, a user's own run before the one that reads what others got."""
    assert in_order(["ratelimit", "mine", "stream", "tls", "mine", "chat"]) == [
        "tls",
        "chat",
        "stream",
        "mine",
        "ratelimit",
    ]


def test_all_up(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A round whose checks are all up is up, has no cause, and adds up what they used."""
    played = play(headers=Headers(requests=600, tokens=2_000_000))
    assert (played.state, played.reason, played.cause_check, played.cause) == (State.UP, None, None, None)
    assert list(states(played)) == ["tls", "models", "chat", "stream", "auth", "errors", "ratelimit"]
    assert played.spent.requests == 7


def test_lists_cost_nothing_once_the_headers_have_shown_it(
    checks: dict[str, Check], play: Callable[..., Round]
) -> None:
    """A list of models is charged as a request until more remains than if it were counted; that is kept for later."""
    checks["models"] = replace(checks["models"], most=lambda _: Cost(1, 0), lists_only=True)
    exchange = Scripted(chat=answer("chat", limits=RateLimits(remaining_requests=59, limit_requests=60)))
    memory = TargetMemory()
    first = play(exchange, memory=memory, checks=("models", "chat"))
    assert first.spent.requests == 2
    assert memory.checks["lists"] == {"free": True}
    second = play(exchange, memory=TargetMemory(checks=memory.checks), checks=("models", "chat"), at_s=2_000.0)
    assert [result.spent.requests for result in second.results] == [0, 1]


def test_lists_that_are_counted_stay_charged(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """Where no more remains than if lists were counted, they are charged as requests."""
    exchange = Scripted(chat=answer("chat", limits=RateLimits(remaining_requests=58, limit_requests=60)))
    memory = TargetMemory()
    play(exchange, memory=memory, checks=("models", "chat"))
    assert play(exchange, memory=memory, checks=("models", "chat"), at_s=2_000.0).spent.requests == 2


def test_a_failure_high_up_explains_those_below(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """After a decider that is down nothing is asked any more; what only reads still runs."""
    checks["models"] = named(name="models", run=falls("status_is_200", State.DOWN, "500 came"), decides=True)
    exchange = Scripted()
    played = play(exchange)
    assert states(played) == {
        "tls": "up",
        "models": "down",
        "chat": "inconclusive",
        "stream": "inconclusive",
        "auth": "inconclusive",
        "errors": "inconclusive",
        "ratelimit": "up",
    }
    assert exchange.asked == ["tls", "ratelimit"]
    assert played.results[3].reason == "explained by models"
    assert (played.state, played.reason, played.cause_check, played.cause) == (
        State.DOWN,
        "500 came",
        "models",
        "status_is_200",
    )


def test_what_decides_nothing_explains_nothing(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A broken promise beside the service lets the other checks run, and the round is degraded by it."""
    checks["auth"] = named(name="auth", run=falls("bad_key_is_refused", State.DEGRADED))
    played = play(headers=Headers(requests=600, tokens=2_000_000))
    assert states(played)["stream"] == "up"
    assert (played.state, played.cause, played.reason) == (State.DEGRADED, "bad_key_is_refused", "bad key is refused")


@pytest.mark.parametrize(("check", "expected"), [("chat", State.INCONCLUSIVE), ("errors", State.UP)])
def test_only_what_decides_makes_a_round_inconclusive(
    checks: dict[str, Check], play: Callable[..., Round], check: str, expected: State
) -> None:
    """Where a check on which nothing rests can say nothing, the round can."""
    checks[check] = named(name=check, run=lambda _: Finding(inconclusive="no idea"), decides=check in DECIDING)
    assert play(headers=Headers(requests=600, tokens=2_000_000)).state is expected


def test_the_worst_state_wins(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """Down goes before payment, payment before inconclusive, and inconclusive before degraded."""
    ladder = [State.DEGRADED, State.INCONCLUSIVE, State.PAYMENT, State.DOWN]
    for number, state in enumerate(ladder):
        name = ("ratelimit", "stream", "mine", "errors")[number]
        checks[name] = named(name=name, run=falls("x", state), decides=True, reads_only=True)
        assert play(checks=("tls", "stream", "errors", "ratelimit", "mine")).state is max(
            ladder[: number + 1], key=ladder.index
        )


@pytest.mark.parametrize("state", [State.DOWN, State.PAYMENT])
def test_a_promise_beside_the_service_is_no_outage(
    checks: dict[str, Check], play: Callable[..., Round], state: State
) -> None:
    """What goes wrong in a check on which nothing rests makes a round degraded at most, and is its cause."""
    checks["errors"] = named(name="errors", run=falls("answered", state, "reset"))
    played = play(headers=Headers(requests=600, tokens=2_000_000))
    assert states(played)["errors"] == str(state)
    assert (played.state, played.cause_check, played.reason) == (State.DEGRADED, "errors", "reset")
    alone = play(checks=("errors",))
    assert alone.state is state


def test_what_comes_seldom_gets_its_turn_in_a_tight_budget(
    checks: dict[str, Check], play: Callable[..., Round]
) -> None:
    """Where a share pays for a list, a completion and a stream only, auth and errors take the list's place in turn."""
    checks["models"] = replace(checks["models"], most=lambda _: Cost(1, 0), lists_only=True)
    checks["auth"] = replace(checks["auth"], most=lambda _: Cost(1, 0), lists_only=True)
    limits = Headers(requests=60, tokens=2_000_000)
    target = Target(name="t", base_url="http://127.0.0.1:1/v1", api_key=Secret("sk-round-test"), headers=limits)
    times = [0]
    key, memory = Keys([target], monotonic_ns=lambda: times[0]).of(target), TargetMemory()
    ran = []
    for minute in range(4):
        times[0] = minute * 60 * SECOND
        played = play(
            key=key,
            memory=memory,
            at_s=1_000.0 + 60 * minute,
            headers=limits,
            model="z-ai/glm-5",
            checks=("models", "chat", "stream", "auth", "errors"),
        )
        assert played.state is State.UP
        ran.append([check for check, state in states(played).items() if state == "up"])
    assert ran == [
        ["models", "chat", "stream"],
        ["chat", "stream", "auth"],
        ["chat", "stream", "errors"],
        ["models", "chat", "stream"],
    ]


def test_payment_is_no_outage_and_ends_the_asking(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """After a 402 no more is spent, and the round is `payment`."""
    checks["chat"] = named(name="chat", run=falls("credit_is_left", State.PAYMENT), decides=True)
    exchange = Scripted()
    played = play(exchange)
    assert (played.state, played.cause) == (State.PAYMENT, "credit_is_left")
    assert "stream" not in exchange.asked


def test_a_refusal_by_the_limit_is_not_provoked_again(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """After a 429 the checks that ask are skipped, and the round is inconclusive, not down."""

    def limited(context: Context) -> Finding:
        return Finding(answer=context.ask("POST", "/chat", kind="chat"), inconclusive="limited")

    checks["chat"] = named(name="chat", run=limited, decides=True, most=lambda _: Cost(1, 20))
    exchange = Scripted(chat=answer("chat", 429))
    played = play(exchange)
    assert played.state is State.INCONCLUSIVE
    assert "stream" not in exchange.asked
    assert "ratelimit" in exchange.asked
    assert next(one for one in played.results if one.check == "stream").reason == (
        "the key is at its limit: refused with 429 a moment ago"
    )


def test_a_budget_that_is_used_up_skips(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """Of 60 requests a minute 3 are the probes': the fourth is skipped by name, and the round can say nothing."""
    target = Target(
        name="t",
        base_url="http://127.0.0.1:1/v1",
        api_key=Secret("sk-round-test"),
        headers=Headers(requests=60, tokens=2_000_000),
    )
    key, memory = Keys([target]).of(target), TargetMemory()
    first = play(key=key, memory=memory, headers=target.headers)
    assert first.state is State.UP
    second = play(key=key, memory=memory, at_s=1_001.0, headers=target.headers)
    assert states(second)["chat"] == "inconclusive"
    assert second.results[-3].failed[0].name == "budget_allows"
    assert (second.state, second.cause) == (State.INCONCLUSIVE, "budget_allows")


def test_where_the_server_has_little_left_it_is_not_asked(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A response that says 0 remain keeps the next check from provoking a 429."""
    exchange = Scripted(models=answer("models", limits=RateLimits(remaining_requests=0, spelling="api_key")))
    played = play(exchange, at_s=1_001.0)
    assert "chat" not in exchange.asked
    skipped = next(one for one in played.results if one.check == "chat")
    assert (skipped.state, skipped.failed[0].name) == (State.INCONCLUSIVE, "server_has_room")


def test_every_so_often(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A check of an hour runs at once, then on the slot nearest to an hour later, also after a clock was set back."""
    memory, ran = TargetMemory(), []
    for minute in (0, 1, 59, 60, 61, 20, 21):
        played = play(memory=memory, checks=("tls", "auth"), at_s=10_000 + 60.0 * minute)
        ran.append("auth" in states(played))
    assert ran == [True, False, False, True, False, True, False]


def test_nothing_due_says_nothing(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A round in which no check is due is inconclusive."""
    memory = TargetMemory()
    play(memory=memory, checks=("auth",))
    played = play(memory=memory, checks=("auth",), at_s=1_060.0)
    assert (played.state, played.reason, played.results) == (State.INCONCLUSIVE, "no check was due", ())


def test_a_defect_of_a_check_is_told_without_the_key(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """What a check of somebody's raises is a finding in one line, and the others go on."""

    def broken(_: Context) -> Finding:
        raise KeyError("sk-round-test\nover two lines")

    checks["mine"] = named(name="mine", run=broken)
    played = play(checks=("tls", "mine", "ratelimit"))
    assert states(played) == {"tls": "up", "mine": "inconclusive", "ratelimit": "up"}
    said = played.results[1].reason or ""
    assert said.startswith("a defect of the check mine: KeyError")
    assert "\n" not in said
    assert "sk-round" not in said
    assert played.state is State.UP


def test_what_a_check_of_ones_own_quotes_holds_no_key(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A detail or reason of somebody's check that repeats the key is masked, on one line."""
    checks["mine"] = named(name="mine", run=falls("echoes", State.DEGRADED, "it said:\nsk-round-test"))
    assert play(checks=("mine",)).reason == "it said: [redacted]"
    checks["mine"] = named(name="mine", run=lambda _: Finding(inconclusive="key sk-round-test"))
    assert play(checks=("mine",)).reason == "key [redacted]"


def test_known_deviations_are_accepted(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """An assertion that the configuration lets fail is not judged, and its detail stays."""
    checks["auth"] = named(name="auth", run=falls("body_is_documented", State.DEGRADED, "code is '401'"))
    played = play(checks=("tls", "auth"), accept=("auth.body_is_documented",))
    assert played.state is State.UP
    assert played.results[1].assertions[0].held is None
    assert played.results[1].assertions[0].detail == "accepted: code is '401'"


def test_what_a_request_took_is_the_most_where_nobody_said(
    checks: dict[str, Check], play: Callable[..., Round]
) -> None:
    """A request that was sent and not answered is settled at what was set aside; one that was never sent at nothing."""

    def unanswered(context: Context) -> Finding:
        got = context.ask("POST", "/chat", kind="chat")
        return Finding(assertions=(Assertion("answered", False),), answer=got)

    checks["chat"] = named(name="chat", run=unanswered, decides=True, most=lambda _: Cost(1, 20))
    failure = Failure(ErrorKind.TIMEOUT, Phase.HEADERS, "nothing came in 20 s")
    sent = play(Scripted(chat=answer("chat", None, failure=failure)), checks=("chat",))
    assert sent.spent == Spent(1, 20)
    never = play(Scripted(chat=answer("chat", None, failure=failure, phases=Phases(dns_ns=1))), checks=("chat",))
    assert never.spent == Spent(0, 0)


def test_money_is_bounded_by_the_dearer_price(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """A check whose worst case is more than what is left of the day's money is skipped."""
    played = play(
        checks=("chat",),
        prices=Prices(prompt_per_million=1.0, completion_per_million=50_000.0),
        budget=Budget(cost_a_day=0.5),
    )
    assert states(played) == {"chat": "inconclusive"}


def test_observations_say_what_was_seen(checks: dict[str, Check], play: Callable[..., Round]) -> None:
    """Each answer of the target's own key is one: its kind by its status, sure where a model worked on it."""
    target = Target(name="t", base_url="http://127.0.0.1:1/v1", api_key=Secret("sk-round-test"))
    key = Keys([target]).of(target)
    play(Scripted(errors=answer("errors", 400)), key=key)
    seen = [(one.kind, one.sure, one.tokens, one.most_tokens) for one in key.observations]
    assert seen[:5] == [
        ("tls", False, 0, 0),
        ("models", False, 0, 0),
        ("chat", True, 7, 20),
        ("stream", True, 7, 20),
        ("auth", False, 0, 0),
    ]
    assert seen[5][:2] == ("bad_request", False)
    assert key.observations[2].head_unix_ns - key.observations[2].sent_unix_ns == 5_000_000
