"""From what was written to a target, and what has to hold among its settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from itertools import chain
from typing import Any

from tensorix_probes.configuration.mistakes import Mistakes
from tensorix_probes.configuration.outside import WRITE_INSTEAD
from tensorix_probes.configuration.toml_lines import Path
from tensorix_probes.configuration.values import shown, similar, written
from tensorix_probes.registry import PROMISES, known_checks
from tensorix_probes.settings import (
    BUILT_IN_CHECKS,
    Budget,
    Canary,
    Headers,
    Maintenance,
    Objective,
    Prices,
    Slow,
    Target,
    Timeouts,
)

__all__ = ["check_maintenance", "check_target", "check_together", "merged", "wrong_assertion"]

_SECTIONS: dict[str, Any] = {
    "timeouts": Timeouts,
    "slow": Slow,
    "canary": Canary,
    "headers": Headers,
    "budget": Budget,
    "prices": Prices,
    "objective": Objective,
}
_KEYS = ("key_env", "key_file")
_TOTAL_OF_INTERVAL = 0.75
_OURS = ("authorization", "connection", "content-length", "content-type", "host", "transfer-encoding")
_SECRET_HEADER = re.compile(r"(?i)key|token|secret|passw|auth|cookie")
_MESSAGE_FIELDS = ("messages", "model", "stream", "stream_options", "max_tokens")


def merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What was given among the defaults and for a target itself: the latter goes first, name by name."""
    given = {**defaults, **own}
    for name, value in defaults.items():
        if isinstance(value, Mapping) and name in own:
            given[name] = {**value, **own[name]}
    if own.keys() & set(_KEYS):
        given = {name: value for name, value in given.items() if name in own or name not in _KEYS}
    return given


def _target_of(given: Mapping[str, Any]) -> Target:
    """A target of what was given."""
    values = {
        name: _SECTIONS[name](**value) if name in _SECTIONS else value
        for name, value in given.items()
        if name not in _KEYS
    }
    values["timeouts"] = _timeouts(given.get("timeouts", {}), given.get("interval_s", Target(name="").interval_s))
    values.setdefault("name", "")
    found = [given[name] for name in _KEYS if name in given and given[name].secret]
    if found:
        values |= {"api_key": found[0].secret, "key_source": found[0].source}
    return Target(**values)


def _timeouts(given: Mapping[str, float], interval_s: float) -> Timeouts:
    """Those that were not given shrink with the interval, so that a probe is over before the next."""
    known = Timeouts()
    total_s = given.get("total_s", min(known.total_s, interval_s * _TOTAL_OF_INTERVAL))
    return replace(known.within(total_s), **given)


def check_target(mistakes: Mistakes, path: Path, own: Mapping[str, Any], given: Mapping[str, Any]) -> Target:
    """The target of what was given, `own` for itself, and every mistake among its settings."""
    target = _target_of(given)
    rules = (
        _key_rules(own, given, target),
        _time_rules(target),
        _check_rules(own, target, mistakes.raw((*path, "checks"))),
        _text_rules(target),
        _header_rules(target, mistakes.raw((*path, "extra_headers"))),
    )
    for names, tail, words in chain(*rules):
        if not mistakes.is_wrong(path, *names):
            mistakes.add((*path, *tail), words)
    return target


_Rule = tuple[tuple[str, ...], Path, str]
"""The settings that it is about; where it stands; what to say."""


def _key_rules(own: Mapping[str, Any], given: Mapping[str, Any], target: Target) -> Iterator[_Rule]:
    if not target.name:
        yield ("name",), (), 'it has no name: write name = "…"'
    if all(name in own and own[name].secret for name in _KEYS):
        yield ("key_env", "key_file"), ("key_file",), "key_env is given, too: leave one of them out"
    elif not given.keys() & set(_KEYS) and not target.server.is_loopback:
        yield (
            ("key_env", "key_file", "base_url"),
            (),
            'it has no key: write key_env = "TENSORIX_API_KEY", the name of a variable, or key_file '
            '(key_env = "none" where the server takes none)',
        )
    if target.budget.cost_a_day is not None and target.prices is None:
        yield (
            ("prices", "budget.cost_a_day"),
            ("budget", "cost_a_day"),
            "without prices no cost is known: write [target.prices]",
        )


def _time_rules(target: Target) -> Iterator[_Rule]:
    times, interval = target.timeouts, target.interval_s
    if times.total_s > interval:
        yield (
            ("timeouts.total", "interval"),
            ("timeouts", "total"),
            f"{written(times.total_s)} is longer than the interval of {written(interval)}: shorten it",
        )
    for field in fields(times):
        name, value = field.name.removesuffix("_s"), getattr(times, field.name)
        if name != "total" and value > times.total_s:
            yield (
                ("timeouts.total", f"timeouts.{name}", "interval"),
                ("timeouts", name),
                f"{written(value)} is longer than all of a request may take (timeouts.total, {written(times.total_s)})",
            )
    for name, moved in (("offset", target.offset_s), ("jitter", target.jitter_s)):
        if moved is not None and moved >= interval:
            yield (
                (name, "interval"),
                (name,),
                f"{written(moved)} is not shorter than the interval of {written(interval)}",
            )


def _check_rules(own: Mapping[str, Any], target: Target, listed: Any) -> Iterator[_Rule]:
    if not target.checks:
        yield ("checks",), ("checks",), "it is empty: name a check, or leave it out for all of them"
    for name in _twice([name for name in known_checks() if isinstance(listed, list) for one in listed if one == name]):
        # Also where another entry is wrong, and there is no list for it.
        yield (), ("checks",), f"{name!r} is there twice: once is enough"
    for name in target.every_s:
        if name not in known_checks():
            yield (f"every.{name}",), ("every", name), f"there is no check {name!r}: {similar(name, known_checks())}"
        elif name not in target.checks and name in own.get("every_s", {}):
            yield (f"every.{name}", "checks"), ("every", name), f"{name!r} is not among the checks of this target"
    for name in target.options:
        if name in BUILT_IN_CHECKS:
            words = "a check that is built in has no options: see canary, slow, headers and timeouts"
            yield (f"options.{name}",), ("options", name), words
        elif name not in known_checks():
            yield (
                (f"options.{name}",),
                ("options", name),
                f"there is no check {name!r}: {similar(name, known_checks())}",
            )


def _text_rules(target: Target) -> Iterator[_Rule]:
    for at, accepted in enumerate(target.accept):
        if words := wrong_assertion(accepted):
            yield ("accept",), ("accept", at), words
    for name in target.canary.body:
        if name in _MESSAGE_FIELDS:
            words = "the check sets this itself: see canary.prompt, canary.max_tokens and model"
            yield ("canary.body",), ("canary", "body", name), words


def _header_rules(target: Target, written_values: Any) -> Iterator[_Rule]:
    """`written_values`: the headers as the file has them, also those whose value cannot be used."""
    headers = (
        {**target.extra_headers, **written_values} if isinstance(written_values, Mapping) else target.extra_headers
    )
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            yield (), ("extra_headers", name), "this is no name of a header"
        elif name.lower() in _OURS:
            key = ": name the key with key_env or key_file" if name.lower() == "authorization" else ""
            yield (), ("extra_headers", name), f"the probe sets this header itself{key}"
        elif isinstance(value, str) and _SECRET_HEADER.search(name):
            yield ("extra_headers",), ("extra_headers", name), f"its value may be a secret: {WRITE_INSTEAD}"


def wrong_assertion(accepted: str) -> str | None:
    """What is wrong with the name of an assertion that is to be accepted, `check.assertion`; None where nothing is."""
    check, point, assertion = accepted.partition(".")
    if not point or not re.fullmatch(r"[a-z0-9_]+", assertion):
        return f"{shown(accepted)} is no assertion: write it like ratelimit.headers_present_on_stream"
    if check not in known_checks():
        return f"{shown(accepted)} is of no check that there is: {similar(check, known_checks())}"
    names = [promise.name for promise in PROMISES[check]] if check in BUILT_IN_CHECKS else [assertion]
    return None if assertion in names else f"{check} asserts nothing of that name: {similar(assertion, names)}"


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def check_together(mistakes: Mistakes, targets: Sequence[Target]) -> None:
    """No two targets have one name: it is all that tells them apart in metrics and rows."""
    named: dict[str, int] = {}
    for at, target in enumerate(targets):
        first = named.setdefault(target.name, at)
        if first != at and target.name:
            mistakes.add(("target", at, "name"), f"target {first + 1} has this name already: choose another")


def check_maintenance(mistakes: Mistakes, path: Path, window: Maintenance, names: Sequence[str]) -> None:
    """What has to hold within a maintenance window; `names` are those of the targets."""
    if not window.name and not mistakes.is_wrong(path, "name"):
        mistakes.add(path, 'it has no name: write name = "…"')
    once, weekly = window.start is not None or window.end is not None, bool(window.days)
    if mistakes.is_wrong(path, "start", "end", "days", "from", "to"):
        pass
    elif once == weekly:
        mistakes.add(path, "write either start and end, or days, from and to")
    elif once and (window.start is None or window.end is None):
        mistakes.add(path, f"{'start' if window.start is None else 'end'} is missing")
    elif window.start is not None and window.end is not None and window.end <= window.start:
        mistakes.add((*path, "end"), "it is not after start")
    names = [name for name in names if name]
    for at, pattern in enumerate(window.targets):
        if names and not any(fnmatchcase(name, pattern) for name in names):
            mistakes.add((*path, "targets", at), f"no target is called {pattern!r}: {similar(pattern, names)}")
