"""What else differs between two runs, and so may be why their figures do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tensorix_reports.comparison._measures import Loaded

__all__ = ["warnings_between"]

# Each run has its own, and it changes nothing.
_OWN = (
    "run_id",
    "label",
    "out",
    "place",
    "folder",
    "argv",
    "command",
    "pid",
    "process",
    "processes",
    "stop",
    "end_reason",
    "sha256",
)
_TOLD = 120


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name) not in _OWN and not str(name).endswith(("_unix_ns", "_offset_ns")):
                yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif value is not None:
        text = str(value)
        yield prefix, text if len(text) <= _TOLD else f"{text[: _TOLD - 1]}…"


def _settings(loaded: Loaded) -> dict[str, str]:
    return dict(_flat("", loaded.run.manifest))


def _saturated(loaded: Loaded) -> bool:
    return any(event.get("kind", event.get("event")) == "saturated" for event in loaded.run.events())


def warnings_between(baseline: Loaded, other: Loaded) -> list[str]:
    """In one sentence each."""
    first, second = _settings(baseline), _settings(other)
    found = [
        f"{name} differs: {first.get(name, 'not set')} in the baseline, {second.get(name, 'not set')} here"
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    windows = [(one.steady.window.seconds, len(one.inside)) for one in (baseline, other)]
    if baseline.steady.why != other.steady.why:
        found.append(f"the steady state was chosen otherwise: {baseline.steady.why}; here {other.steady.why}")
    lengths = sorted(seconds for seconds, _ in windows)
    if lengths[1] > 1.2 * lengths[0] + 1:
        found.append(f"the steady state lasts {windows[0][0]:,.0f} s in the baseline and {windows[1][0]:,.0f} s here")
    for where, one in (("in the baseline", baseline), ("here", other)):
        found += [f"{finding} ({where})" for finding in one.findings]
        if _saturated(one):
            found.append(f"the client was saturated {where}: what it measured is partly its own doing")
        if one.run.manifest.get("ended_unix_ns") is None:
            found.append(f"the run did not come to its own end {where}")
        if len(one.token_sources) > 1:
            found.append(f"tokens were counted in several ways {where}: their figures stand apart")
    if baseline.token_sources != other.token_sources:
        ways = [" and ".join(one.token_sources) or "nothing" for one in (baseline, other)]
        found.append(f"tokens are counted by {ways[0]} in the baseline and by {ways[1]} here: they are not compared")
    return found
