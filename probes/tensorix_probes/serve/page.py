"""The status page: one HTML page that asks nobody for anything, runs no script, and loads itself again."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from tensorix_probes.result import State

__all__ = ["POLICY", "page_of"]

REFRESH_S = 10

# The worst first; what is not known yet before what is well.
_ORDER = ("down", "payment", "degraded", "inconclusive", None, "up")
_NOT_PROBED = "not yet probed"
_MEANING = {
    "up": "answers, in time, and as promised",
    "degraded": "answers, but slowly, or a promise is broken; counts as available",
    "down": "does not answer, or not as a chat API",
    "inconclusive": "nothing can be said: no budget for the probe, or the key is at its limit; counts neither way",
    "payment": "refused for want of credit (402); counts neither way",
}
_CHECKS = {
    "tls": "connection and certificate",
    "models": "list of models",
    "auth": "a good key taken, a bad one refused",
    "chat": "a question answered",
    "stream": "an answer streamed",
    "errors": "a wrong request refused properly",
    "ratelimit": "rate-limit headers",
}
_PHASES = {
    "dns": "name look-up",
    "connect": "connect",
    "tls": "TLS",
    "send": "send",
    "first_byte": "first byte",
    "first_chunk": "first chunk",
    "first_token": "first token",
    "last_byte": "last byte",
    "total": "in all",
}
_FIGURES = {
    "certificate_days_left": ("days until the certificate runs out", ".0f"),
    "models_listed": ("models listed", ".0f"),
    "tokens_per_second": ("tokens a second", ".1f"),
    "remaining_requests": ("requests left of the key's limit", ",.0f"),
    "remaining_tokens": ("tokens left of the key's limit", ",.0f"),
}
_MISSED = {
    "late": "this machine was too busy",
    "overlap": "the round before was not over",
    "defect": "the probe has a defect",
}
_COLOURS = {"up": "#1a7f4b", "degraded": "#b87400", "down": "#b3262f"}


def seconds(value: float | None) -> str:
    """A measured time: `230 ms`, `1.25 s`."""
    if value is None:
        return "\N{EN DASH}"
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms" if value >= 0.00995 else f"{value * 1e3:.1f} ms"
    return f"{value:.2f} s" if value < 9.995 else f"{value:.0f} s"


def span(value: float) -> str:
    """A length of time in its two largest units: `45 s`, `2 h 5 min`."""
    left = max(0, round(value))
    if left < 60:
        return f"{left} s"
    parts = []
    for name, unit in (("d", 86_400), ("h", 3_600), ("min", 60)):
        count, left = divmod(left, unit)
        parts.append((count, name))
    first = next(number for number, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {name}" for count, name in parts[first : first + 2] if count)


def percent(share: float | None) -> str:
    """A share that never looks better than it is: what is not all of it is not shown as 100 %."""
    if share is None:
        return "\N{EN DASH}"
    if share >= 1:
        return "100 %"
    digits = 1 if share < 0.99 else 2 if share < 0.9999 else 4
    scale = 10**digits
    return f"{int(share * 100 * scale) / scale:.{digits}f} %"


def moment(unix_s: float) -> str:
    """A time of day with its date, in UTC."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return "at an unknown time"


def bars(recent: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last rounds as bars: as high as their TTFT, in the colour of their state."""
    times = [one["first_token_s"] for one in recent if one["first_token_s"] is not None]
    top = max(times, default=0.0) or 1.0
    found = []
    for number, one in enumerate(recent):
        first = one["first_token_s"]
        share = first / top if first is not None else 1.0 if one["state"] == State.DOWN or not times else 0.08
        height = max(3.0, 44 * share)
        words = [moment(one["at"]), one["state"]]
        words += [f"TTFT {seconds(first)}"] if first is not None else []
        words += [one["reason"]] if one["reason"] else []
        words += [f"maintenance: {one['maintenance']}"] if one["maintenance"] else []
        found.append(
            {"x": number * 10, "y": 46 - height, "height": height, "state": one["state"], "title": " · ".join(words)}
        )
    return {"bars": found, "width": max(1, len(recent)) * 10, "top": max(times, default=None), "times": times}


def _drawn(target: dict[str, Any]) -> dict[str, Any]:
    """The target as it is drawn: with those figures of its checks that mean something to everybody, and those checks
    in one line that were not run for one reason.
    """
    checks: list[dict[str, Any]] = []
    for one in target["checks"]:
        shown = [
            (words, format(one["figures"][name], form))
            for name, (words, form) in _FIGURES.items()
            if name in one["figures"]
        ]
        last = checks[-1] if checks else None
        if last and _not_run(last) and _not_run(one) and last["reason"] == one["reason"]:
            checks[-1] = {**last, "check": f"{last['check']}, {one['check']}"}
        else:
            checks.append({**one, "shown": shown, "nothing": _nothing(one)})
    return {**target, "checks": checks, "past": [one for one in reversed(target["recent"]) if one["state"] != "up"]}


def _nothing(check: dict[str, Any]) -> str | None:
    """What is said in place of `up` of a check that had nothing to look at."""
    if check["state"] != State.UP:
        return None
    if check["check"] == "tls" and "tls" not in check["phases_s"]:
        return "no TLS"
    return None if check["judged"] else "nothing to judge"


def _not_run(check: dict[str, Any]) -> bool:
    return bool(check["state"] == State.INCONCLUSIVE and check["status"] is None and not check["failed"])


def _icon(state: str | None) -> str:
    colour = _COLOURS.get(state or "", "#59636e")
    circle = f'<circle cx="8" cy="8" r="7" fill="{colour}"/>'
    return "data:image/svg+xml," + quote(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{circle}</svg>')


def _headline(states: Sequence[str | None], aside: int = 0) -> str:
    """How all are, in a few words; so many of them are in maintenance, and apart."""
    if len(states) + aside == 1:
        return "In maintenance" if aside else (states[0] or _NOT_PROBED).capitalize()
    if states and set(states) == {"up"} and not aside:
        return f"All {len(states)} targets are up"
    parts = [f"{states.count(state)} {state or _NOT_PROBED}" for state in _ORDER if state in states]
    return ", ".join([*parts, *([f"{aside} in maintenance"] if aside else [])])


@lru_cache(maxsize=1)
def _template() -> tuple[jinja2.Template, str]:
    folder = resources.files("tensorix_probes.serve")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(seconds=seconds, span=span, percent=percent, moment=moment, bars=bars)
    environment.globals.update(not_probed=_NOT_PROBED, meaning=_MEANING)
    environment.globals.update(about=_CHECKS, phases=_PHASES, missed_for=_MISSED)
    style = folder.joinpath("page.css").read_text("utf-8")
    return environment.from_string(folder.joinpath("page.html").read_text("utf-8")), style


def _policy() -> str:
    digest = base64.b64encode(hashlib.sha256(_template()[1].encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


POLICY = _policy()
"""What the page may do: nothing but show its own style and its icon."""


def page_of(status: dict[str, Any]) -> str:
    """The page of what `/api/status` says."""
    template, style = _template()
    targets = sorted(
        map(_drawn, status["targets"]),
        key=lambda target: (target["maintenance"] is not None, _ORDER.index(target["state"])),
    )
    # What is in maintenance counts for nothing here either.
    states = [target["state"] for target in targets if target["maintenance"] is None]
    return template.render(
        status=status,
        now=status["now"],
        targets=targets,
        headline=_headline(states, len(targets) - len(states)),
        worst=states[0] if states else None,
        icon=_icon(states[0] if states else None),
        refresh_s=REFRESH_S,
        policy=POLICY,
        style=Markup(style),  # noqa: S704 - our own file
    )
