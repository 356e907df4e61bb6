"""Going on with a run that was killed or has ended: its plan, and how long it went on so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.spending._journal import Past
from tensorix_records import Run

__all__ = ["left_of", "plan_of_run"]

_BEGINS = ("run_started", "run_resumed")


def plan_of_run(folder: Path, *, headers: Mapping[str, str] | None = None) -> LoadPlan:
    """The plan of a run by its manifest. `headers`: the values of extra headers, which are written down nowhere.

    Raises RunFolderError where there is no run, SettingsError for one that cannot be resumed as asked.
    """
    manifest = Run.open(folder).manifest
    asked: Any = manifest.get("asked")
    if manifest.get("kind") != "load" or not isinstance(asked, dict):
        raise SettingsError(f"{folder} is no load test: there is nothing to go on with")
    if "user_classes" in asked:
        raise SettingsError(f"{folder} is a locustfile's run: only what tensorix load began can be resumed")
    machines = asked.get("machines") or {}
    if machines.get("processes") or machines.get("workers"):
        raise SettingsError(f"{folder} was shared by several processes: only a run of one process can be resumed")
    headers = dict(headers or {})
    names = [str(name) for name in asked.get("headers") or ()]
    given = {name.lower() for name in headers}
    if missing := [name for name in names if name.lower() not in given]:
        raise SettingsError(
            f"{folder} was made with the extra headers {', '.join(missing)}, whose values are not written down: "
            "give them again with --header"
        )
    return LoadPlan.from_dict(asked | {"headers": headers})


def left_of(plan: LoadPlan, run: Run, past: Past) -> float | None:
    """The seconds that are left of a run's duration, None where it has none. Raises SettingsError where nothing is left
    of that, or of its number of requests.
    """
    if plan.requests is not None and past.sent >= plan.requests:
        raise SettingsError(f"{run.path} has sent its {past.sent} requests: give a larger number to go on")
    if plan.duration_s is None:
        return None
    passed_s = _passed_s(run)
    if passed_s >= plan.duration_s:
        raise SettingsError(f"{run.path} has gone on for its {plan.duration_s:g} s: give a longer duration to go on")
    return plan.duration_s - passed_s


def _passed_s(run: Run) -> float:
    """How long requests were sent so far, in seconds: from each beginning to the stop, or to the last sign of life."""
    passed_ns = 0
    began_ns = last_ns = 0
    for event in run.events():
        at_ns = event.get("t_unix_ns")
        if not isinstance(at_ns, int):
            continue
        if event.get("kind") in _BEGINS:
            passed_ns += last_ns - began_ns
            began_ns = last_ns = at_ns
        elif event.get("kind") == "stop":
            passed_ns += max(last_ns, at_ns) - began_ns
            began_ns = last_ns = 0
        elif began_ns:
            last_ns = max(last_ns, at_ns)
    return max(0, passed_ns + last_ns - began_ns) / 1e9
