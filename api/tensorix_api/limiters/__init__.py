"""Limiters: what may pass, what remains, and when to come back. Pure: the time is an argument, in integer ns.

The simulator enforces with them, load tests pace themselves by them and reports fit them to what was seen; so they
know no clock, no thread and no key (a key has a limiter of its own).

A request's way through a limiter::

    decision = limiter.admit(now_ns, cost)      # reserves `cost`, or refuses and charges nothing
    limiter.settle(now_ns, decision.grant, actual)   # the reservation becomes what was really used; or
    limiter.release(now_ns, decision.grant)          # the reservation never was

A grant is settled or released once, when its request has ended.

| kind | what counts at a moment | a settlement |
| --- | --- | --- |
| `FixedWindow` | charges of the open window, from its first or on a clock | changes its window, while open |
| `SlidingLog` | every charge for exactly a window from its time | changes the charge, at its old time |
| `SlidingCounter` | this window and a share of the last one | changes its window, while it has a share |
| `TokenBucket` | what was taken and has not flowed back yet; the same as GCRA | gives back or takes when settled |
| `InFlight` | requests that have not ended | frees the place |
| `AllOf` | what any of its limiters counts | settles with each |

All of them have in common:

- What is left never shrinks by waiting. So of several limiters the last to open says when all are open.
- A cost of 0 (tokens that are charged only afterwards) passes while at least one whole unit is left.
- `limit`, `window_ns`, `phase_ns` and `burst` may be assigned at any time; what was used so far stays.

Two questions are apart from the limiters because no documentation answers them: which requests are charged at all
(`Counting`) and how many tokens each is charged (`Charging`).
"""

from __future__ import annotations

from tensorix_api.limiters._all_of import AllOf
from tensorix_api.limiters._fixed_window import FixedWindow
from tensorix_api.limiters._in_flight import InFlight
from tensorix_api.limiters._limiter import Cost, Decision, Grant, Limiter, Resource, Standing
from tensorix_api.limiters._policies import Charging, Counting
from tensorix_api.limiters._sliding_counter import SlidingCounter
from tensorix_api.limiters._sliding_log import SlidingLog
from tensorix_api.limiters._token_bucket import TokenBucket

__all__ = [
    "AllOf",
    "Charging",
    "Cost",
    "Counting",
    "Decision",
    "FixedWindow",
    "Grant",
    "InFlight",
    "Limiter",
    "Resource",
    "SlidingCounter",
    "SlidingLog",
    "Standing",
    "TokenBucket",
]
