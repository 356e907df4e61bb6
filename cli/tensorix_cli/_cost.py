"""The most that a run can use, said before anything is sent to a server that somebody pays for."""

from __future__ import annotations

import math
import select
import sys
from dataclasses import dataclass, replace
from typing import TypeVar

from tensorix_api.errors import SettingsError
from tensorix_api.settings import DEFAULT_BASE_URL, Settings
from tensorix_cli._output import say
from tensorix_loadtests.plan import Limits, LoadPlan
from tensorix_loadtests.schedules import survey

__all__ = ["DEFAULT_REQUESTS", "Most", "agree", "answered", "bounded", "most_of"]

Number = TypeVar("Number", int, float)

DEFAULT_REQUESTS = 60
"""Sent where neither a number of requests nor a duration is given."""

_SENT_FOR_ONE_PASSED = 2


@dataclass(frozen=True, slots=True)
class Most:
    """The most that a run can use; None where nothing bounds it."""

    requests: int | None
    tokens_a_request: int | None
    tokens: int | None
    money: float | None
    """None where no prices were given, too."""


def bounded(plan: LoadPlan, settings: Settings) -> LoadPlan:
    """`plan` with a bound on its requests, for a server that is not on this machine.

    A duration alone bounds nothing in a closed loop: refusals are quick. So it is capped at twice what the limit lets
    pass meanwhile, which leaves as many requests again to be refused; where the limit is unknown, Tensorix's is
    assumed. A schedule has as many requests as it has.
    """
    if settings.is_loopback or plan.requests is not None or plan.duration_s is None or plan.arrivals is not None:
        return plan
    a_window = plan.limits.requests or Limits.of(DEFAULT_BASE_URL).requests or DEFAULT_REQUESTS
    windows = math.floor(plan.duration_s / plan.limits.window_s) + 1
    return replace(plan, requests=_SENT_FOR_ONE_PASSED * windows * a_window)


def most_of(plan: LoadPlan) -> Most:
    """What the plan's schedule, prompts, retries and caps allow; the request that lists the models counts.

    Raises SettingsError for a trace or a file of prompts that is wrong.
    """
    spending = plan.spending
    scheduled = survey(plan).requests if plan.arrivals is not None else plan.requests
    requests = None if scheduled is None else scheduled * (1 + spending.most_retries) + 1
    requests = _least(requests, spending.most_requests)
    a_request = plan.most_tokens_a_request()
    tokens = None if requests is None or a_request is None else requests * a_request
    tokens = _least(tokens, spending.most_tokens)
    # A token costs no more than the dearer of the two kinds.
    each = max((max(price.most(1, 0), price.most(0, 1)) for price in spending.prices.values()), default=None)
    money = None if tokens is None or each is None else tokens * each
    return Most(requests, a_request, tokens, _least(money, spending.most_money))


def _least(*bounds: Number | None) -> Number | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def agree(plan: LoadPlan, settings: Settings, *, assumed: bool, capped: bool = False) -> bool:
    """Say what the run can use and ask whether to go on; True without a word where the server is on this machine.

    With `assumed` it is said and not asked; with `capped` it is said that the number of requests was not asked for.
    Raises SettingsError where there is no terminal to ask.
    """
    if settings.is_loopback:
        return True
    most = most_of(plan)
    used = "any number of requests" if most.requests is None else f"at most {most.requests:,} requests"
    if most.tokens is None:
        used += " and any number of tokens"
    else:
        used += f" and {most.tokens:,} tokens"
        if most.requests is not None and most.tokens_a_request and most.tokens == most.requests * most.tokens_a_request:
            used += f" ({most.tokens_a_request:,} each, prompt and answer)"
    if most.money is not None:
        used += f", and costs at most {most.money:,.4g} by the prices given"
    say(f"{settings.host} is not this machine. This run uses {used}.")
    if plan.requests is not None and plan.duration_s is not None:
        ends = f"It ends after {plan.requests:,} requests or after {_time(plan.duration_s)}, whichever comes first"
        say(f"{ends}{'; --requests N sets another bound' if capped else ''}.")
    if assumed:
        return True
    return answered()


def answered() -> bool:
    """Ask whether to go on. Raises SettingsError where there is no terminal to ask."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise SettingsError("nobody is there to agree to that: say --yes")
    return _answer("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _time(seconds: float) -> str:
    """A length of time in minutes, or in seconds where they are no whole minutes."""
    return f"{seconds / 60:g} min" if seconds % 60 == 0 else f"{seconds:g} s"


def _answer(question: str) -> str:
    """The line that is typed; empty at the end of input."""
    sys.stdout.write(question)
    sys.stdout.flush()
    # In short waits: of a Ctrl-C just before a read that blocks, Python learns only after the next line.
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        pass
    return sys.stdin.readline()
