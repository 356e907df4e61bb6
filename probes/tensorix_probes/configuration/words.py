"""What a configuration would do and what it would cost a day, in words."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tensorix_probes.configuration.values import written
from tensorix_probes.limits.keys import Keys, known_limit
from tensorix_probes.limits.ledger import Standing
from tensorix_probes.registry import check_named
from tensorix_probes.settings import BUILT_IN_CHECKS, Configuration, Maintenance, Slow, Target

__all__ = ["Load", "warnings_of", "words_of"]

_DAY_S = 86_400.0
_SOURCES = {
    "told": "as configured",
    "stated": "as its headers say",
    "documented": "the documented limit",
    "assumed": "the documented limit, for want of a header that says it",
    "seen": "more than that remained once",
}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a target's probes ask for, if every slot comes about.

    Tokens are estimated: four characters of a prompt are one, and answers are as long as they may be. A check that is
    not built in is taken for the most that it can be charged.
    """

    requests_a_round: int
    """Of a round in which all checks are due."""
    tokens_a_round: int
    requests_a_day: float
    tokens_a_day: float
    cost_a_day: float | None


def load_of(target: Target) -> Load:
    """The load of a target."""
    rounds = _DAY_S / target.interval_s
    prices, canary = target.prices, target.canary
    requests, tokens, requests_a_day, tokens_a_day, cost = 0, 0, 0.0, 0.0, 0.0
    for name in target.checks:
        check = check_named(name)
        every_s = target.every_s.get(name, check.every_s)
        # On slots only: one of 90 s in an interval of a minute runs in every other.
        runs = rounds if every_s is None else rounds / max(1, math.ceil(every_s / target.interval_s - 0.5))
        most = check.most(target)
        prompt, answer = most.tokens, 0
        if name in BUILT_IN_CHECKS and most.tokens:
            prompt, answer = math.ceil(len(canary.prompt) / 4), canary.max_tokens
        requests += most.requests
        tokens += prompt + answer
        requests_a_day += runs * most.requests
        tokens_a_day += runs * (prompt + answer)
        if prices is not None:
            cost += runs * (prompt * prices.prompt_per_million + answer * prices.completion_per_million) / 1e6
    return Load(
        requests_a_round=requests,
        tokens_a_round=tokens,
        requests_a_day=requests_a_day,
        tokens_a_day=tokens_a_day,
        cost_a_day=None if prices is None else cost,
    )


def words_of(configuration: Configuration) -> list[str]:
    """What it would do, a line each."""
    where = f" at {configuration.location}" if configuration.location else ""
    lines = [f"{_count(len(configuration.targets), 'target')}{where}; {_history(configuration)}"]
    keys = Keys(configuration.targets)
    for target in configuration.targets:
        lines += ["", *_target(target, keys.of(target).ledger.standing(time.time_ns()))]
    if configuration.maintenance:
        lines += ["", *(f"maintenance {_window(one)}" for one in configuration.maintenance)]
    if configuration.alerts.webhook is not None:
        lines += ["", f"alerts go to a webhook, those that last again every {written(configuration.alerts.repeat_s)}"]
    return lines


def _history(configuration: Configuration) -> str:
    url = configuration.history.url
    if url is None:
        return "no history is kept"
    parts = urlsplit(url)
    # Nothing else of an address: it may hold a password, in more places than one.
    place = f"a database at {parts.hostname}" if "://" in url else url
    return f"history in {place}, rounds for {written(configuration.history.keep_results_s)}"


def _target(target: Target, standing: Standing) -> Iterator[str]:
    model = target.model or "the first model that is listed"
    key = f"key in {target.key_source}" if target.api_key is not None else "no key"
    yield f"target {target.name}: {target.base_url}, {model}, {key}"
    load = load_of(target)
    runs: dict[float, list[str]] = {}
    for name in target.checks:
        every_s = target.every_s.get(name, check_named(name).every_s)
        runs.setdefault(max(every_s or 0.0, target.interval_s), []).append(name)
    yield "  checks: " + "; ".join(
        f"{', '.join(names)} every {written(every_s)}" for every_s, names in sorted(runs.items())
    )
    money = (
        "" if load.cost_a_day is None or target.prices is None else f", {load.cost_a_day:.2f} {target.prices.currency}"
    )
    yield (
        f"  about {_count(load.requests_a_day, 'request')} and {_count(load.tokens_a_day, 'token')}{money} a day; "
        f"{_count(load.requests_a_round, 'request')} and {_count(load.tokens_a_round, 'token')} in a round of all"
    )
    requests = known_limit(target, (), "requests")[0]
    cap = "no cap a day" if standing.tokens_a_day is None else f"{_count(standing.tokens_a_day, 'token')} a day"
    cost = (
        ""
        if standing.cost_a_day is None
        else f", {standing.cost_a_day:g} {target.prices.currency if target.prices else ''} a day"
    )
    yield (
        f"  budget of its key: {_count(standing.requests_allowed or 0, 'request')} "
        f"({target.budget.share * 100:.3g} % of {requests.amount:,}, {_SOURCES[requests.source]}) "
        f"and {_count(standing.tokens_allowed or 0, 'token')} in {written(target.headers.window_s)}, {cap}{cost}"
    )
    objective = target.objective
    yield f"  objective: {objective.availability * 100:g} % of {written(objective.window_s)}"


def warnings_of(configuration: Configuration) -> list[str]:
    """What is no mistake and will not go as it seems: a budget that cannot pay for the schedule."""
    keys = Keys(configuration.targets)
    sharing: dict[int, list[Target]] = {}
    for target in configuration.targets:
        sharing.setdefault(id(keys.of(target)), []).append(target)
    found: list[str] = []
    for targets in sharing.values():
        found += _unpaid(targets, keys.of(targets[0]).ledger.standing(time.time_ns()))
    for target in configuration.targets:
        found += _unreachable(target)
    if configuration.history.url is None:
        rare = dict.fromkeys(
            name
            for target in configuration.targets
            for name in target.checks
            if target.every_s.get(name, check_named(name).every_s)
        )
        if rare:
            found.append(
                f"without a history `probe once` cannot know when {' and '.join(rare)} ran last: each time they run"
            )
    return found


def _unreachable(target: Target) -> Iterator[str]:
    slow, usual, times = target.slow, Slow(), target.timeouts
    for setting, most_s, before, other_s in (
        ("connect", slow.connect_s, "total", times.total_s),
        ("models", slow.models_s, "total", times.total_s),
        ("chat", slow.chat_s, "total", times.total_s),
        ("first_token", slow.first_token_s, "first_token", times.first_token_s),
        ("gap", slow.gap_s, "chunk", times.chunk_s),
    ):
        # What nobody wrote needs no word.
        if most_s is not None and most_s != getattr(usual, f"{setting}_s") and most_s >= other_s:
            yield (
                f"{target.name}: slow.{setting} ({written(most_s)}) is never reached: timeouts.{before} "
                f"({written(other_s)}) ends the request before"
            )


def _unpaid(targets: list[Target], standing: Standing) -> Iterator[str]:
    names = " and ".join(target.name for target in targets)
    loads = [load_of(target) for target in targets]
    window_s = max(target.headers.window_s for target in targets)
    beyond = f"what is beyond is skipped, and makes {names} inconclusive"
    requests = sum(load.requests_a_day for load in loads) * window_s / _DAY_S
    if standing.requests_allowed is not None and requests > standing.requests_allowed * 1.05:
        yield (
            f"{names} would take {requests:,.1f} requests in {written(window_s)}, and the budget of the key "
            f"allows {standing.requests_allowed:,}: {beyond}; lengthen the interval, or raise budget.share"
        )
    tokens = sum(load.tokens_a_day for load in loads)
    if standing.tokens_a_day is not None and tokens > standing.tokens_a_day:
        yield (
            f"{names} would take about {tokens:,.0f} tokens a day, and budget.tokens_a_day is "
            f"{standing.tokens_a_day:,}: {beyond}; lengthen the interval, or raise it"
        )
    costs = [load.cost_a_day for load in loads if load.cost_a_day is not None]
    if standing.cost_a_day is not None and sum(costs) > standing.cost_a_day:
        yield (
            f"{names} would cost about {sum(costs):,.2f} a day, and budget.cost_a_day is {standing.cost_a_day:g}: "
            f"{beyond}; lengthen the interval, or raise it"
        )


def _window(one: Maintenance) -> str:
    to = "every target" if one.targets == ("*",) else ", ".join(one.targets)
    if one.start is not None and one.end is not None:
        return f"{one.name}: {to}, from {one.start.isoformat()} to {one.end.isoformat()}"
    days = ", ".join(_DAYS[day] for day in one.days)
    return f"{one.name}: {to}, {days} from {_clock(one.from_s)} to {_clock(one.to_s)} UTC"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02}:{int(seconds) % 3600 // 60:02}"


def _count(number: float, noun: str) -> str:
    return f"{math.ceil(number):,} {noun}{'' if math.ceil(number) == 1 else 's'}"
