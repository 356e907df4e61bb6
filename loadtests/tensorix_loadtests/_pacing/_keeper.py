"""Keeps the pace of one key by what is known of its limiter: flows, what is held for requests under way, pauses."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from tensorix_api.budget import Spend, share_of
from tensorix_loadtests._pacing._charges import Charging, Ratio, charge_of
from tensorix_loadtests._pacing._flow import Flow
from tensorix_loadtests._pacing._spread import Spread
from tensorix_loadtests._pacing._tally import Sent, Tally, requests_of

__all__ = ["SECOND_NS", "Keeper"]

SECOND_NS = 1_000_000_000
# What ended and what is held for requests under way is never more of a limit of tokens: what a server counts for a
# prompt before it has read it is a few tokens off what usage says.
_FULL = 0.97
# For so long, in windows, must only the reservations be in the way before a third of them is let go: three steps then
# cost less than the twentieth of a window that a share of 0.95 leaves.
_DOUBT = 0.01
_STEP = 1 / 3
# Of a worst case whose prompt counts by its bytes, before anything is known: of prose a token is about four of them,
# and answers mostly end before their bound.
_GUESS = 0.5
# Responses older than this many requests are not looked for: nobody keeps so many under way with one key.
_FAR = 1000


def _likely(one: Sent) -> float:
    return one.likely_tokens


class Keeper:
    """Lets requests of one key go evenly, within its part of a share of each limit that it was told of.

    Of tokens a request counts by what it is likely to be charged: what it was once it has ended, and before that what
    those before it were. Besides, what has ended and what is held for those under way stays below the limit itself, for
    servers that reserve the most that may be generated.
    """

    def __init__(self, window_ns: int, share: float, parts: int, part: int) -> None:
        self.window_ns = window_ns
        self.share = share
        self.parts = parts
        self._part = part
        self.requests: Flow | None = None
        self.tokens: Flow | None = None
        self.more: list[tuple[str, Flow]] = []
        """Limits besides, that refusals told of."""
        self.all = Tally(window_ns, requests_of)
        """What was sent, whatever limits are known."""
        self.spread = Spread()
        self.charging = Charging.USED
        self.reserves = False
        """Whether the server is known to hold the most that may be generated until a request has ended."""
        self.reserve_share = 1.0
        """How much of what might still be generated is held for requests under way."""
        self.lack = 0.0
        """What a bucket of the whole limit would lack by now if nothing were given back."""
        self.number = 0
        """How many were sent."""
        self.began_ns: int | None = None
        self._held = Tally(window_ns, self._mixed)
        self._most_in_flight: int | None = None
        self._in_flight = 0
        self._last_ns: int | None = None
        self._tells_starts = False
        """Whether whoever sends says when a request really goes."""
        self._hold_until_ns = 0
        self._ratios = {charging: Ratio(1.0 if charging is Charging.RESERVED else _GUESS) for charging in Charging}
        self._held_back_ns = 0
        """For how long only what may be held for requests under way was in the way of the next, and of all so far."""
        self._held_ns = 0
        self._words: list[str] = []

    # asked by the gate

    def wait_ns(self, now_ns: int, worst: Spend) -> int:
        """How long to wait before a request that uses this at worst may be sent; 0: it may go now. Takes nothing."""
        if self._most_in_flight is not None and self._in_flight >= self._most_in_flight:
            # Waiting alone does not help: whoever waits asks again when a request has ended.
            return SECOND_NS
        wait_ns = max(0, self._hold_until_ns - now_ns)
        likely, held = self._estimates(worst.tokens)
        if self.requests is not None:
            wait_ns = max(wait_ns, self.requests.wait_ns(now_ns, 1))
            wait_ns = max(wait_ns, self.spread.wait_ns(now_ns, self.number, self._last_ns or now_ns))
        for what, flow in self.more:
            wait_ns = max(wait_ns, flow.wait_ns(now_ns, 1 if what == "requests" else likely))
        if self.tokens is not None and worst.tokens:
            wait_ns = max(wait_ns, self.tokens.wait_ns(now_ns, likely))
            held = likely + self.reserve_share * (held - likely)
            held_ns = self._held.fits_at_ns(now_ns, held, self.tokens.limit * _FULL) - now_ns
            self._held_back_ns = max(self._held_back_ns, held_ns - wait_ns)
            wait_ns = max(wait_ns, held_ns)
        return wait_ns

    def sent(self, now_ns: int, worst: Spend) -> Sent:
        """It goes."""
        if self._held_back_ns:
            self._doubt(self._held_back_ns)
            self._held_back_ns = 0
        likely, held = self._estimates(worst.tokens)
        one = Sent(now_ns, self.number, worst.tokens, likely, held, in_flight_then=self._in_flight)
        self.number += 1
        self._in_flight += 1
        self.began_ns = now_ns if self.began_ns is None else self.began_ns
        for flow in self._flows():
            flow.take(now_ns, one, going=self._tells_starts)
        self._held.add(one)
        self.all.add(one)
        if self.tokens is not None:
            since_ns = now_ns - (self._last_ns or now_ns)
            self.lack = max(0.0, self.lack - self.tokens.limit * since_ns / self.window_ns) + self.reserved_of(one)
        self._last_ns = now_ns
        return one

    def started(self, at_ns: int, one: Sent) -> None:
        """It really goes now, behind the opening of a connection."""
        self._tells_starts = True
        one.started_ns = max(one.at_ns, at_ns)
        if one.number == self.number - 1:
            for flow in self._flows("requests"):
                flow.started(one.started_ns)

    def _doubt(self, held_ns: int) -> None:
        """For so long only what a server may hold for requests under way was in the way. Many hold nothing.

        Step by step less is held, until a refusal says that the server does hold it.
        """
        self._held_ns += held_ns
        if self._held_ns > _DOUBT * self.window_ns and not self.reserves and self.reserve_share > 0:
            self._held_ns = 0
            self.reserve_share = max(0.0, self.reserve_share - _STEP)
            self._held.recount()

    def ended(self, one: Sent, *, success: bool) -> None:
        """What the server said of its tokens is noted in it."""
        self._in_flight -= 1
        one.ended = True
        if success and one.prompt_tokens is not None and one.worst_tokens:
            for charging, ratio in self._ratios.items():
                ratio.add(charge_of(charging, one), one.worst_tokens)
        self._cost(one, charge_of(self.charging, one))

    def release(self, one: Sent) -> None:
        """It was never sent."""
        self._in_flight -= 1
        one.ended = True
        self._cost(one, 0.0)
        for flow in self._flows("requests"):
            flow.correct(one, -one.requests)
        self.all.correct(one, -one.requests)
        one.requests = 0

    def words(self) -> list[str]:
        """What was learned about the limits since the last call, a line each."""
        words, self._words = self._words, []
        return words

    # facts about the limiter

    def say(self, words: str) -> None:
        """A line for people about what was learned."""
        self._words.append(words)

    def limit_is(self, what: str, limit: int) -> None:
        """So many requests, or tokens, in a window."""
        if what == "requests":
            self.requests = self._set(self.requests, limit, limit, requests_of)
        else:
            self.tokens = self._set(self.tokens, limit, limit / self.parts, _likely)

    def limited_besides(self, what: str, limit: int, window_ns: int) -> bool:
        """Another limit holds too; False where it is kept to already, and met all the same: its pace was lowered."""
        for kind, flow in self.more:
            if (kind, flow.limit, flow.window_ns) == (what, limit / self.parts, window_ns):
                self.slower(what, flow, math.floor(flow.most - 1e-9) / flow.most)
                return False
        most = max(1.0, limit * self.share / self.parts)
        flow = Flow(limit / self.parts, most, window_ns, requests_of if what == "requests" else _likely)
        self._carry_over(flow)
        self.more.append((what, flow))
        return True

    def most_in_flight_is(self, number: int) -> None:
        """One more at the same time is refused."""
        self._most_in_flight = number

    def slower(self, what: str, flow: Flow, factor: float) -> None:
        """That limit is met sooner than was thought: its pace becomes less by this factor."""
        flow.set(flow.limit, max(min(1.0, flow.most), flow.most * min(1.0, factor)))
        self.say(f"{what} are limited sooner than was thought: at most {math.floor(flow.most)} in a window")

    def hold_until(self, until_ns: int) -> None:
        """Nothing passes before."""
        self._hold_until_ns = until_ns

    def charged(self, charging: Charging) -> None:
        """Tokens are counted so; what was sent before is counted anew."""
        self.charging = charging
        for one in self.all.newest():
            if one.ended:
                one.likely_tokens = one.held_tokens = charge_of(charging, one)
        for flow in self._flows("tokens"):
            flow.tally.recount()
        self._held.recount()

    def reserved_while_under_way(self) -> None:
        """The most that a request may generate is counted until it has ended."""
        self.reserves, self.reserve_share = True, 1.0
        self._held.recount()

    # what was counted

    def flow(self, what: str) -> Flow | None:
        """Of requests, or of tokens, in the run's window."""
        return self.requests if what == "requests" else self.tokens

    def as_charged(self, charging: Charging, one: Sent) -> float:
        """What it is charged, or will be as far as can be told."""
        if one.ended:
            return charge_of(charging, one)
        return one.worst_tokens * min(1.0, self._ratios[charging].value)

    def reserved_of(self, one: Sent) -> float:
        """What a server that never gives back has charged for it."""
        return self.as_charged(Charging.RESERVED, one)

    def counted_before(self, one: Sent, amount: Callable[[Sent], float]) -> float:
        """The sum over those that went in the last window before it."""
        return sum(amount(other) for other in self.all.since(one.at_ns - self.window_ns) if other.number < one.number)

    def in_second_before(self, one: Sent) -> int:
        """How many went in the second before it."""
        return sum(1 for other in self.all.since(one.at_ns - SECOND_NS) if other.number < one.number)

    def last_by(self, at_ns: int) -> Sent | None:
        """The last that had gone by then, as far back as it is worth looking."""
        return next((one for one in islice(self.all.newest(), _FAR) if one.at_ns <= at_ns), None)

    def _flows(self, what: str | None = None) -> list[Flow]:
        main = (("requests", self.requests), ("tokens", self.tokens), *self.more)
        return [flow for kind, flow in main if flow is not None and what in (None, kind)]

    def _estimates(self, worst_tokens: int) -> tuple[float, float]:
        """What a request will probably be charged, and what is held for it until that is known."""
        likely = worst_tokens * min(1.0, self._ratios[self.charging].value)
        if self.charging is Charging.PROMPT:
            return likely, likely
        return likely, max(likely, worst_tokens * min(1.0, self._ratios[Charging.RESERVED].value))

    def _mixed(self, one: Sent) -> float:
        """What it is taken to hold: between what it will be charged and the most that it might."""
        return one.likely_tokens + self.reserve_share * (one.held_tokens - one.likely_tokens)

    def _cost(self, one: Sent, tokens: float) -> None:
        """It has cost so much in the end."""
        more, more_held = tokens - one.likely_tokens, tokens - self._mixed(one)
        one.likely_tokens = one.held_tokens = tokens
        for flow in self._flows("tokens"):
            flow.correct(one, more)
        self._held.correct(one, more_held)

    def _own(self, limit: int) -> tuple[float, int]:
        """This process's part of the share of a limit, and how long it waits with its first.

        Whole: parts of a unit would each be rounded up somewhere. Of less than one for each, they take turns: one goes
        a window's part after the other, each once in several windows.
        """
        whole = share_of(limit, self.share)
        if whole < self.parts:
            return whole / self.parts, self.window_ns * self._part // whole
        return float((whole + self.parts - 1 - self._part) // self.parts), 0

    def _set(self, flow: Flow | None, whole: int, limit: float, amount: Callable[[Sent], float]) -> Flow:
        most, lead_ns = self._own(whole)
        if flow is None:
            flow = Flow(limit, most, self.window_ns, amount, lead_ns=lead_ns)
            self._carry_over(flow)
        else:
            flow.set(limit, most)
        return flow

    def _carry_over(self, flow: Flow) -> None:
        """What was sent before a limit was known counts."""
        for one in self.all.oldest():
            flow.tally.add(one)
