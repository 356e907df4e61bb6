"""The pace of one key: when the next request may go, by what was sent, what it cost, and what the server said."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from tensorix_api.budget import Spend, share_of
from tensorix_loadtests._pacing._charges import Charging, Ratio, charge_of, read_usage
from tensorix_loadtests._pacing._evidence import charging_of
from tensorix_loadtests._pacing._flow import Flow
from tensorix_loadtests._pacing._refusals import Hint, read_hint
from tensorix_loadtests._pacing._remaining import Remaining
from tensorix_loadtests._pacing._spread import Spread
from tensorix_loadtests._pacing._tally import Sent, Tally, requests_of
from tensorix_loadtests.plan import Limits
from tensorix_records import RequestRecord

__all__ = ["KeyPace"]

_SECOND_NS = 1_000_000_000
# A count that comes so near to the limit explains a refusal by itself.
_NEAR = 0.9
# What ended and what is held for requests under way is never more of a limit of tokens.
_FULL = 0.97
# Another way of charging explains a refusal where it comes to so much more.
_TELLING = 1.15
# For so long, in windows, must only the reservations be in the way before a third of them is let go.
_DOUBT = 0.01
_FAR = 1000
_TWICE = 2
_FEW_OTHERS = 2
# Of a worst case whose prompt counts by its bytes, before anything is known.
_GUESS = 0.5
_TWO_WINDOWS = 2.1
_LATE_AND_NEAR = 3
_NEXT = 1.01
_OFTEN = 12


def _likely(one: Sent) -> float:
    return one.likely_tokens


class KeyPace:
    """Keeps one key within a share of its limits.

    Of requests at most that share goes in any window, and evenly. Tokens too, by what a request is likely to be
    charged: what it was once it has ended, and before that what those before it were. Besides, what has ended and what
    is held for those under way stays below the limit itself, for servers that reserve the most that may be generated.
    """

    def __init__(self, limits: Limits, share: float, *, parts: int = 1, part: int = 0) -> None:
        """`parts`: as many processes use the key, and this is the `part`-th of them, from 0: what they have comes to
        the share, where that holds a unit for each.
        """
        self._limits = limits
        self._share = share
        self._parts = parts
        self._part = part
        self._window_ns = round(limits.window_s * 1e9)
        self._requests: Flow | None = None
        self._tokens: Flow | None = None
        self._held = Tally(self._window_ns, self._mixed)
        self._all = Tally(self._window_ns, requests_of)
        self._more: list[tuple[str, Flow]] = []
        self._most_in_flight: int | None = None
        self._in_flight = 0
        self._number = 0
        self._began_ns: int | None = None
        self._last_ns: int | None = None
        self._hold_until_ns = 0
        self._learned_ns = -1
        self._charging = Charging.USED
        self._ratios = {charging: Ratio(1.0 if charging is Charging.RESERVED else _GUESS) for charging in Charging}
        self._said_limits: dict[str, int | None] = {}
        self._looked_ns = 0
        self._constant: set[str] = set()
        self._ours: dict[tuple[str, int], tuple[float, float, int]] = {}
        self._spread = Spread()
        self._heard = {"requests": Remaining(), "tokens": Remaining()}
        self._reserves = False
        """Whether the server is known to hold the most that may be generated until a request has ended."""
        self._tight = 0
        """How often a request was refused because it was too near to another."""
        self._held_back_ns = 0
        """For how long only what may be held for requests under way was in the way of the next, and of all so far."""
        self._held_ns = 0
        self._reserve_share = 1.0
        """How much of what might still be generated is held for requests under way."""
        self._lack = 0.0
        """What a bucket of the whole limit would lack by now if nothing were given back."""
        self._words: list[str] = []
        if limits.requests is not None:
            self._limit_requests(limits.requests)
        if limits.tokens is not None:
            self._limit_tokens(limits.tokens)

    # asked by the gate

    @property
    def knows_a_limit(self) -> bool:
        """Whether there is anything to keep to: without, nothing is held back."""
        return self._requests is not None or self._tokens is not None

    def wait_ns(self, now_ns: int, worst: Spend) -> int:
        """How long to wait before a request that uses this at worst may be sent; 0: it may go now. Takes nothing."""
        if self._most_in_flight is not None and self._in_flight >= self._most_in_flight:
            # Waiting alone does not help: whoever waits asks again when a request has ended.
            return _SECOND_NS
        wait_ns = max(0, self._hold_until_ns - now_ns)
        likely, held = self._estimates(worst.tokens)
        if self._requests is not None:
            wait_ns = max(wait_ns, self._requests.wait_ns(now_ns, 1))
            wait_ns = max(wait_ns, self._spread.wait_ns(now_ns, self._number, self._last_ns or now_ns))
        for what, flow in self._more:
            wait_ns = max(wait_ns, flow.wait_ns(now_ns, 1 if what == "requests" else likely))
        if self._tokens is not None and worst.tokens:
            wait_ns = max(wait_ns, self._tokens.wait_ns(now_ns, likely))
            held = likely + self._reserve_share * (held - likely)
            held_ns = self._held.fits_at_ns(now_ns, held, self._tokens.limit * _FULL) - now_ns
            self._held_back_ns = max(self._held_back_ns, held_ns - wait_ns)
            wait_ns = max(wait_ns, held_ns)
        return wait_ns

    def sent(self, now_ns: int, worst: Spend) -> Sent:
        """It goes. What comes back is given to `settle`."""
        if self._held_back_ns:
            self._doubt(self._held_back_ns)
            self._held_back_ns = 0
        likely, held = self._estimates(worst.tokens)
        one = Sent(now_ns, self._number, worst.tokens, likely, held, in_flight_then=self._in_flight)
        self._number += 1
        self._in_flight += 1
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        for flow in self._flows():
            flow.take(now_ns, one)
        self._held.add(one)
        self._all.add(one)
        if self._tokens is not None:
            since_ns = now_ns - (self._last_ns or now_ns)
            self._lack = max(0.0, self._lack - self._tokens.limit * since_ns / self._window_ns) + self._reserved_of(one)
        self._last_ns = now_ns
        return one

    def _doubt(self, held_ns: int) -> None:
        """For so long only what a server may hold for requests under way was in the way. Many hold nothing.

        Step by step less is held, until a refusal says that the server does hold it.
        """
        self._held_ns += held_ns
        if self._held_ns > _DOUBT * self._window_ns and not self._reserves and self._reserve_share > 0:
            self._held_ns = 0
            self._reserve_share = max(0.0, self._reserve_share - 1 / 3)
            self._held.recount()

    def settle(self, now_ns: int, token: Sent, actual: Spend | None, record: RequestRecord) -> None:
        """It has ended; `actual` is what it used by the server's own word, None where that said nothing."""
        self._in_flight -= 1
        token.ended = True
        if record.end_at_ns is not None:
            token.started_ns = max(token.at_ns, now_ns - record.end_at_ns)
        read_usage(token, record)
        if token.prompt_tokens is None and actual is not None:
            token.prompt_tokens, token.completion_tokens = actual.tokens, 0
        if record.outcome == "success" and token.prompt_tokens is not None and token.worst_tokens:
            for charging, ratio in self._ratios.items():
                ratio.add(charge_of(charging, token), token.worst_tokens)
        self._cost(token, charge_of(self._charging, token))
        self._hear(now_ns, record)
        if record.outcome == "throttled":
            self._refused(now_ns, token, record)

    def release(self, now_ns: int, token: Sent) -> None:
        """It was never sent."""
        self._in_flight -= 1
        token.ended = True
        self._cost(token, 0.0)
        for flow in self._flows("requests"):
            flow.correct(token, -token.requests)
        self._all.correct(token, -token.requests)
        token.requests = 0

    def seen(self, now_ns: int, record: RequestRecord) -> None:
        """A response to a request that did not pass here, such as the look before the run."""
        self._hear(now_ns, record)

    def remaining(self, now_ns: int) -> tuple[int | None, int | None]:
        """The requests and tokens that are left of the share by its own ledger; None of a kind without a limit."""
        requests, tokens = self._requests, self._tokens
        return (requests.left(now_ns) if requests else None, tokens.left(now_ns) if tokens else None)

    def words(self) -> list[str]:
        """What was learned about the limits since the last call, a line each."""
        words, self._words = self._words, []
        return words

    # what is counted

    def _flows(self, what: str | None = None) -> list[Flow]:
        main = (("requests", self._requests), ("tokens", self._tokens), *self._more)
        return [flow for kind, flow in main if flow is not None and what in (None, kind)]

    def _estimates(self, worst_tokens: int) -> tuple[float, float]:
        """What a request will probably be charged, and what is held for it until that is known."""
        likely = worst_tokens * min(1.0, self._ratios[self._charging].value)
        if self._charging is Charging.PROMPT:
            return likely, likely
        return likely, max(likely, worst_tokens * min(1.0, self._ratios[Charging.RESERVED].value))

    def _mixed(self, one: Sent) -> float:
        """What it is taken to hold: between what it will be charged and the most that it might."""
        return one.likely_tokens + self._reserve_share * (one.held_tokens - one.likely_tokens)

    def _cost(self, one: Sent, tokens: float) -> None:
        """It has cost so much in the end."""
        more, more_held = tokens - one.likely_tokens, tokens - self._mixed(one)
        one.likely_tokens = one.held_tokens = tokens
        for flow in self._flows("tokens"):
            flow.correct(one, more)
        self._held.correct(one, more_held)

    def _own(self, limit: int) -> float:
        """This process's part of the share of a limit. Whole: parts of a unit would each be rounded up somewhere."""
        whole = share_of(limit, self._share)
        return max(1.0, float((whole + self._parts - 1 - self._part) // self._parts))

    def _limit_requests(self, limit: int) -> None:
        most = self._own(limit)
        if self._requests is None:
            self._requests = Flow(limit, most, self._window_ns, requests_of)
            self._carry_over(self._requests)
        else:
            self._requests.set(limit, most)

    def _limit_tokens(self, limit: int) -> None:
        most = self._own(limit)
        if self._tokens is None:
            self._tokens = Flow(limit / self._parts, most, self._window_ns, _likely)
            self._carry_over(self._tokens)
        else:
            self._tokens.set(limit / self._parts, most)

    def _carry_over(self, flow: Flow) -> None:
        """What was sent before a limit was known counts."""
        for one in self._all.oldest():
            flow.tally.add(one)

    # what the headers teach

    def _hear(self, now_ns: int, record: RequestRecord) -> None:
        at_ns = now_ns
        if record.headers_at_ns is not None and record.end_at_ns is not None:
            at_ns -= max(0, record.end_at_ns - record.headers_at_ns)
        last = self._last_by(at_ns)
        self._hear_limits(record)
        for what, left in (("requests", record.remaining_requests), ("tokens", record.remaining_tokens)):
            heard = self._heard[what]
            if left is None:
                continue
            believed = heard.hear(at_ns, left, last.number + 1 if last else 0)
            if heard.nonsense == _TWICE:
                self._say(f"the headers say that {left} {what} are left, which cannot be: they are not believed")
            if believed and (last is not None or self._number == 0):
                self._believe(what, at_ns, left, last, record)
                self._watch_constant(what, at_ns, left)

    def _watch_constant(self, what: str, at_ns: int, left: int) -> None:
        """Say it once where what is left stays, though our own count changed much: a lie, or a limit that flows back.

        Either way nothing can be read off it; nothing is.
        """
        flow = self._requests if what == "requests" else self._tokens
        if flow is None or what in self._constant:
            return
        ours = flow.limit - flow.tally.at(at_ns)
        low, high, number = self._ours.get((what, left), (ours, ours, 0))
        low, high, number = min(low, ours), max(high, ours), number + 1
        self._ours = {key: value for key, value in self._ours.items() if key[0] != what} | {
            (what, left): (low, high, number)
        }
        if number >= _OFTEN and high - low > flow.limit / 5:
            self._constant.add(what)
            self._say(f"the headers say again and again that {left} {what} are left: our own count is kept to")

    def _last_by(self, at_ns: int) -> Sent | None:
        """The last that had gone by then, as far back as it is worth looking."""
        return next((one for one in islice(self._all.newest(), _FAR) if one.at_ns <= at_ns), None)

    def _hear_limits(self, record: RequestRecord) -> None:
        """A limit that nobody told is taken from the headers, once they say it twice."""
        for what, said in (("requests", record.limit_requests), ("tokens", record.limit_tokens)):
            flow = self._requests if what == "requests" else self._tokens
            before, self._said_limits[what] = self._said_limits.get(what), said
            if said is None or said < 1 or what in self._limits.told or (flow is not None and said != before):
                continue
            if flow is None or flow.limit * (self._parts if what == "tokens" else 1) != said:
                self._learn_limit(what, said)

    def _learn_limit(self, what: str, limit: int) -> None:
        (self._limit_requests if what == "requests" else self._limit_tokens)(limit)
        self._say(f"the limit is {limit} {what} in a window, by the headers")

    def _believe(self, what: str, at_ns: int, left: int, last: Sent | None, record: RequestRecord) -> None:
        flow = self._requests if what == "requests" else self._tokens
        if what not in self._limits.told and self._said_limits.get(what) is None and left > 0:
            least = left + (1 if what == "requests" and last is not None else 0)
            if flow is None or least > flow.limit:
                self._learn_limit(what, least)
                flow = self._requests if what == "requests" else self._tokens
        if flow is None or self._parts > 1:
            return
        if what == "requests":
            reset_ns = record.reset_requests_ns
            over_ns = at_ns + min(self._window_ns, reset_ns if reset_ns else self._window_ns)
            held = self._spread.holds
            ours = sum(1 for one in self._all.newest() if last and at_ns - self._window_ns < one.at_ns <= at_ns)
            count = last.number + 1 if last else 0
            # Since it last rose, so since a window opened, where there are windows.
            row = self._heard["requests"].heard[0]
            others = row.remaining - left - (count - row.count)
            if others > max(_FEW_OTHERS, (count - row.count) / 8):
                over_ns = min(over_ns, max(at_ns, row.at_ns + self._window_ns))
            else:
                others = 0
            if record.outcome != "throttled":
                self._spread.hear(at_ns, left, count, ours, flow.limit, over_ns, others=others)
            if self._spread.holds and not held:
                self._say("fewer requests are left than by our own count: what is left is made to last")
        elif last is not None and at_ns - self._looked_ns > self._window_ns / 40:
            self._looked_ns = at_ns
            self._look_at_charging(at_ns, left, flow)

    def _look_at_charging(self, at_ns: int, left: int, flow: Flow) -> None:
        """Compare how the tokens that are left fell with what each way of charging would have taken."""
        sent = [one for one in self._all.newest() if one.at_ns <= at_ns]
        charging = charging_of(
            self._heard["tokens"].heard,
            lambda after_ns, by_ns: [one for one in sent if after_ns < one.at_ns <= by_ns],
            self._as_charged,
        )
        if charging is not None and charging is not self._charging:
            self._charge(charging)
            words = {"used": "as used", "reserved": "as reserved, whatever is generated", "prompt": "for prompts only"}
            self._say(f"tokens are charged {words[charging]}: so they fall in the headers")

    def _as_charged(self, charging: Charging, one: Sent) -> float:
        """What it is charged, or will be as far as can be told."""
        if one.ended:
            return charge_of(charging, one)
        return one.worst_tokens * min(1.0, self._ratios[charging].value)

    # what a refusal teaches

    def _refused(self, now_ns: int, one: Sent, record: RequestRecord) -> None:
        if one.at_ns <= self._learned_ns:
            # It went before the last lesson was learned, and teaches the same.
            return
        self._learned_ns = now_ns
        hint = read_hint(record)
        waits_ns = record.retry_after_ns
        # Whoever says a whole window or more does not know better: LiteLLM always does.
        known_ns = waits_ns if waits_ns is not None and waits_ns < self._window_ns else None
        if hint.what == "in flight" and one.in_flight_then:
            self._most_in_flight = one.in_flight_then
            self._say(f"at most {one.in_flight_then} requests in flight: one more was refused")
        elif hint.amount is not None and hint.window_s is not None and self._is_another(hint):
            self._obey(now_ns, hint, known_ns)
        elif self._is_of_tokens(one, hint):
            self._refused_tokens(now_ns, one, known_ns)
        else:
            self._refused_requests(now_ns, one, known_ns)

    def _is_another(self, hint: Hint) -> bool:
        """Whether a limit that was stated allows less than is sent now."""
        flow = self._requests if hint.what == "requests" else self._tokens
        assert hint.amount is not None
        assert hint.window_s is not None
        return flow is None or hint.amount / hint.window_s < flow.limit / (self._window_ns / 1e9) * 0.999

    def _obey(self, now_ns: int, hint: Hint, known_ns: int | None, why: str = "the server stated it") -> None:
        """There is another limit: keep to that too."""
        assert hint.amount is not None
        assert hint.window_s is not None
        assert hint.what is not None
        window_ns = round(hint.window_s * 1e9)
        for what, flow in self._more:
            if (what, flow.limit, flow.window_ns) == (hint.what, hint.amount / self._parts, window_ns):
                self._slower(what, flow, math.floor(flow.most - 1e-9) / flow.most)
                self._hold_until_ns = now_ns + (known_ns if known_ns is not None else window_ns)
                return
        most = max(1.0, hint.amount * self._share / self._parts)
        flow = Flow(hint.amount / self._parts, most, window_ns, requests_of if hint.what == "requests" else _likely)
        self._carry_over(flow)
        self._more.append((hint.what, flow))
        self._hold_until_ns = now_ns + (known_ns if known_ns is not None else min(window_ns, self._window_ns))
        self._say(f"a limit of {hint.amount} {hint.what} in {hint.window_s:g} s besides: {why}")

    def _is_of_tokens(self, one: Sent, hint: Hint) -> bool:
        if self._tokens is None or hint.what == "requests":
            return False
        if hint.what == "tokens" or self._requests is None:
            return True
        requests = self._counted(one, requests_of) / self._requests.limit
        return requests < _NEAR and self._counted(one, self._reserved_of) / self._tokens.limit > requests

    def _counted(self, one: Sent, amount: Callable[[Sent], float]) -> float:
        """The sum over those of the last window before one that the server refused."""
        return sum(amount(other) for other in self._all.since(one.at_ns - self._window_ns) if other.number < one.number)

    def _reserved_of(self, one: Sent) -> float:
        """What a server that never gives back has charged for it."""
        return self._as_charged(Charging.RESERVED, one)

    def _refused_tokens(self, now_ns: int, one: Sent, known_ns: int | None) -> None:
        tokens = self._tokens
        assert tokens is not None
        # Until as much has flowed back, where it flows.
        self._hold_until_ns = now_ns + round(one.worst_tokens * self._window_ns / tokens.limit)
        own = self._reserved_of(one) or one.worst_tokens
        held = self._counted(one, lambda other: other.likely_tokens if other.ended else self._reserved_of(other)) + own
        kept = self._counted(one, self._reserved_of) + own
        near = _NEAR * tokens.limit
        if self._reserve_share < 1 and held >= near:
            self._know_reserves()
        elif self._charging is not Charging.RESERVED and kept >= _TELLING * held and self._explains(kept):
            self._charge(Charging.RESERVED)
            self._say("tokens are charged as reserved: the most that might be generated, whatever is")
        elif self._charging is Charging.PROMPT:
            self._charge(Charging.USED)
            self._say("generated tokens are charged after all")
        else:
            self._miscounted(now_ns, one, "tokens", tokens, held, known_ns)

    def _know_reserves(self) -> None:
        self._reserves, self._reserve_share = True, 1.0
        self._held.recount()
        self._say("the most that a request may generate is charged until it has ended")

    def _explains(self, kept: float) -> bool:
        """Whether a server that never gives back would have refused now, and not before."""
        assert self._tokens is not None
        in_window, in_bucket = kept / self._tokens.limit, self._lack / self._tokens.limit
        # Nobody knows the edges of windows: up to twice one may have passed. A bucket's is what it lacks.
        return (in_window <= _TWO_WINDOWS and not self._reserves) or abs(in_bucket - 1) <= 1 - _NEAR

    def _charge(self, charging: Charging) -> None:
        """From now on, and for what was sent before, another count."""
        self._charging = charging
        for one in self._all.newest():
            if one.ended:
                one.likely_tokens = one.held_tokens = charge_of(charging, one)
        for flow in self._flows("tokens"):
            flow.tally.recount()
        self._held.recount()

    def _refused_requests(self, now_ns: int, one: Sent, known_ns: int | None) -> None:
        requests = self._requests
        if requests is None:
            return
        count = self._counted(one, requests_of)
        before = next((other for other in self._all.newest() if other.number < one.number), None)
        few = sum(1 for other in self._all.since(one.at_ns - _SECOND_NS) if other.number < one.number) <= _LATE_AND_NEAR
        if (
            count < _NEAR * requests.limit
            and before is not None
            and (self._is_next_to(one, before, requests) or (few and self._tight < _TWICE))
        ):
            # Right behind another, or on its way a little faster: a bucket that holds hardly more than one.
            self._hold_until_ns = now_ns + (known_ns or round(self._window_ns / requests.most))
            self._slower("requests", requests, 0.95 if requests.strict else 0.98)
            self._tight += 1
            requests.be_strict()
        else:
            self._miscounted(now_ns, one, "requests", requests, count, known_ns)

    def _is_next_to(self, one: Sent, before: Sent, requests: Flow) -> bool:
        """Whether the two were nearer than the pace when they really went, as far as that is known."""
        if before.started_ns is None:
            return one.at_ns - before.at_ns < _NEXT * self._window_ns / requests.most
        started_ns = one.at_ns if one.started_ns is None else one.started_ns
        return started_ns - before.started_ns < self._window_ns / requests.most / _NEXT

    def _miscounted(self, now_ns: int, one: Sent, what: str, flow: Flow, counted: float, known_ns: int | None) -> None:
        """The server's count is another than ours."""
        assert self._began_ns is not None
        age_ns = one.at_ns - self._began_ns
        if counted >= _NEAR * flow.limit:
            # Ours is nearly right: somebody's clock, a refused request that counts.
            self._slower(what, flow, 0.97)
            self._hold_until_ns = now_ns + (known_ns if known_ns is not None else self._window_ns // 20)
        elif flow.strict:
            self._slower(what, flow, 0.95)
            self._hold_until_ns = now_ns + (known_ns or round(self._window_ns / flow.most))
        elif known_ns is not None and known_ns > _SECOND_NS and age_ns < self._window_ns:
            self._hold_until_ns = now_ns + known_ns
            self._say(f"the key's {what} were used before this run: waiting as long as the server said")
        elif what == "requests" and age_ns < min(1.5 * _SECOND_NS, self._window_ns / 2) and counted >= 1:
            second = max(1, sum(1 for other in self._all.since(one.at_ns - _SECOND_NS) if other.number < one.number))
            self._obey(now_ns, Hint("requests", second, 1.0), None, "no more passed")
        elif age_ns < self._window_ns:
            # Whatever was used before this run is forgotten a window after it began.
            self._hold_until_ns = self._began_ns + self._window_ns
            self._say(f"the key's {what} were used before this run: waiting until that is over")
        else:
            self._slower(what, flow, max(0.1, counted / flow.most))
            self._hold_until_ns = now_ns + (known_ns or 0)

    def _slower(self, what: str, flow: Flow, factor: float) -> None:
        flow.set(flow.limit, max(1.0, flow.most * min(1.0, factor)))
        self._say(f"{what} are limited sooner than was thought: at most {math.floor(flow.most)} in a window")

    def _say(self, words: str) -> None:
        self._words.append(words)
