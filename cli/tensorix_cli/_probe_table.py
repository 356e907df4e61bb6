"""What a round found, as a table for a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tensorix_cli._output import mute
from tensorix_probes.limits.keys import Keys
from tensorix_probes.limits.ledger import Standing
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.settings import Target

__all__ = ["show"]

_STYLES = {
    State.UP: "bold green",
    State.DEGRADED: "bold yellow",
    State.INCONCLUSIVE: "bold cyan",
    State.PAYMENT: "bold magenta",
    State.DOWN: "bold red",
}
_WORDS = {State.PAYMENT: "out of credit (payment)"}
_NARROW = 72
"""Columns, below which a table would leave too few for what was seen."""
_PHASES = {"dns": "DNS", "connect": "connect", "tls": "TLS", "first_byte": "first byte", "first_token": "first token"}


def show(rounds: Sequence[Round], targets: Sequence[Target], keys: Keys) -> None:
    """Print the rounds: state and reason, each check, what was spent and what is left to spend."""
    console = Console(highlight=False, soft_wrap=False)
    by_name = {target.name: target for target in targets}
    try:
        for number, one in enumerate(rounds):
            if number:
                console.print()
            _show_round(console, one, by_name[one.target], keys)
    except OSError as error:
        console.quiet = True
        mute(sys.stdout, error)


def _show_round(console: Console, one: Round, target: Target, keys: Keys) -> None:
    models = dict.fromkeys(result.model for result in one.results if result.model)
    console.print(
        Text.assemble(
            (one.target, "bold"),
            " is ",
            (_WORDS.get(one.state, str(one.state)), _STYLES[one.state]),
            f" after {_time(one.duration_ns)}",
        )
        + Text(f" ({', '.join([target.base_url, *models])})", "dim")
    )
    if one.reason:
        console.print(Text(f"  {one.cause_check}: {one.reason}" if one.cause_check else f"  {one.reason}"))
    if one.maintenance:
        console.print(Text(f"  within the maintenance {one.maintenance!r}"))
    if console.width < _NARROW:
        _show_narrow(console, one, target)
    else:
        _show_table(console, one, target)
    spent = one.spent
    cost = "" if spent.cost is None or target.prices is None else f", {spent.cost:.6f} {target.prices.currency}"
    console.print(Text(f"  spent {_count(spent.requests, 'request')}, {_count(spent.tokens, 'token')}{cost}"))
    if left := _left(keys.of(target).ledger.standing(one.started_unix_ns + one.duration_ns)):
        console.print(Padding(Text(f"left for probes of this key: {left}"), (0, 0, 0, 2)))


def _show_narrow(console: Console, one: Round, target: Target) -> None:
    """A line a check, and below it what was seen, wrapped."""
    for result in one.results:
        state = Text(str(result.state), _STYLES[result.state])
        console.print(Text.assemble("  ", result.check, " ", state, " ", _time(result.duration_ns)))
        if seen := _seen(result, target):
            console.print(Padding(seen, (0, 0, 0, 4)), overflow="fold")


def _show_table(console: Console, one: Round, target: Target) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for heading, wide in (("", False), ("check", False), ("state", False), ("time", False), ("what was seen", True)):
        table.add_column(heading, no_wrap=not wide, overflow="fold", justify="right" if heading == "time" else "left")
    for result in one.results:
        table.add_row(
            "",
            result.check,
            Text(str(result.state), _STYLES[result.state]),
            _time(result.duration_ns),
            _seen(result, target),
        )
    console.print(table)


def _seen(result: ProbeResult, target: Target) -> Text:
    """Phases, and below them why it is not up, and every assertion that does not hold."""
    lines = []
    seconds = result.phases.seconds()
    phases = [f"{words} {_time(round(seconds[name] * 1e9))}" for name, words in _PHASES.items() if name in seconds]
    if phases:
        lines.append(Text(", ".join(phases), "dim"))
    # By the name that --accept takes.
    failed = [f"failed {one.name}" + (f": {one.detail}" if one.detail else "") for one in result.failed]
    if result.reason and not any(result.reason in line for line in failed):
        lines.append(Text(result.reason))
    lines += [Text(line) for line in failed]
    if result.failed and result.status == 401 and target.api_key is None:
        lines.append(Text("no key was sent: set TENSORIX_API_KEY, or key_env in a configuration"))
    if result.failed and result.status == 404 and result.check == "models":
        lines.append(Text("is the base URL right, up to /v1?"))
    return Text("\n").join(lines)


def _left(standing: Standing) -> str:
    parts = []
    for what, used, allowed in (
        ("requests this minute", standing.requests_a_minute, standing.requests_allowed),
        ("tokens this minute", standing.tokens_a_minute, standing.tokens_allowed),
        ("tokens today", standing.tokens_today, standing.tokens_a_day),
    ):
        if allowed is not None:
            parts.append(f"{max(0, allowed - used):,} of {allowed:,} {what}")
    if standing.cost_a_day is not None:
        parts.append(
            f"{max(0.0, standing.cost_a_day - (standing.cost_today or 0)):.4g} of {standing.cost_a_day:g} today"
        )
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _time(ns: int) -> str:
    return (
        f"{ns / 1e9:.2f} s" if ns >= 995_000_000 else f"{ns / 1e6:.0f} ms" if ns >= 9_950_000 else f"{ns / 1e6:.1f} ms"
    )
