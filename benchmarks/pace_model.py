"""How much of a limit is used, and how often is a key refused, when it is kept within a share? In virtual time.

    python benchmarks/pace_model.py [--seeds 3] [--only TEXT]

Five windows on every kind of limiter, way of charging tokens, header and lie, streamed and not, bound by requests and
by tokens. The limiters are those that the simulator enforces with; requests take time both
ways, answers vary in time and length, and whoever waits at the gate wakes late. Printed are the combinations with more
than one refusal or with less than 90 % used.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from tensorix_api.budget import Spend
from tensorix_api.limiters import AllOf, Cost, FixedWindow, InFlight, Limiter, SlidingCounter, SlidingLog, TokenBucket
from tensorix_loadtests._pacing import KeyPace
from tensorix_loadtests.plan import Limits
from tensorix_records import RequestRecord
from tensorix_simulator.limits.gateway_window import GatewayLimit, GatewayWindow

SECOND = 1_000_000_000
KINDS = ("fixed", "clock", "log", "counter", "bucket", "burst 1", "burst 5", "gateway")
CHARGINGS = ("actual", "reserve", "kept", "prompt")
HEADERS = ("none", "documented", "openai", "litellm", "late", "negative", "stuck")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One key, one server, five windows."""

    kind: str = "fixed"
    charging: str = "actual"
    headers: str = "none"
    stream: bool = True
    rpm: int | None = 60
    tpm: int | None = None
    window_s: float = 6.0
    users: int = 8
    latency_s: float = 0.3
    spread: float = 0.3
    prompt_bytes: int = 200
    prompt_tokens: int = 50
    max_tokens: int = 64
    answer: tuple[int, int] = (64, 64)
    more: tuple[str, ...] = ()
    used_before: int = 0
    told: bool = True
    retry_after: str = "none"
    says: bool = True
    share: float = 0.95
    foreign: float = 0.0
    windows: int = 5
    seed: int = 0


@dataclass(slots=True)
class Outcome:
    """What came of a case."""

    used: float = 0.0
    """Of what the binding limit allows in the time."""
    refused: int = 0
    words: list[str] = field(default_factory=list)


class Server:
    """Limiters, a way of charging, and what is said about both."""

    def __init__(self, case: Case, rng: random.Random) -> None:
        self.case, self.rng = case, rng
        window_ns = round(case.window_s * SECOND)
        self.phase_ns = rng.randrange(window_ns)
        self.limiters: list[Limiter] = []
        gateway = GatewayWindow(window_ns, self.phase_ns)
        for resource, amount in (("requests", case.rpm), ("tokens", case.tpm)):
            if amount is not None:
                self.limiters.append(self._made(case.kind, resource, amount, window_ns, resource, gateway))
        for text in case.more:
            if text.endswith("in flight"):
                self.limiters.append(InFlight(int(text.split()[0]), name=text))
            else:
                resource, seconds = text.split(" ", 1)[1].split("/")
                own_ns = round(float(seconds.removesuffix("s")) * SECOND)
                kind = "fixed" if case.kind == "gateway" else case.kind
                self.limiters.append(self._made(kind, resource, int(text.split()[0]), own_ns, text, gateway))
        self.limiter = AllOf(self.limiters)
        self.kept: dict[str, int] = {}
        if case.used_before:
            self.limiter.charge(0, Cost(case.used_before, 0))

    def _made(self, kind: str, resource: Any, amount: int, window_ns: int, name: str, gateway: Any) -> Limiter:
        match kind:
            case "fixed":
                return FixedWindow(resource, amount, window_ns, name=name)
            case "clock":
                return FixedWindow(resource, amount, window_ns, phase_ns=self.phase_ns, name=name)
            case "log":
                return SlidingLog(resource, amount, window_ns, name=name)
            case "counter":
                return SlidingCounter(resource, amount, window_ns, phase_ns=self.phase_ns, name=name)
            case "gateway":
                return GatewayLimit(resource, amount, gateway, name=name)
            case "bucket":
                return TokenBucket(resource, amount, window_ns, name=name)
            case _:
                burst = int(kind.removeprefix("burst "))
                burst = burst if resource == "requests" else max(amount // 10, 400)
                return TokenBucket(resource, amount, window_ns, burst=burst, name=name)

    def cost(self) -> tuple[int, int]:
        """Tokens to reserve, and what they become: None as long as it is not known."""
        case = self.case
        most = case.prompt_tokens + case.max_tokens
        return {"actual": (0, 0), "reserve": (most, 0), "kept": (most, most), "prompt": (case.prompt_tokens,) * 2}[
            case.charging
        ]

    def headers(self, now_ns: int) -> dict[str, Any]:
        """What a response says, as the fields of a record."""
        case = self.case
        if case.headers == "none" or (case.headers == "litellm" and case.stream):
            return {}
        said: dict[str, Any] = {"limit_spelling": "api_key"}
        for resource, one in self.limiter.standing(now_ns).items():
            shown = one.remaining
            if case.headers == "late":
                shown, self.kept[resource] = self.kept.get(resource, one.limit), one.remaining
            elif case.headers == "stuck":
                shown = self.kept.setdefault(resource, one.remaining)
            elif case.headers == "negative":
                shown = -max(1, one.limit - one.left)
            said[f"remaining_{resource}"] = shown
            if case.headers in ("openai", "litellm"):
                said[f"limit_{resource}"] = one.limit
            if case.headers == "openai" and one.whole_at_ns is not None:
                said[f"reset_{resource}_ns"] = one.whole_at_ns - now_ns
        return said


def record_of(**fields: Any) -> RequestRecord:
    """A record with what the pace looks at."""
    fixed: dict[str, Any] = {
        "run_id": "r", "record_id": "1", "request_id": "1", "endpoint": "/chat/completions", "start_unix_ns": 0
    }  # fmt: skip
    return RequestRecord(**(fixed | fields))


def play(case: Case, *, watch: Callable[[int, str], None] | None = None) -> Outcome:  # noqa: C901 - one world
    """Run one case."""
    rng = random.Random(case.seed)
    server = Server(case, rng)
    window_ns = round(case.window_s * SECOND)
    start_ns = rng.randrange(1, window_ns)
    told = ("requests", "tokens", "window_s") if case.told else ("window_s",)
    limits = Limits(
        requests=case.rpm if case.told else None,
        tokens=case.tpm if case.told else None,
        window_s=case.window_s,
        told=told,
    )
    pace = KeyPace(limits, case.share)
    worst = Spend(requests=1, tokens=case.prompt_bytes + case.max_tokens)
    out = Outcome()
    used = {"requests": 0, "tokens": 0}
    by_usage = 0
    ticket = itertools.count()
    events: list[tuple[int, int, Callable[[int], None]]] = []

    def at(when_ns: int, do: Callable[[int], None]) -> None:
        heapq.heappush(events, (when_ns, next(ticket), do))

    waiting = case.users
    asked_at = 0
    end_ns = start_ns + case.windows * window_ns

    def way_ns() -> int:
        return round(rng.expovariate(1 / 0.4e6) + 0.2e6)

    def look_again(mine_ns: int, now_ns: int) -> None:
        if mine_ns == asked_at:
            gate(now_ns)

    def gate(now_ns: int) -> None:
        nonlocal waiting, asked_at
        while waiting and now_ns < end_ns:
            wait_ns = pace.wait_ns(now_ns, worst)
            if wait_ns:
                when_ns = now_ns + wait_ns + round(rng.expovariate(1 / 0.7e6))
                asked_at = when_ns
                at(when_ns, partial(look_again, when_ns))
                return
            waiting -= 1
            token = pace.sent(now_ns, worst)
            pace.started(now_ns, token)
            at(now_ns + way_ns(), partial(arrive, token, now_ns))

    def arrive(token: Any, sent_ns: int, now_ns: int) -> None:
        reserve, kept = server.cost()
        decision = server.limiter.admit(now_ns, Cost(1, reserve))
        if not decision.admitted:
            if watch:
                watch(now_ns - start_ns, f"refused by {decision.binding}")
            text = decision.binding or ""
            text = {"requests": f"{case.rpm} RPM per API key", "tokens": f"{case.tpm} TPM per API key"}.get(text, text)
            if not case.says:
                text = ""
            wait = None
            if case.retry_after == "honest" and decision.retry_at_ns is not None:
                wait = -(-(decision.retry_at_ns - now_ns) // SECOND) * SECOND
            elif case.retry_after == "window":
                wait = window_ns
            record = record_of(
                outcome="throttled", status=429, error_message=f"Rate limit exceeded: {text}", retry_after_ns=wait,
                max_tokens=case.max_tokens, end_at_ns=now_ns - sent_ns, headers_at_ns=now_ns - sent_ns,
                **(server.headers(now_ns) if case.headers != "litellm" else {}),
            )  # fmt: skip
            at(now_ns + way_ns(), lambda n: done(n, token, record, None))
            return
        used["requests"] += 1
        latency = case.latency_s * rng.lognormvariate(0, case.spread)
        answer = rng.randint(*case.answer)
        ends_ns = now_ns + round(latency * SECOND)
        head: dict[str, Any] = server.headers(now_ns) if case.stream else {}
        first_ns = now_ns
        grant = decision.grant
        assert grant is not None

        def end(n: int) -> None:
            total = case.prompt_tokens + answer
            final = kept if case.charging in ("kept", "prompt") else total
            server.limiter.settle(n, grant, Cost(1, final))
            nonlocal by_usage
            used["tokens"] += final
            by_usage += total
            headers = head if case.stream else server.headers(n)
            heard_ns = n + way_ns()
            head_ns = first_ns if case.stream else n
            record = record_of(
                outcome="success", status=200, stream=case.stream, max_tokens=case.max_tokens,
                prompt_tokens=case.prompt_tokens, completion_tokens=answer, token_source="usage",
                end_at_ns=heard_ns - sent_ns, headers_at_ns=head_ns - sent_ns, **headers,
            )  # fmt: skip
            at(heard_ns, lambda n: done(n, token, record, Spend(1, total)))

        at(ends_ns, end)

    def done(now_ns: int, token: Any, record: RequestRecord, actual: Spend | None) -> None:
        nonlocal waiting
        if record.outcome == "throttled":
            out.refused += 1
        pace.settle(now_ns, token, actual, record)
        for words in pace.words():
            out.words.append(f"{(now_ns - start_ns) / SECOND:.2f}: {words}")
        waiting += 1
        gate(now_ns)

    pace.seen(
        start_ns - 1000,
        record_of(
            endpoint="/models", outcome="success", status=200,
            **(server.headers(start_ns - 1000) if case.headers != "litellm" else {}),
        ),
    )  # fmt: skip
    if case.foreign:

        def other(now_ns: int) -> None:
            server.limiter.admit(now_ns, Cost(1, 0))
            at(now_ns + round(rng.expovariate(case.foreign / window_ns)), other)

        at(start_ns + 2 * window_ns, other)
    at(start_ns, gate)
    while events and events[0][0] < end_ns:
        now_ns, _, do = heapq.heappop(events)
        do(now_ns)
    shares = [used["requests"] / (case.rpm * case.windows)] if case.rpm else []
    shares += [used["tokens"] / (case.tpm * case.windows)] if case.tpm else []
    for text in case.more:
        amount, _, rest = text.partition(" requests/")
        if rest:
            shares.append(used["requests"] / (int(amount) * case.windows * case.window_s / float(rest[:-1])))
    if case.headers in ("none", "stuck", "negative") and case.charging == "prompt":
        # Nobody says that answers are free: what is used is what usage says.
        shares.append(by_usage / (case.tpm or 1) / case.windows)
    out.used = max(shares)
    return out


def cases() -> Iterator[tuple[str, Case]]:
    """Every combination, with its name."""
    for kind, headers, stream in itertools.product(KINDS, HEADERS, (True, False)):
        way = "streamed" if stream else "whole"
        base = Case(kind=kind, headers=headers, stream=stream)
        yield f"{kind}, {headers}, {way}, requests", base
        yield f"{kind}, {headers}, {way}, requests, 600", replace(base, rpm=600, users=60)
        yield f"{kind}, {headers}, {way}, requests, a minute", replace(base, window_s=60.0, latency_s=2.0)
        yield f"{kind}, {headers}, {way}, both set", replace(base, tpm=200_000)
        for charging in CHARGINGS:
            tokens = replace(base, charging=charging, rpm=1000, tpm=12_000, users=16)
            yield f"{kind}, {headers}, {way}, tokens, {charging}", tokens
            short = replace(tokens, max_tokens=200, answer=(20, 120))
            yield f"{kind}, {headers}, {way}, tokens, {charging}, short answers", short
        slow = replace(base, rpm=1000, tpm=12_000, users=60, latency_s=1.5, max_tokens=400, answer=(20, 80))
        yield f"{kind}, {headers}, {way}, tokens, actual, slow and short", slow
    for kind, headers in itertools.product(KINDS, HEADERS):
        base = Case(kind=kind, headers=headers)
        yield f"{kind}, {headers}, a second's limit", replace(base, more=("12 requests/1s",))
        yield f"{kind}, {headers}, a second's limit that binds", replace(base, more=("6 requests/1s",))
        yield f"{kind}, {headers}, in flight", replace(base, more=("4 in flight",))
        yield f"{kind}, {headers}, small answers", replace(base, users=2, latency_s=0.05)


def main() -> None:
    """Play them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--words", action="store_true")
    options = parser.parse_args()
    told = Counter[str]()
    for name, case in cases():
        if not all(part in name for part in options.only.split("+")):
            continue
        for seed in range(options.seeds):
            out = play(replace(case, seed=seed))
            told["all"] += 1
            if out.refused > 1 or out.used < 0.9:
                told["failed"] += 1
                print(f"{name} [{seed}]: {out.used:.3f} used, {out.refused} refused {out.words[:3]}", flush=True)
            elif options.words:
                print(f"{name} [{seed}]: {out.used:.3f} used, {out.refused} refused {out.words[:3]}", flush=True)
    print(dict(told))


if __name__ == "__main__":
    main()
