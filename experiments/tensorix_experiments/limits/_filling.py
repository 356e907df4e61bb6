"""The part of the experiment that meets the limit: sends faster and faster until requests are refused."""

from __future__ import annotations

from collections.abc import Generator
from math import ceil

from tensorix_experiments.limits._assessing import Answer
from tensorix_experiments.limits._plan import Plan, Send

__all__ = ["fill", "look", "pulse"]

_LEAST = 6
_MOST_IN_FLIGHT = 64
_EACH = 0.015
"""In windows: so long may it take to send as many again as have passed."""
_ENOUGH = 2
"""So many refusals show that the limit is met."""
_PULSE_S = 1.1
"""After so long a limit a second has forgotten what was sent."""
_MOST_PULSES = 16


def fill(plan: Plan, at: float) -> Generator[Send, list[Answer], int]:
    """Fill the limit from an instant on; how many were refused. None were: no limit was met within the bound."""
    why = "sends until requests are refused"
    refused = 0
    while plan.left and refused < _ENOUGH:
        many = max(_LEAST, 2 * plan.passed)
        answers = yield from plan.send(at, many, why, in_flight=at_once(plan, many), until_refused=_ENOUGH - refused)
        refused += sum(answer.passed is False for answer in answers)
        if not any(answer.passed is not None for answer in answers):
            break
    return refused


def at_once(plan: Plan, many: int) -> int:
    """How many to have in flight so that so many soon are sent."""
    # Those in flight when the limit is met are all refused: no more than have passed.
    return min(_MOST_IN_FLIGHT, max(3, plan.passed), ceil(many * plan.trip / _EACH))


def look(plan: Plan, at: float, limit: int, why: str, *, least: int = 4) -> Generator[Send, list[Answer], bool]:
    """See what has come back since the last answer: whether all that was asked for passed.

    That is more than comes back little by little, so that of a drip the last one is refused; all of it passes only
    where the limit came back at once. One goes first, so that a limit that is full costs one request.
    """
    many = max(least, ceil(1.2 * limit * max(0.0, at - plan.at)) + 4)
    answers = yield from plan.send(at, min(many, 2), why)
    if not answers or any(answer.passed is not True for answer in answers):
        return False
    more = many - len(answers)
    answers = yield from plan.send(plan.at, more, why, in_flight=at_once(plan, more))
    return all(answer.passed is True for answer in answers)


def pulse(plan: Plan, limit: int, until: float) -> Generator[Send, list[Answer], None]:
    """A second after the limit was met: where more comes back than a drip, a limit a second was met, and not yet the
    longer one. Then fill that second by second, until an instant.
    """
    pause = _PULSE_S / plan.window_s
    for _ in range(_MOST_PULSES):
        if not (yield from look(plan, plan.at + pause, limit, "looks for a limit a second")):
            return
        many = max(_LEAST, 2 * limit)
        answers = yield from plan.send(
            plan.at, many, "fills what a second allows", in_flight=at_once(plan, many), until_refused=_ENOUGH
        )
        # Where nothing was refused all of it has come back, and no second's limit stands in the way.
        if all(answer.passed for answer in answers) or plan.at + pause > until:
            return
