"""How long a user holds back after it was refused: as the server asks, else longer and longer, spread at random."""

from __future__ import annotations

import random

from tensorix_records import RequestRecord

__all__ = ["BackOff"]

_FIRST_S = 0.5
# Longer than any limiter's day: a server that says more is not believed.
_LONGEST_ASKED_S = 86_400.0


class BackOff:
    """One user's waits. `window_s` is the length of the limiter's window: no wait of our own exceeds a quarter of it.

    Retry-After is kept to, and a tenth of it at most is added, so that users who were told the same do not return in
    one burst. Without it the wait doubles from half a second, and half of each wait is random ("equal jitter"). Where
    the server asks for less than half a second, or has let nothing through since the last refusal, the longer of the
    two is waited: an answer of "at once", given again and again, must not make a storm.
    """

    def __init__(self, window_s: float, rng: random.Random) -> None:
        self._longest_s = max(_FIRST_S, window_s / 4)
        self._rng = rng
        self.refusals = 0
        """In a row."""

    def after(self, record: RequestRecord) -> float:
        """Seconds to wait before the next request; 0 after a success, which also starts the doubling anew.

        Held back are users who were throttled, who met an error of the server (5xx), who reached nobody, and who were
        told to wait. Any other failure is the request's own, and says nothing about the next one.
        """
        if record.outcome == "success":
            self.refusals = 0
            return 0.0
        unreached = record.outcome == "failed" and record.status is None
        server_error = record.status is not None and record.status >= 500
        asked = record.retry_after_ns
        if record.outcome != "throttled" and not unreached and not server_error and asked is None:
            return 0.0
        self.refusals += 1
        ceiling = min(self._longest_s, _FIRST_S * 2.0 ** min(self.refusals - 1, 30))
        own_s = float(ceiling) / 2 * (1 + self._rng.random())
        if asked is None:
            return own_s
        asked_s = min(asked / 1e9, _LONGEST_ASKED_S)
        spread_s = asked_s + max(0.05, asked_s / 10) * self._rng.random()
        return spread_s if self.refusals == 1 and asked_s >= _FIRST_S else max(spread_s, own_s)
