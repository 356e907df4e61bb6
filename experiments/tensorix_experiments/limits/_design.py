"""When to send what, so that few requests tell the kinds of limiter apart. Knows no network: it asks for actions.

    actions = experiment(now_s=…, unix_s=…, window_s=60.0)
    action = next(actions)           # an action
    action = actions.send(answers)   # what came of it: the next action; StopIteration when it is done

All times are seconds on the caller's clock, which the caller passes with each answer.

The first request is sent so that a window on the server's clock ends 0.43 windows later. So what a first request opens
ends at one time, what a clock opens at another, what is half or twice as long at a third, and each kind gives back
other amounts at other times:

| after the first, in windows | first-request window | clock window | sliding log | sliding counter | bucket |
| --- | --- | --- | --- | --- | --- |
| 0: a few; 0.12: all that passes | the limit | the limit | the limit | the limit | the limit |
| to 0.43 | nothing | nothing | nothing | nothing | a drip all the time |
| from 0.43 | nothing | all | nothing | a drip | a drip |
| from 1.0 | all | nothing | the first few | a drip | a drip |
| from 1.12 | nothing | nothing | all | a drip | a drip |
"""

from __future__ import annotations

from tensorix_experiments.limits._assessing import Answer, Assess, assessing
from tensorix_experiments.limits._filling import fill, look, pulse
from tensorix_experiments.limits._plan import Actions, Plan, Send

__all__ = ["MOST_REQUESTS", "Answer", "Assess", "Send", "experiment", "most"]

MOST_REQUESTS = 1_500
"""Where nothing else was said: enough for a limit of 600."""
_EDGE = 0.43
"""In windows after the first request: when a window on the clock ends."""
_FILL = 0.12
_OPENER = 3
_MORE_TOLD = 5
"""So many more at first, where what is left is told: enough to be seen coming back beside what somebody else sends."""
_CLOCK_S = 0.08
"""How far the server's clock may be from what is known of it."""
_LAST = 2.45
_FEW = 25
"""Of a limit below that each request is dear."""
_LOOKS = (0.25, 0.33, 0.4, 0.5, 0.56, 0.65, 0.75, 0.85, 0.96, 1.06, 1.16, 1.28, 1.4, 1.6, 1.8, 1.97, 2.05, 2.2, _LAST)
_LOOKS_AT_FEW = (0.4, 0.56, 0.75, 0.96, 1.06, 1.16, 1.4, 1.6, 1.8, 1.97, 2.05, 2.2, _LAST)
_LOOKS_AT_HEADER = (0.1, 0.2, 0.31, 0.41, 0.6, 0.72, 0.85, 1.05, 1.25, 1.4, 1.6)
_SAYS_LITTLE = {0.72, 1.05, 1.4}
"""After these it does not ask: a fit takes a second of the processor."""
_SECOND_S = 1.1
"""After so long a limit a second has forgotten what was sent."""
_MUCH_SHORTER = 0.35
"""Of the documented window: what is that short stands beside a longer limit, which has more left."""
_TELLING = {0.56, 1.06, 1.16, 1.4, 1.6, 1.97, 2.2}
"""After these it asks whether the fit is sure, as after the end of the first request's window."""


def most(window_s: float, most_requests: int = MOST_REQUESTS) -> tuple[int, float]:
    """Requests and seconds that the experiment takes at most, the wait for the server's clock in it."""
    return most_requests, (1 + _LAST + 0.2) * window_s + 5.0


def experiment(
    *,
    now_s: float,
    unix_s: float,
    window_s: float,
    most_requests: int = MOST_REQUESTS,
    assess: Assess | None = None,
) -> Actions:
    """The experiment on one key, which was idle before. `unix_s` is the server's clock at `now_s`.

    `window_s` is as documented. `assess` says what the answers so far tell; by default the fit does.
    """
    wait_s = ((1 - _EDGE) * window_s - unix_s) % window_s
    plan = Plan(window_s, most_requests, assess or assessing(unix_s - now_s, window_s), now_s + wait_s)
    why = f"opens a window, {_EDGE:.0%} of its length before one ends on the server's clock"
    opener = yield from plan.send(0.0, _OPENER, why, in_flight=_OPENER, until_refused=_OPENER)
    if not opener:
        return
    plan.zero_s = opener[0].sent_s
    if plan.left_told is not None:
        yield from plan.send(0.0, _MORE_TOLD, "takes a few more, to see them come back", in_flight=_MORE_TOLD)
    yield from _without_header(plan) if plan.left_told is None else _with_header(plan)


def _with_header(plan: Plan) -> Actions:
    """What is left is told: single requests see it come back."""
    edge, first = _just_after(plan)
    # What comes back within a second tells a bucket of many from a window of a second.
    parts = [plan.at + share * _SECOND_S / plan.window_s for share in (0.25, 0.5, 1.0)]
    second = parts[-1]
    for at in sorted((*_LOOKS_AT_HEADER, *parts, edge, first, 1 + edge)):
        if at < plan.at + (0.02 if at in _LOOKS_AT_HEADER else 0.0):
            continue
        yield from plan.send(at, 1, "looks at what is left")
        if at == second and _came_back_at_once(plan):
            yield from _without_header(plan)
            return
        if at >= edge and at not in _SAYS_LITTLE and plan.is_sure():
            if plan.found_window < _MUCH_SHORTER:
                yield from _without_header(plan)
            return


def _came_back_at_once(plan: Plan) -> bool:
    """Whether far more came back since the least was left than a bucket's drip: of a limit a second the header tells,
    as long as that has less left than the longer one.
    """
    told = [(answer.remaining, answer) for answer in plan.answers if answer.remaining is not None]
    left, least = min(told, key=lambda one: one[0])
    later = [answer for answer in plan.answers if answer.sent_s > least.seen_s]
    if not later or later[-1].remaining is None:
        return False
    limit = max(remaining for remaining, _ in told) + 1
    gap = (later[-1].seen_s - least.seen_s) / plan.window_s
    return later[-1].remaining + len(later) - left > 5 * limit * gap + 2


def _just_after(plan: Plan) -> tuple[float, float]:
    """Just after a window on the clock ends, and just after one from the first request."""
    return _EDGE + max(0.005, _CLOCK_S / plan.window_s + plan.trip), 1.0 + max(0.005, plan.trip)


def _without_header(plan: Plan) -> Actions:
    """Fill the limit, then look again and again what has come back."""
    if not (yield from fill(plan, max(_FILL, plan.at))):
        return
    edge, first = _just_after(plan)
    limit = plan.passed
    if plan.at + 1.15 / plan.window_s > _EDGE - 0.02:
        yield from look(plan, max(0.4, plan.at + 0.01), limit, "looks what has come back")
    yield from pulse(plan, limit, max(0.9, plan.at + 0.5))
    limit = plan.passed
    kept = plan.left - max(30, 2 * limit)
    plan.left = min(plan.left, max(30, 2 * limit))
    looks = _LOOKS_AT_FEW if limit < _FEW else _LOOKS
    for at in sorted((*looks, edge, first, 1 + edge)):
        if at < plan.at + 0.01 and at != first:
            continue
        # A log has back just what opened it: a few more show the difference.
        least = _OPENER + 4 if at == first else 4
        yield from look(plan, at, limit, "looks what has come back", least=least)
        if (at in _TELLING or at == first) and plan.is_sure():
            return
    if not plan.is_sure() and plan.found_kind == "token_bucket":
        # Looks that all pass tell little of a bucket that holds less than flows back in a window: empty it once more.
        plan.left = min(max(0, kept) + plan.left, max(30, 2 * limit))
        yield from fill(plan, plan.at + _FILL)
        yield from look(plan, plan.at + 0.03, limit, "looks what has come back")
