"""Prometheus's rules, from a template: as they are meant, or with all windows scaled down, to be tried in minutes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from tensorix_probes.alerts.conditions import (
    ABOUT,
    BUDGET_WINDOW_S,
    BURNS,
    MOST_SHARE,
    SHARES,
    WINDOWS,
    Burn,
    longest_interval_s,
)
from tensorix_probes.registry import PROMISES, check_named

__all__ = ["RUNBOOKS", "alertmanager_example", "dashboard", "rules"]

RUNBOOKS = "docs/runbooks.md"
"""Where the runbooks are, unless told otherwise: a page of the repository."""

_SCRAPE_S = 60.0
"""The longest time between two scrapes with which the least numbers of failures are exact."""

_TEMPLATES = files("tensorix_probes.alerts") / "templates"
# increase() extrapolates upwards only: 2 failures are 2 to 2.5, and 1 is 1 to 1.25.
_LEAST = 0.4
_OURS = "budget_allows|server_has_room|check_works|models_are_unchanged"
"""Assertions that are no promise of the server's, or whose failing is only news."""
_DECIDING = "|".join(name for name in PROMISES if check_named(name).decides)
"""Checks that are part of every round: what they saw last is never old."""
_WHERE = "{{ $labels.target }}{{ if $labels.location }} from {{ $labels.location }}{{ end }}"


def duration(seconds: float) -> str:
    """A length of time as PromQL writes it, in the largest unit that needs no fraction: `90m`, `300ms`."""
    ms = max(1, round(seconds * 1000))
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"


def _number(value: float) -> str:
    return f"{value:.12g}"


def _quoted(text: str) -> str:
    """A string in YAML, in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line if line else line for line in text.strip().splitlines())


class _Writer:
    """The pieces of the rules, for the template."""

    def __init__(self, scale: float, runbooks: str) -> None:
        self._scale = scale
        self._runbooks = runbooks

    def time(self, seconds: float) -> str:
        return duration(seconds * self._scale)

    def range(self, window: str) -> str:
        return self.time(WINDOWS[window] + _SCRAPE_S)

    def record(self, window: str) -> str:
        """What failed in a window, and its share."""
        counted = 'sum by (target, location) (increase(tensorix_probe_rounds_total{{state{},maintenance="false"}}[{}]))'
        failures = counted.format('="down"', self.range(window))
        conclusive = counted.format('=~"up|degraded|down"', self.range(window))
        return _indented(
            f"""
- record: tensorix:probe_failures:increase{window}
  expr: {failures}
- record: tensorix:probe_failures:ratio{window}
  expr: tensorix:probe_failures:increase{window} / ({conclusive} > 0)
""",
            6,
        )

    def burn(self, burn: Burn) -> str:
        """A burn rate's alert."""
        bound = f"clamp_max({_number(burn.factor)} * tensorix:probe_error_budget:ratio, {MOST_SHARE})"
        shares = [
            f"tensorix:probe_failures:ratio{window} > on (target, location) {bound}"
            for window in (burn.long, burn.short)
            if burn.factor
        ]
        most_s = longest_interval_s(burn) * self._scale
        counts = [
            f"tensorix:probe_failures:increase{window} > {least(number)}"
            for window, number in ((burn.long, burn.least_long), (burn.short, burn.least_short))
        ]
        holds = f"""
  # The short window has to hold so many probes at all; of longer intervals the longer windows tell.
  on (target, location) max by (target, location) (tensorix_probe_interval_seconds) <= {_number(most_s)}"""
        whole = f"""
  # Against all rounds that the window holds: two hours say nothing of three days.
  tensorix:probe_failures:increase{burn.long}
  * on (target, location) max by (target, location) (tensorix_probe_interval_seconds)
  > on (target, location) {_number(WINDOWS[burn.long] * self._scale)} * {bound}"""
        conditions = [*shares, *counts, *([whole.removeprefix("\n")] if burn.whole else [])]
        return self._alert(burn.alert, "\nand\n".join(conditions) + "\nand" + holds)

    def alert(self, name: str, hold: float = 0.0, what: str = "", *, caller: Callable[[], str]) -> str:
        """An alert whose expression the template holds; `hold` seconds long before it fires."""
        return self._alert(name, caller(), hold, what) + "\n"

    def _alert(self, name: str, expression: str, hold: float = 0.0, what: str = "") -> str:
        about = ABOUT[name]
        lines = [
            f"- alert: {name}",
            "  expr: |",
            _indented(expression, 4),
            *([f"  for: {self.time(hold)}"] if hold else []),
            "  labels:",
            f"    severity: {about.severity}",
            "  annotations:",
            f"    summary: {_quoted(about.summary.format(where=_WHERE, what=what))}",
            f"    description: {_quoted(about.description)}",
            f"    runbook_url: {_quoted(f'{self._runbooks}#{name.lower()}')}",
        ]
        return _indented("\n".join(lines), 6)


def least(number: int) -> str:
    """What increase() has to exceed where so many happened at least."""
    return _number(number - _LEAST)


def rules(scale: float = 1.0, *, objective: float | None = None, runbooks: str = RUNBOOKS) -> str:
    """The rules as YAML.

    All windows, pauses and intervals are times `scale`; days to a certificate's end are not. `objective` is a share for
    all targets in place of each one's own (`tensorix_probe_objective_ratio`). `runbooks` is the address of the page
    that the alerts refer to. Raises ValueError for a scale that is not above 0, or an objective outside 0 to 1.
    """
    if not 1e-4 <= scale <= 100:
        raise ValueError(f"the scale {scale:g} is not between 0.0001 and 100")
    if objective is not None and not 0 < objective < 1:
        raise ValueError(f"the objective {objective:g} is no share between 0 and 1, such as 0.995")
    environment = Environment(
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML; the values are ours
    )
    writer = _Writer(scale, runbooks)
    return environment.from_string((_TEMPLATES / "rules.yml.j2").read_text(encoding="utf-8")).render(
        asked=("" if scale == 1 else f" --scale {scale:g}")
        + ("" if objective is None else f" --objective {objective:g}"),
        scale=scale,
        scrape_s=_SCRAPE_S,
        objective=objective,
        budget=_number(1 - objective) if objective is not None else None,
        budget_window_s=BUDGET_WINDOW_S * scale,
        burns=BURNS,
        shares=SHARES,
        ours=_OURS,
        deciding=_DECIDING,
        key_taken="key_is_accepted",
        number=_number,
        least=least,
        d=writer.time,
        r=writer.range,
        record=writer.record,
        alert_burn=writer.burn,
        alert=writer.alert,
        unless_maintenance=(
            "unless on (target, location) sum by (target, location) "
            f'(increase(tensorix_probe_rounds_total{{maintenance="true"}}[{writer.time(3600)}])) > 0'
        ),
    )


def alertmanager_example() -> str:
    """An example of Alertmanager's configuration, as YAML."""
    return (_TEMPLATES / "alertmanager.yml").read_text(encoding="utf-8")


def dashboard() -> str:
    """A dashboard for Grafana to import, as JSON."""
    return (_TEMPLATES / "grafana.json").read_text(encoding="utf-8")
