"""What the headers of responses teach about the limiter. Evidence, to be held against our own count."""

from __future__ import annotations

from collections.abc import Collection

from tensorix_loadtests._pacing._charges import Charging
from tensorix_loadtests._pacing._evidence import charging_of
from tensorix_loadtests._pacing._flow import Flow
from tensorix_loadtests._pacing._keeper import Keeper
from tensorix_loadtests._pacing._remaining import Remaining
from tensorix_loadtests._pacing._tally import Sent
from tensorix_records import RequestRecord

__all__ = ["FromHeaders"]

# Said once it may be a slip; then people hear of it, once.
_TWICE = 2
# So much faster than we send, in requests, what is left may fall by the order in which responses come; and by an eighth
# of those sent.
_FEW_OTHERS = 2
_PART_OTHERS = 8
# The same number so often, while our own count changed by a fifth of the limit: no chance.
_OFTEN = 12
_MUCH = 1 / 5
# How tokens are charged is looked at so often in a window; each look goes through all that was sent in it.
_LOOKS = 40

_CHARGED = {
    Charging.USED: "as used",
    Charging.RESERVED: "as reserved, whatever is generated",
    Charging.PROMPT: "for prompts only",
}


class FromHeaders:
    """Hears each response and tells the keeper of limits, of how tokens are charged, and of what is left."""

    def __init__(self, keeper: Keeper, told: Collection[str]) -> None:
        """`told`: the limits that people named, which no header changes."""
        self._keeper = keeper
        self._told = told
        self._heard = {"requests": Remaining(), "tokens": Remaining()}
        self._said_limits: dict[str, int | None] = {}
        self._looked_ns = 0
        self._constant: set[str] = set()
        self._ours: dict[str, tuple[int, float, float, int]] = {}

    def hear(self, now_ns: int, record: RequestRecord) -> None:
        """One response, which ended just now."""
        keeper = self._keeper
        at_ns = now_ns
        if record.headers_at_ns is not None and record.end_at_ns is not None:
            at_ns -= max(0, record.end_at_ns - record.headers_at_ns)
        last = keeper.last_by(at_ns)
        self._hear_limits(record)
        for what, left in (("requests", record.remaining_requests), ("tokens", record.remaining_tokens)):
            heard = self._heard[what]
            if left is None:
                continue
            believed = heard.hear(at_ns, left, last.number + 1 if last else 0)
            if heard.nonsense == _TWICE:
                keeper.say(f"the headers say that {left} {what} are left, which cannot be: they are not believed")
            if believed and (last is not None or keeper.number == 0):
                self._believe(what, at_ns, left, last, record)
                self._watch_constant(what, at_ns, left)

    def _hear_limits(self, record: RequestRecord) -> None:
        """A limit that nobody told is taken from the headers, once they say it twice."""
        parts = self._keeper.parts
        for what, said in (("requests", record.limit_requests), ("tokens", record.limit_tokens)):
            flow = self._keeper.flow(what)
            before, self._said_limits[what] = self._said_limits.get(what), said
            if said is None or said < 1 or what in self._told or (flow is not None and said != before):
                continue
            if flow is None or flow.limit * (parts if what == "tokens" else 1) != said:
                self._limit_is(what, said)

    def _limit_is(self, what: str, limit: int) -> None:
        self._keeper.limit_is(what, limit)
        self._keeper.say(f"the limit is {limit} {what} in a window, by the headers")

    def _believe(self, what: str, at_ns: int, left: int, last: Sent | None, record: RequestRecord) -> None:
        keeper = self._keeper
        flow = keeper.flow(what)
        if what not in self._told and self._said_limits.get(what) is None and left > 0:
            least = left + (1 if what == "requests" and last is not None else 0)
            if flow is None or least > flow.limit:
                self._limit_is(what, least)
                flow = keeper.flow(what)
        if flow is None or keeper.parts > 1:
            return
        if what == "requests":
            self._spread(at_ns, left, last, flow, record)
        elif last is not None and at_ns - self._looked_ns > keeper.window_ns / _LOOKS:
            self._looked_ns = at_ns
            self._look_at_charging(at_ns)

    def _spread(self, at_ns: int, left: int, last: Sent | None, flow: Flow, record: RequestRecord) -> None:
        """Less may be left than by our own count, or fall faster than we send: somebody else uses the key."""
        keeper, spread = self._keeper, self._keeper.spread
        reset_ns = record.reset_requests_ns
        over_ns = at_ns + min(keeper.window_ns, reset_ns if reset_ns else keeper.window_ns)
        held = spread.holds
        ours = sum(1 for one in keeper.all.newest() if last and at_ns - keeper.window_ns < one.at_ns <= at_ns)
        count = last.number + 1 if last else 0
        # Since it last rose, so since a window opened, where there are windows.
        row = self._heard["requests"].heard[0]
        others = row.remaining - left - (count - row.count)
        if others > max(_FEW_OTHERS, (count - row.count) / _PART_OTHERS):
            over_ns = min(over_ns, max(at_ns, row.at_ns + keeper.window_ns))
        else:
            others = 0
        if record.outcome != "throttled":
            spread.hear(at_ns, left, count, ours, flow.limit, over_ns, others=others)
        if spread.holds and not held:
            keeper.say("fewer requests are left than by our own count: what is left is made to last")

    def _look_at_charging(self, at_ns: int) -> None:
        """Compare how the tokens that are left fell with what each way of charging would have taken."""
        keeper = self._keeper
        sent = [one for one in keeper.all.newest() if one.at_ns <= at_ns]
        charging = charging_of(
            self._heard["tokens"].heard,
            lambda after_ns, by_ns: [one for one in sent if after_ns < one.at_ns <= by_ns],
            keeper.as_charged,
        )
        if charging is not None and charging is not keeper.charging:
            keeper.charged(charging)
            keeper.say(f"tokens are charged {_CHARGED[charging]}: so they fall in the headers")

    def _watch_constant(self, what: str, at_ns: int, left: int) -> None:
        """Say it once where what is left stays, though our own count changed much: a lie, or a limit that flows back.

        Either way nothing can be read off it; nothing is.
        """
        flow = self._keeper.flow(what)
        if flow is None or what in self._constant:
            return
        ours = flow.limit - flow.tally.at(at_ns)
        same, low, high, number = self._ours.get(what, (left, ours, ours, 0))
        if same != left:
            low, high, number = ours, ours, 0
        low, high, number = min(low, ours), max(high, ours), number + 1
        self._ours[what] = left, low, high, number
        if number >= _OFTEN and high - low > flow.limit * _MUCH:
            self._constant.add(what)
            self._keeper.say(f"the headers say again and again that {left} {what} are left: our own count is kept to")
