"""Whether what a server says remains can be true, whoever else uses the key: a model of the limiters that there are.

Others' requests only ever lower what remains, so each way of counting sets an upper bound that no other traffic lifts:

| way of counting | what it cannot say |
| --- | --- |
| fixed windows, wherever they begin | twice in a window: a rise, or more than the limit without our own requests |
| sliding log | more than the limit without our own requests of the last window |
| token bucket, sliding counter | more than our last requests leave of a full one; a rise quicker than the flow |

A *strike* is a stretch of responses that none of the three can explain. Windows up to a second and a half short are
taken for whole, requests that overlapped may have been counted in either order, and only requests that a model surely
worked on are held against the server. One thing is left to likelihood: twelve responses that all say the same, where
six of them came right after requests of ours, are a strike too, though a sliding log could do that if others' requests
ran out in these very moments.

A server that is a response behind is found where rounds lie nearer than a window, and by its first round on an idle
key. Rounds exactly a window apart show nothing more: windows that begin anew in the middle of each round look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tensorix_probes.limits.observation import Observation

__all__ = ["Said", "Strike", "Walk", "said_of", "walk"]

_SECOND_NS = 10**9
_SHORT_NS = 3 * _SECOND_NS // 2
_BACK = 3
"""How many readings back each is compared with."""
_MOST_RESETS = 40
_UNMOVED = 6


@dataclass(frozen=True, slots=True)
class Said:
    """One response as the model sees it. Times are ns of a clock that does not jump."""

    kind: str
    sent_ns: int
    head_ns: int
    end_ns: int
    status: int
    remaining: int | None
    sure: bool
    """Whether the server surely counted its request."""


@dataclass(frozen=True, slots=True)
class Strike:
    """What no way of counting explains."""

    at_ns: int
    frozen: bool
    """Whether all that was said in the stretch is the same, also where a request of ours came shortly before."""
    stuck: bool
    """Whether it was the same so often that it does not matter how high the limit is."""
    at_limit: bool
    """Whether the answer to a request of ours said that the whole limit remained, as if nothing had been used."""
    full_twice: bool
    """Whether the response before that one said so, too."""
    detail: str


@dataclass(slots=True)
class Walk:
    """What became of the responses."""

    strikes: list[Strike] = field(default_factory=list)
    doubt: Strike | None = None
    """What was said since the last strike that only a window can explain that began anew within an instant."""
    fits: dict[str, bool] = field(default_factory=dict)
    """By way of counting (`fixed_window`, `sliding_log`, `flow`): whether it explains all since the last strike."""


def said_of(observations: Sequence[Observation], what: str) -> list[Said]:
    """The responses to the key itself, by when their heads came."""
    said = [
        Said(
            one.kind,
            one.sent_unix_ns - one.clocks_apart_ns,
            one.head_unix_ns - one.clocks_apart_ns,
            one.end_unix_ns - one.clocks_apart_ns,
            one.status,
            getattr(one.limits, f"remaining_{what}"),
            one.sure,
        )
        for one in observations
        if one.kind != "unauthorised"
    ]
    return sorted(said, key=lambda one: one.head_ns)


def walk(said: Sequence[Said], limit: int, window_ns: int) -> Walk:
    """Hold what remains of the requests, in order, against the three ways of counting."""
    result = Walk()
    stretch = _Stretch(limit, window_ns)
    for one in said:
        strike = stretch.take(one)
        result.fits, result.doubt = stretch.fits, stretch.doubt
        if strike is not None:
            result.strikes.append(strike)
            result.doubt = None
            # What came before is forgotten: it may have been a server that was started anew.
            stretch = _Stretch(limit, window_ns)
    return result


@dataclass(slots=True)
class _Stretch:
    """The responses since the last strike."""

    limit: int
    window_ns: int
    fits: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(("fixed_window", "sliding_log", "flow"), True))
    readings: list[Said] = field(default_factory=list)
    """The last ones that said what remains."""
    uses: list[Said] = field(default_factory=list)
    """Requests of ours of the last window that the server surely counted."""
    resets: list[tuple[int, int]] = field(default_factory=list)
    """In each of them, as far as is known, a fixed window must have begun anew."""
    values: set[int] = field(default_factory=set)
    at_limit: bool = False
    full_twice: bool = False
    doubt: Strike | None = None
    said: int = 0
    """How many readings there were."""
    unmoved: int = 0
    """How often the same was said again though a request of ours came between, and nothing of ours could come back."""

    def take(self, one: Said) -> Strike | None:
        """Add a response; the strike where nothing explains it any more."""
        if one.sure:
            self.uses = [*(use for use in self.uses if one.head_ns - use.head_ns < 2 * self.window_ns), one]
        if one.remaining is None or one.remaining > self.limit:
            return None
        before = [use for use in self.uses if use is one or use.head_ns <= one.sent_ns]
        before = [use for use in before if one.head_ns - use.head_ns < self.window_ns]
        earlier = [(said, _between(said, before)) for said in self.readings if said.head_ns <= one.sent_ns]
        self.fits["sliding_log"] &= self._fits_log(one, one.remaining, before)
        self.fits["flow"] &= self._fits_flow(one, one.remaining, before, earlier)
        self._look_at_windows(one, one.remaining, before, earlier)
        if earlier:
            last, ours = earlier[-1]
            assert last.remaining is not None
            self.unmoved += ours > 0 and one.remaining == last.remaining and self._gives_nothing_back(last, one)
            self.full_twice |= one.sure and last.remaining == one.remaining == self.limit
        self.at_limit |= one.sure and one.remaining == self.limit
        self.readings = [*self.readings[1 - _BACK :], one]
        self.said += 1
        self.values.add(one.remaining)
        if not self.fits["fixed_window"] and self._is_stuck():
            return self._strike(one, one.remaining, before)
        if self.fits["sliding_log"] or self.fits["flow"]:
            return None
        if not self.fits["fixed_window"]:
            return self._strike(one, one.remaining, before)
        if self.at_limit and self.doubt is None and one.sure and one.head_ns - one.sent_ns < self.window_ns // 100:
            self.doubt = self._strike(one, one.remaining, before)
        return None

    @property
    def _lasting_ns(self) -> int:
        """For how long a request surely counts: a gateway's windows are up to a second short."""
        return self.window_ns - min(_SHORT_NS, self.window_ns // 4)

    def _gives_nothing_back(self, last: Said, one: Said) -> bool:
        """Whether neither a flow nor a request of ours that ran out can have made up for one between two readings."""
        out_ns = one.head_ns - self._lasting_ns
        ran_out = any(use.sent_ns <= out_ns and use.head_ns + self.window_ns >= last.sent_ns for use in self.uses)
        return not ran_out and self._flowed(one.head_ns - last.sent_ns) < 1

    def _fits_log(self, one: Said, remaining: int, before: Sequence[Said]) -> bool:
        return remaining <= self.limit - sum(one.head_ns - use.sent_ns < self._lasting_ns for use in before)

    def _flowed(self, for_ns: int) -> int:
        """The most whole units that come back in a time."""
        return for_ns * self.limit // self.window_ns

    def _fits_flow(
        self, one: Said, remaining: int, before: Sequence[Said], earlier: Sequence[tuple[Said, int]]
    ) -> bool:
        # Full before any of our requests, a bucket has lost that one and those after it, but for what flowed since.
        since_ns = list(accumulate((use.sent_ns for use in reversed(before)), min))
        taken = all(
            remaining <= self.limit - nth + self._flowed(one.head_ns - start_ns)
            for nth, start_ns in enumerate(since_ns, 1)
        )
        # A sliding counter gives a window's count back in a window; with refusals counted, that may be twice the limit.
        return taken and all(
            remaining <= (said.remaining or 0) - ours + 2 * self._flowed(one.head_ns - said.sent_ns) + 1
            for said, ours in earlier
        )

    def _look_at_windows(
        self, one: Said, remaining: int, before: Sequence[Said], earlier: Sequence[tuple[Said, int]]
    ) -> None:
        starts = [said.sent_ns for said, ours in earlier if remaining > (said.remaining or 0) - ours]
        if len(before) > (room := self.limit - remaining):
            # So many that one of them must have been counted in a window before this one.
            starts.append(sorted(use.sent_ns for use in before)[-room - 1])
        for start_ns in starts:
            # Two that do not overlap are two windows' begins, and these are not less than a window apart.
            if any(until <= start_ns and one.head_ns - after < self._lasting_ns for after, until in self.resets):
                self.fits["fixed_window"] = False
        if starts:
            self.resets = [*self.resets[-_MOST_RESETS:], (max(starts), one.head_ns)]

    def _is_stuck(self) -> bool:
        """Whether the same was said so often, just after requests of ours too, that no chance explains it."""
        return len(self.values) == 1 and 0 not in self.values and self.unmoved >= _UNMOVED and self.said >= 2 * _UNMOVED

    def _strike(self, one: Said, remaining: int, before: Sequence[Said]) -> Strike:
        seconds = (one.head_ns - min((use.sent_ns for use in before), default=one.sent_ns)) / 1e9
        sent = f"{len(before)} request{'s' if len(before) != 1 else ''} in {seconds:.2g} s"
        return Strike(
            one.head_ns,
            frozen=len(self.values) == 1 and self.unmoved > 0,
            stuck=self._is_stuck(),
            at_limit=self.at_limit,
            full_twice=self.full_twice,
            detail=f"says that {remaining} of {self.limit} requests remain, though we sent {sent}",
        )


def _between(said: Said, before: Sequence[Said]) -> int:
    """Requests of ours that came surely after a reading."""
    return sum(use.sent_ns >= said.head_ns for use in before)
