"""What was asked of one key and what came of it: all that the fit of a limiter looks at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Evidence"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The requests of one key that may have been counted, in the order of their starts; arrays of one length.

    Only answers that tell of the limit on requests belong here: a 429 of a limit on tokens does not.
    """

    sent_s: np.ndarray
    """When each was sent, in seconds since an instant of the caller's choice."""
    seen_s: np.ndarray
    """When its response's headers were there: the limiter decided between the two."""
    passed: np.ndarray
    """Let through, whatever became of it then."""
    remaining: np.ndarray
    """What the response said was left of the requests; NaN where it said nothing."""
    zero_unix_s: float
    """The instant from which the times count, by the server's clock as well as it is known: Unix seconds."""

    @property
    def refused(self) -> np.ndarray:
        """Those that were answered with 429."""
        return ~self.passed

    def __len__(self) -> int:
        return len(self.sent_s)

    def of(self, places: np.ndarray) -> Evidence:
        """Those at these places."""
        return Evidence(
            self.sent_s[places], self.seen_s[places], self.passed[places], self.remaining[places], self.zero_unix_s
        )
