"""What a 429 teaches about the limiter."""

from __future__ import annotations

from tensorix_loadtests._pacing._charges import Charging
from tensorix_loadtests._pacing._flow import Flow
from tensorix_loadtests._pacing._keeper import SECOND_NS, Keeper
from tensorix_loadtests._pacing._refusals import Hint, read_hint
from tensorix_loadtests._pacing._tally import Sent, requests_of
from tensorix_records import RequestRecord

__all__ = ["FromRefusals"]

# A count that comes so near to the limit explains a refusal by itself.
_NEAR = 0.9
# Another way of charging explains a refusal where it comes to so much more.
_TELLING = 1.15
# Nobody knows the edges of windows: twice one may have passed, and what stamps are off.
_TWO_WINDOWS = 2.1
# A stated rate that is no less than what is sent now, but for rounding, explains nothing.
_SAME_RATE = 0.999
# Nearer than the pace is one that is nearer than stamps can be off, in parts of it.
_NEXT = 1.01
_SURELY = 0.98
# So much nearer may two arrive than they went.
_JITTER_NS = 3_000_000
# A bucket of one is suspected where so few went in the second before: more would have met it earlier.
_LATE_AND_NEAR = 3
_TWICE = 2
# A limit on seconds shows within so long, in s, of the first request.
_SOON = 1.5
# How much of the pace is left where our count is right but for a little; where requests were too near, at first and
# then; and the least that one refusal can make of it.
_A_LITTLE = 0.97
_TOO_NEAR = 0.98
_STILL_TOO_NEAR = 0.95
_LEAST = 0.1
# For such a part of a window nothing goes after a refusal that nothing more is known of.
_PAUSE = 20


class FromRefusals:
    """Looks at each refusal, and tells the keeper what must be so."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._learned_ns = -1
        self._tight = 0
        """How often a request was refused because it was too near to another."""

    def learn(self, now_ns: int, one: Sent, record: RequestRecord) -> None:
        """One was refused; its end was heard of just now."""
        keeper = self._keeper
        if one.at_ns <= self._learned_ns:
            # It went before the last lesson was learned, and teaches the same.
            return
        self._learned_ns = now_ns
        hint = read_hint(record)
        waits_ns = record.retry_after_ns
        # Whoever says a whole window or more does not know better: LiteLLM always does.
        known_ns = waits_ns if waits_ns is not None and waits_ns < keeper.window_ns else None
        if hint.what == "in flight" and one.in_flight_then:
            keeper.most_in_flight_is(one.in_flight_then)
            keeper.say(f"at most {one.in_flight_then} requests in flight: one more was refused")
        elif hint.what in ("requests", "tokens") and hint.amount and hint.window_s and self._is_another(hint):
            self._limited_besides(now_ns, hint.what, hint.amount, hint.window_s, known_ns, "the server stated it")
        elif self._is_of_tokens(one, hint):
            self._of_tokens(now_ns, one, known_ns)
        else:
            self._of_requests(now_ns, one, known_ns, names_it=hint.what == "requests")

    def _is_another(self, hint: Hint) -> bool:
        """Whether a limit that was stated allows less than is sent now."""
        flow = self._keeper.requests if hint.what == "requests" else self._keeper.tokens
        assert hint.amount is not None
        assert hint.window_s is not None
        now_s = self._keeper.window_ns / 1e9
        return flow is None or hint.amount / hint.window_s < flow.limit / now_s * _SAME_RATE

    def _limited_besides(
        self, now_ns: int, what: str, amount: int, window_s: float, known_ns: int | None, why: str
    ) -> None:
        """There is another limit: it is kept to as well."""
        keeper = self._keeper
        window_ns = round(window_s * 1e9)
        if keeper.limited_besides(what, amount, window_ns):
            keeper.hold_until(now_ns + (known_ns if known_ns is not None else min(window_ns, keeper.window_ns)))
            keeper.say(f"a limit of {amount} {what} in {window_s:g} s besides: {why}")
        else:
            keeper.hold_until(now_ns + (known_ns if known_ns is not None else window_ns))

    # of tokens

    def _is_of_tokens(self, one: Sent, hint: Hint) -> bool:
        keeper = self._keeper
        if keeper.tokens is None or hint.what == "requests":
            return False
        if hint.what == "tokens" or keeper.requests is None:
            return True
        requests = keeper.counted_before(one, requests_of) / keeper.requests.limit
        return requests < _NEAR and keeper.counted_before(one, keeper.reserved_of) / keeper.tokens.limit > requests

    def _of_tokens(self, now_ns: int, one: Sent, known_ns: int | None) -> None:
        keeper = self._keeper
        tokens = keeper.tokens
        assert tokens is not None
        # Until as much has flowed back, where it flows.
        keeper.hold_until(now_ns + round(one.worst_tokens * keeper.window_ns / tokens.limit))
        own = keeper.reserved_of(one) or one.worst_tokens
        held = own + keeper.counted_before(
            one, lambda other: other.likely_tokens if other.ended else keeper.reserved_of(other)
        )
        kept = keeper.counted_before(one, keeper.reserved_of) + own
        if keeper.reserve_share < 1 and held >= _NEAR * tokens.limit:
            keeper.reserved_while_under_way()
            keeper.say("the most that a request may generate is charged until it has ended")
        elif keeper.charging is not Charging.RESERVED and kept >= _TELLING * held and self._explains(kept, tokens):
            keeper.charged(Charging.RESERVED)
            keeper.say("tokens are charged as reserved: the most that might be generated, whatever is")
        elif keeper.charging is Charging.PROMPT:
            keeper.charged(Charging.USED)
            keeper.say("generated tokens are charged after all")
        else:
            self._miscounted(now_ns, one, "tokens", tokens, held, known_ns)

    def _explains(self, kept: float, tokens: Flow) -> bool:
        """Whether a server that never gives back would have refused now, and not before."""
        in_window, in_bucket = kept / tokens.limit, self._keeper.lack / tokens.limit
        # A bucket's count is what it lacks.
        return (in_window <= _TWO_WINDOWS and not self._keeper.reserves) or abs(in_bucket - 1) <= 1 - _NEAR

    # of requests

    def _of_requests(self, now_ns: int, one: Sent, known_ns: int | None, *, names_it: bool) -> None:
        """`names_it`: its words speak of requests, and state no other limit than the one that is known."""
        keeper = self._keeper
        requests = keeper.requests
        if requests is None:
            return
        count = keeper.counted_before(one, requests_of)
        before = next((other for other in keeper.all.newest() if other.number < one.number), None)
        limit_ns = keeper.window_ns / requests.limit
        apart_ns = limit_ns if before is None else (one.started_ns or one.at_ns) - (before.started_ns or before.at_ns)
        # Such as would have met a bucket of one by now, or as a network brings nearer to one another.
        near = names_it or keeper.in_second_before(one) <= _LATE_AND_NEAR or apart_ns < limit_ns + _JITTER_NS
        if (
            count < _NEAR * requests.limit
            and before is not None
            and (self._is_next_to(one, before, requests) or (near and self._tight < _TWICE))
        ):
            # Right behind another, or on its way a little faster: a bucket that holds hardly more than one.
            self._tight += 1
            if not requests.strict and apart_ns < _SURELY * limit_ns:
                # Nothing else has to be wrong: it was nearer than the limit's own pace.
                keeper.hold_until(now_ns + round(requests.unit_ns))
                keeper.say("two requests right behind one another are too many: none are sent so any more")
                requests.be_strict()
                return
            keeper.hold_until(now_ns + (known_ns or round(requests.unit_ns)))
            keeper.slower("requests", requests, _STILL_TOO_NEAR if requests.strict else _TOO_NEAR)
            requests.be_strict(wide=True)
        else:
            self._miscounted(now_ns, one, "requests", requests, count, known_ns)

    def _is_next_to(self, one: Sent, before: Sent, requests: Flow) -> bool:
        """Whether the two were nearer than the pace when they really went, as far as that is known."""
        pace_ns = self._keeper.window_ns / requests.most
        if before.started_ns is None:
            return one.at_ns - before.at_ns < _NEXT * pace_ns
        started_ns = one.at_ns if one.started_ns is None else one.started_ns
        return started_ns - before.started_ns < pace_ns / _NEXT

    # of either

    def _miscounted(self, now_ns: int, one: Sent, what: str, flow: Flow, counted: float, known_ns: int | None) -> None:
        """The server's count is another than ours."""
        keeper = self._keeper
        assert keeper.began_ns is not None
        age_ns = one.at_ns - keeper.began_ns
        is_first_window = age_ns < keeper.window_ns
        if counted >= _NEAR * flow.limit:
            # Ours is nearly right: somebody's clock, a refused request that counts.
            keeper.slower(what, flow, _A_LITTLE)
            keeper.hold_until(now_ns + (known_ns if known_ns is not None else keeper.window_ns // _PAUSE))
        elif flow.strict:
            keeper.slower(what, flow, _STILL_TOO_NEAR)
            keeper.hold_until(now_ns + (known_ns or round(keeper.window_ns / flow.most)))
        elif known_ns is not None and known_ns > SECOND_NS and is_first_window:
            keeper.hold_until(now_ns + known_ns)
            keeper.say(f"the key's {what} were used before this run: waiting as long as the server said")
        elif what == "requests" and age_ns < min(_SOON * SECOND_NS, keeper.window_ns / 2) and counted >= 1:
            second = max(1, keeper.in_second_before(one))
            self._limited_besides(now_ns, "requests", second, 1.0, None, "no more passed")
        elif is_first_window:
            # Whatever was used before this run is forgotten a window after it began.
            keeper.hold_until(keeper.began_ns + keeper.window_ns)
            keeper.say(f"the key's {what} were used before this run: waiting until that is over")
        else:
            keeper.slower(what, flow, max(_LEAST, counted / flow.most))
            keeper.hold_until(now_ns + (known_ns or 0))
