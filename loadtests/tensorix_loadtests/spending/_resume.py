"""Going on with a run that was killed or has ended: its plan, and how long it went on so far."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.spending._journal import Past, read_journal
from tensorix_records import Run

__all__ = ["check_left", "left_of", "plan_of_run"]

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


def check_left(plan: LoadPlan, folder: Path) -> None:
    """Raises SettingsError where nothing is left of a run: of its requests, its duration, or a cap that has no room for
    a look at the server and one more request of its longest answer.
    """
    run = Run.open(folder)
    past = read_journal(folder)
    left_of(plan, run, past)
    spending, spent = plan.spending, past.spent
    if spending.most_requests is not None and spent.requests + 2 > spending.most_requests:
        raise SettingsError(_nothing(folder, f"{spent.requests:,} of {spending.most_requests:,} requests", "cap"))
    most = plan.most_tokens_a_request() if spending.most_tokens or spending.most_money else None
    if spending.most_tokens is not None and most is not None and spent.tokens + most > spending.most_tokens:
        used = f"{spent.tokens:,} of {spending.most_tokens:,} tokens, and a request may use {most:,}"
        raise SettingsError(_nothing(folder, used, "cap"))
    if spending.most_money is not None and spent.money >= spending.most_money:
        raise SettingsError(_nothing(folder, f"{spent.money:g} of {spending.most_money:g} in money", "cap"))


def _nothing(folder: Path, used: str, what: str) -> str:
    return f"nothing is left of {folder}: it has used {used}; give a larger {what} to go on"


def left_of(plan: LoadPlan, run: Run, past: Past) -> float | None:
    """The seconds that are left of a run's duration, None where it has none. Raises SettingsError where nothing is left
    of that, or of its number of requests.
    """
    if plan.requests is not None and past.sent >= plan.requests:
        raise SettingsError(
            f"nothing is left of {run.path}: it has sent its {past.sent} requests; give a larger number"
        )
    if plan.duration_s is None:
        return None
    passed_s = _passed_s(run)
    if passed_s >= plan.duration_s:
        raise SettingsError(
            f"nothing is left of {run.path}: it has gone on for its {plan.duration_s:g} s; give a longer one"
        )
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
