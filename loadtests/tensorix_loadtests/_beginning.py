"""How a run begins, and how one goes on: the keys, the look at the server, the gate, the run folder."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from tensorix_api.budget import Spend
from tensorix_api.errors import SettingsError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._preflight import check_limits_known, choose_model
from tensorix_loadtests._session import Session
from tensorix_loadtests._sink import FolderSink
from tensorix_loadtests._target import Target
from tensorix_loadtests.plan import LoadPlan
from tensorix_loadtests.prompts import Prompts
from tensorix_loadtests.spending import Journal, SpendingGate, left_of, open_gate, read_journal, read_keys
from tensorix_records import Run

__all__ = ["begin_run", "gate_of", "open_session", "resume_run"]


def gate_of(plan: LoadPlan, session: Session, journal: Journal | None, share: tuple[int, int] = (0, 1)) -> SpendingGate:
    """The gate that a plan asks for, with the session's keys, for the k-th of n processes."""
    keys = [(key, session.alias_of(key)) for key in (session.settings.api_key, *session.more_keys)]
    return open_gate(plan, keys, journal=journal, share=share, process_id=session.process_id)


def open_session(
    plan: LoadPlan, key: Secret | None, *, run_id: str | None = None, process_id: str | None = None
) -> Session:
    """What the users share. Where the plan names keys of its own, `key` is not used.

    Raises SettingsError for an address, proxy, CA bundle or key that cannot be used.
    """
    keys = read_keys(plan.spending.key_variables) or (key,)
    settings = Settings(base_url=plan.base_url, api_key=keys[0], model=plan.model)
    return Session(
        settings,
        Target.of(settings, plan.ca_bundle),
        plan.timeouts,
        {name: Secret(value) for name, value in plan.headers.items()},
        run_id=run_id or time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + uuid.uuid4().hex[:6],
        process_id=process_id or f"p{os.getpid()}",
        host=socket.gethostname(),
        keep_gaps=plan.keep_gaps,
        more_keys=[one for one in keys[1:] if one],
    )


def begin_run(
    plan: LoadPlan,
    out: Path,
    key: Secret | None,
    *,
    user_classes: Mapping[str, Mapping[str, float]] | None = None,
) -> LoadRun:
    """Look whether the server can be used, then make the run folder. Raises TensorixError where either fails.

    `user_classes` are those of a locustfile, by name, with their weight or fixed count: the manifest then tells of
    them instead of the plan's mix, which nobody asked for.
    """
    Run.check_creatable(out)
    Prompts(plan).close()
    session = open_session(plan, key)
    model, preflight, warning = choose_model(session, plan.ca_bundle, list(plan.models))
    check_limits_known(plan, preflight)
    sink = FolderSink.create(out, plan, session, model, user_classes=user_classes)
    journal = Journal(sink.run.path, session.process_id, new=True)
    gate = gate_of(plan, session, journal)
    run = LoadRun(plan, session, sink, model, gate=gate, journal=journal)
    gate.charge(Spend(1))
    gate.seen(preflight)
    run.warning = warning
    sink.add(preflight)
    run.note("run_started")
    run.watch()
    return run


def resume_run(plan: LoadPlan, out: Path, key: Secret | None) -> LoadRun:
    """Go on with a run that was killed or has ended, in its own folder: its caps, its number of requests, its
    duration and its schedule go on where they were. `plan`: see `plan_of_run`; it may ask for more than before.

    Raises TensorixError where it cannot go on: another engine runs it, or nothing is left to do.
    """
    folder = Run.open(out)
    # A process's number may come again; how often the run was begun does not.
    process_id = f"p{os.getpid()}-{read_journal(folder.path).engines + 1}"
    session = open_session(plan, key, run_id=str(folder.manifest["run_id"]), process_id=process_id)
    journal = Journal(folder.path, process_id)
    try:
        past, duration_s = journal.past, left_of(plan, folder, journal.past)
        gate = gate_of(plan, session, journal)
        if not gate.charge(Spend(1)):
            raise SettingsError(f"the cap of {plan.spending.most_requests} requests is used up: raise it")
        model, preflight, warning = choose_model(session, plan.ca_bundle, list(plan.models))
        sink = FolderSink.resume(folder, session)
    except BaseException:
        journal.close()
        raise
    run = LoadRun(plan, session, sink, model, gate=gate, journal=journal)
    run.past, run.duration_s = past, duration_s
    gate.seen(preflight)
    run.warning = warning
    sink.add(preflight)
    run.note("run_resumed", sent=past.sent)
    run.watch()
    return run
