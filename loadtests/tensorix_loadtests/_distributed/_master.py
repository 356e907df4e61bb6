"""The master of a run of several processes: it gives each worker its share, writes what they saw, and ends the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event

from tensorix_api.budget import share_of
from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_loadtests._distributed import _wire as wire
from tensorix_loadtests._distributed._clock_watch import ClockWatch
from tensorix_loadtests._distributed._clocks import Offset
from tensorix_loadtests._distributed._losses import losses, manifest_of
from tensorix_loadtests._distributed._member import Member, Part
from tensorix_loadtests._distributed._members import Members
from tensorix_loadtests._distributed._parcel import write_parcel
from tensorix_loadtests._gate import OpenGate
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._sink import FolderSink
from tensorix_loadtests.plan import LoadPlan

__all__ = ["Master"]

_LOOK_S = 0.2
_PREPARE_S = 30.0
# Beyond the drain of what is in flight: to bring what still waits to be brought.
_DELIVERY_S = 30.0
# For all to have the word of it before the first arrival is due.
_NOTICE_NS = 500_000_000


class _SharedGate(OpenGate):
    """The gates are the workers'; this one knows what is left of all of them."""

    def __init__(self, parts: Callable[[], list[dict[str, float]]]) -> None:
        super().__init__(None)
        self._parts = parts

    def left(self) -> dict[str, float]:
        """Of each cap, the sum of what is left of its parts."""
        parts = self._parts()
        return {kind: sum(part.get(kind, 0.0) for part in parts) for part in parts for kind in part}


class Master:
    """Speaks with the workers of Locust's `runner`, over one run after the other.

    `prepare` before a run, `begin` when its folder is there, `end` when it shall end; `run.stopped` is set when the
    workers have done what was asked, or one of them may not go on.
    """

    def __init__(self, runner: Any) -> None:
        self.run: LoadRun | None = None
        self.members = Members(runner, self._on_new)
        self._clocks = ClockWatch(self.members, self._on_clock_compared)
        handlers: dict[str, Callable[[Member, Mapping[str, Any]], None]] = {
            wire.PREPARED: self._on_prepared,
            wire.REFUSED: self._on_refused,
            wire.READY: self._on_ready,
            wire.PARCEL: self._on_parcel,
            wire.STOPPING: self._on_stopping,
            wire.DONE: self._on_done,
        }
        for kind, handler in handlers.items():
            self.members.listen(kind, handler)
        self._watching: Any = None
        self._ended: Event | None = None

    def close(self) -> None:
        """Stop what goes on in the background."""
        self._clocks.close()
        if self._watching is not None:
            self._watching.kill()

    # before the run

    def prepare(self, plan: LoadPlan, with_key: bool, process_id: str) -> None:
        """Give all that are here the plan and their share. Raises SettingsError where one cannot take part.

        `with_key`: the master itself has a key, so the workers need theirs.
        """
        told = plan.to_dict() | {"headers": dict.fromkeys(plan.headers, ""), "watching": {}}
        present = [member for member in self.members.all() if self.members.is_alive(member)]
        if not present:
            raise SettingsError("no worker is there: start some with --worker, from the same locustfile")
        capped = plan.requests or plan.spending.most_requests or plan.spending.most_tokens or plan.spending.most_money
        if plan.arrivals is None and capped and plan.users < len(present):
            raise SettingsError(
                f"{plan.users} users cannot be divided among {len(present)} workers: give at least one to each"
            )
        limit, limit_share = plan.limits.requests, plan.spending.limit_share
        if limit is not None and limit_share is not None and share_of(limit, limit_share) < len(present):
            raise SettingsError(
                f"{limit_share:g} of {limit} requests in a window cannot be divided among {len(present)} workers: "
                "each needs one at least"
            )
        for number, member in enumerate(present):
            if reason := wire.disagreement(self.members.me["versions"], member.about.get("versions")):
                self.members.send(wire.REFUSED, {"why": reason}, member)
                raise SettingsError(f"{member.name} cannot take part: {reason}")
            member.part = Part(f"{process_id}w{number + 1}", (number, len(present)))
            message = {"plan": json.dumps(told), "share": [number, len(present)], "process_id": member.part.process_id}
            self.members.send(wire.PLAN, message | {"key": with_key}, member)
        self._await(lambda part: part.prepared, "took the plan")

    def begin(self, run: LoadRun) -> None:
        """Let the workers begin with this run, whose folder is there. Raises SettingsError where one does not."""
        sink = run.sink
        assert isinstance(sink, FolderSink)
        for _, part in self.members.parts():
            part.writer = sink.run.writer(part.process_id)
        self.run = run
        run.users = lambda: sum(part.users for _, part in self.members.parts() if not part.missing)
        run.gate = _SharedGate(lambda: [part.left for _, part in self.members.parts()])
        self.describe()
        for member, _ in self.members.parts():
            self.members.send(wire.BEGIN, {"run": run.session.run_id, "model": run.model}, member)
        self._await(lambda part: part.ready, "was ready")
        run.begins_unix_ns = time.time_ns() + _NOTICE_NS
        for member, _ in self.members.parts():
            self._say_go(run.begins_unix_ns, member)
        self._watching = gevent.spawn(self._watch)

    def _say_go(self, begins_unix_ns: int, member: Member) -> None:
        self.members.send(wire.GO, {"begins_unix_ns": begins_unix_ns + self._clocks.offset(member)}, member)

    def _await(self, condition: Callable[[Part], bool], what: str) -> None:
        deadline = time.monotonic() + _PREPARE_S
        while True:
            open_ones = [(member, part) for member, part in self.members.parts() if not condition(part)]
            for member, part in open_ones:
                if part.refused is not None:
                    raise SettingsError(f"{member.name} cannot take part: {part.refused}")
            if not open_ones:
                return
            if time.monotonic() > deadline:
                raise SettingsError(f"{open_ones[0][0].name} did not say within {_PREPARE_S:g} s that it {what}")
            gevent.sleep(0.01)

    # while it runs

    def cancel(self) -> None:
        """End what is in flight at once."""
        for member, _ in self.members.parts():
            self.members.send(wire.CANCEL, {}, member)

    def end(self) -> None:
        """Tell the workers to end, wait within a bound for the last record of each, and say what was lost.

        The bound is that of a request's own timeouts and half a minute; of a worker that is not heard of, ten seconds.
        """
        run = self.run
        if run is None:
            return
        if self._ended is not None:
            # Locust may say twice that a test stops.
            self._ended.wait()
            return
        self._ended = Event()
        try:
            self._collect(run)
            self._finish(run)
        finally:
            self._ended.set()
            self._ended = None

    def _collect(self, run: LoadRun) -> None:
        timeouts = run.plan.timeouts
        deadline = time.monotonic() + timeouts.connect_s + timeouts.total_s + _DELIVERY_S
        told_s = 0.0
        while any(part.done is None and not self.members.is_gone(member) for member, part in self.members.parts()):
            if time.monotonic() > deadline:
                break
            if time.monotonic() - told_s >= 1.0:
                # Again and again: a message can be lost with its connection.
                told_s = time.monotonic()
                for member, part in self.members.parts():
                    if part.done is None:
                        self.members.send(wire.STOP, {"reason": run.end_reason or "stopped"}, member)
            gevent.sleep(0.02)

    def _finish(self, run: LoadRun) -> None:
        if self._watching is not None:
            self._watching.kill()
            self._watching = None
        for _, part in self.members.parts():
            try:
                if part.writer is not None:
                    part.writer.close()
            except RunFolderError as error:
                run.write_failed(error)
        lost = losses(self.members.parts(), run.plan, run.end_reason)
        self._count(run)
        self.describe(lost=lost)
        if lost and run.trouble is None:
            run.trouble = lost[0] + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
        self.run = None
        for member, _ in self.members.parts():
            member.part = None

    def describe(self, *, lost: list[str] | None = None) -> None:
        """Write into the manifest who takes part and how the clocks compare; at the end also what was lost."""
        run = self.run
        if run is None or not isinstance(run.sink, FolderSink):
            return
        workers = [manifest_of(member, part, self.members.me["boot"]) for member, part in self.members.parts()]
        try:
            run.sink.run.update_manifest(workers=workers, **({} if lost is None else {"losses": lost}))
        except RunFolderError as error:
            run.write_failed(error)

    def _watch(self) -> None:
        """Notice workers that fall silent or come back, and when all have done their parts."""
        while (run := self.run) is not None:
            gevent.sleep(_LOOK_S)
            for member, part in self.members.parts():
                missing = part.done is None and not self.members.is_alive(member)
                if missing != part.missing:
                    part.missing = missing
                    kind = "worker_missing" if missing else "worker_back"
                    run.note(kind, worker=part.process_id, records=part.records, in_flight=part.started - part.finished)
                    run.warn(f"{member.name} {'is not heard of any more' if missing else 'is heard of again'}")
            self._count(run)
            self._conclude(run)

    def _conclude(self, run: LoadRun) -> None:
        """Stop the run where none of the workers will send any more."""
        parts = list(self.members.parts())
        going_on = [(member, part) for member, part in parts if part.stopping is None and part.done is None]
        if any(not self.members.is_gone(member) for member, _ in going_on):
            return
        reasons = [part.stopping for _, part in parts if part.stopping]
        if not reasons:
            run.stop("workers_lost", "no worker is left")
            return
        reason = "budget" if "budget" in reasons else reasons[0]
        words = next((part.words for _, part in parts if part.stopping == reason and part.words), None)
        run.stop(reason, words=words)

    def _count(self, run: LoadRun) -> None:
        """The whole run's numbers, for its own word of each second. Of who is gone only what was received has ended."""
        parts = list(self.members.parts())
        run.started = sum(part.started for _, part in parts)
        run.finished = sum(part.records if part.done is None and part.missing else part.finished for _, part in parts)

    # what the workers say

    def _on_new(self, member: Member) -> None:
        if self.run is not None:
            self.run.warn(f"{member.name} came when the run had begun: it takes no part in it")
            self.members.send(wire.REFUSED, {"why": "the run began without it: it came too late"}, member)

    def _on_clock_compared(self, part: Part, offset: Offset) -> None:
        if self.run is not None:
            told = {"offset_ns": offset.offset_ns, "uncertainty_ns": offset.uncertainty_ns}
            self.run.note("worker_clock", worker=part.process_id, **told)

    def _on_prepared(self, member: Member, data: Mapping[str, Any]) -> None:
        if member.part is not None:
            member.part.prepared = True
            member.about["key_alias"] = data.get("key_alias")

    def _on_refused(self, member: Member, data: Mapping[str, Any]) -> None:
        if member.part is not None:
            member.part.refused = str(data.get("why"))

    def _on_ready(self, member: Member, data: Mapping[str, Any]) -> None:
        if member.part is not None:
            member.part.ready = True
            if self.run is not None and self.run.begins_unix_ns is not None:
                # It says so again: what it was told was lost.
                self._say_go(self.run.begins_unix_ns, member)

    def _on_stopping(self, member: Member, data: Mapping[str, Any]) -> None:
        part, run = self._current(member, data)
        if part is None or run is None or part.stopping is not None:
            return
        part.stopping, part.words = str(data.get("reason")), data.get("words")
        trouble = data.get("trouble")
        if part.stopping not in wire.SENT_SHARE and part.stopping not in ("interrupted", "master_gone"):
            # A refused key or a defect is everybody's affair; one that somebody ended by hand is not.
            run.stop(part.stopping, trouble and f"{member.name}: {trouble}")

    def _on_done(self, member: Member, data: Mapping[str, Any]) -> None:
        part, _ = self._current(member, data)
        if part is not None and part.done is None and int(data["parcels"]) <= part.expected:
            part.done = data
            part.started, part.finished, part.users = int(data["started"]), int(data["finished"]), 0
        if part is not None and part.done is not None:
            self.members.send(wire.DONE, {}, member)

    def _on_parcel(self, member: Member, data: Mapping[str, Any]) -> None:
        part, run = self._current(member, data)
        if part is None or run is None:
            return
        number = int(data["number"])
        if number == part.expected and part.done is None:
            try:
                write_parcel(part, run, data, -self._clocks.offset(member))
            except RunFolderError as error:
                run.write_failed(error)
            part.expected += 1
        self.members.send(wire.ACK, {"run": data["run"], "number": part.expected - 1}, member)

    def _current(self, member: Member, data: Mapping[str, Any]) -> tuple[Part | None, LoadRun | None]:
        """Its part in the run that a message is about; None where that run is over."""
        run = self.run
        return (member.part, run) if run is not None and data.get("run") == run.session.run_id else (None, None)
