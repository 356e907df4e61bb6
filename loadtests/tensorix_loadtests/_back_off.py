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
    one burst. Without it the wait doubles from half a second, and half of each wait is random ("equal jitter").
    """

    def __init__(self, window_s: float, rng: random.Random) -> None:
        self._longest_s = max(_FIRST_S, window_s / 4)
        self._rng = rng
        self._refusals = 0

    def after(self, record: RequestRecord) -> float:
        """Seconds to wait before the next request; 0 after one that was let through.

        Held back are users who were throttled, who reached nobody, and who were told to wait (a 503 with Retry-After).
        """
        unreached = record.outcome == "failed" and record.status is None
        asked = record.retry_after_ns if record.outcome != "success" else None
        if record.outcome != "throttled" and not unreached and asked is None:
            self._refusals = 0
            return 0.0
        self._refusals += 1
        if asked is not None:
            asked_s = min(asked / 1e9, _LONGEST_ASKED_S)
            return asked_s + max(0.05, asked_s / 10) * self._rng.random()
        ceiling = min(self._longest_s, _FIRST_S * 2.0 ** min(self._refusals - 1, 30))
        return float(ceiling) / 2 * (1 + self._rng.random())
