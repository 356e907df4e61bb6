"""Why what remains rises: by the refill, also where the window ends a request sooner or later than was thought."""

from __future__ import annotations

import numpy as np
import pytest

from tensorix_reports.limits._headers import _when_seen


@pytest.mark.parametrize(
    ("own", "change"),
    [([-1, 45, -1, -1], [-1, -1, 46, -1]), ([-1, -1, 46, -1], [-1, 45, -1, -1])],
    ids=["thought too soon", "thought too late"],
)
def test_a_window_that_ends_one_request_beside_what_was_thought_is_no_use_by_others(
    own: list[float], change: list[float]
) -> None:
    seen = _when_seen(np.array(own, float), np.array(change, float))

    assert seen.tolist() == change


def test_what_somebody_else_takes_beside_a_refill_stays() -> None:
    own, change = np.array([-1.0, -1.0, 45.0, -1.0]), np.array([-1.0, -5.0, 49.0, -1.0])

    assert _when_seen(own, change).tolist() == own.tolist()
