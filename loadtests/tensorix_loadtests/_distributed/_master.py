"""The master of a run of several processes: it gathers workers, gives each its share, and writes what they saw."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gevent
from gevent.event import Event
from locust.runners import STATE_MISSING

from tensorix_api.budget import share_of
from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_loadtests._distributed import _wire as wire
from tensorix_loadtests._distributed._losses import losses, manifest_of
from tensorix_loadtests._distributed._member import Member, Part
from tensorix_loadtests._gate import OpenGate
from tensorix_loadtests._load_run import LoadRun
from tensorix_loadtests._sink import FolderSink
from tensorix_loadtests.plan import LoadPlan
from tensorix_records.parcels import records_in, shifted, unpack_gaps, unpack_records

__all__ = ["Master"]

logger = logging.getLogger("tensorix_loadtests")

_LOOK_S = 0.2
# Exchanges of a comparison of clocks, how far apart, and when it is made again.
_EXCHANGES = 8
_BETWEEN_S = 0.02
_AGAIN_S = 10.0
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
        self.members: dict[str, Member] = {}
        self.run: LoadRun | None = None
        self._runner = runner
        self._me = wire.self_description()
        self._waiting: dict[tuple[str, int], int] = {}
        self._clock_number = 0
        handlers: dict[str, Callable[[Member, Mapping[str, Any]], None]] = {
            wire.CLOCK: self._on_clock,
            wire.PREPARED: self._on_prepared,
            wire.REFUSED: self._on_refused,
            wire.READY: self._on_ready,
            wire.PARCEL: self._on_parcel,
            wire.STOPPING: self._on_stopping,
            wire.DONE: self._on_done,
        }
        runner.register_message(wire.HELLO, self._on_hello)
        for kind, handler in handlers.items():
            runner.register_message(kind, self._known(handler))
        self._clocks = gevent.spawn(self._compare_clocks)
        self._watching: Any = None
        self._ended: Event | None = None

    def close(self) -> None:
        """Stop what goes on in the background."""
        gevent.killall([one for one in (self._clocks, self._watching) if one is not None])

    # before the run

    def gather(self, wanted: int, seconds: float, *, failed: Callable[[], str | None] = lambda: None) -> None:
        """Wait until so many workers have said hello.

        Raises SettingsError, which says how many came, where they do not within `seconds`, or `failed` gives a reason.
        """
        deadline = time.monotonic() + seconds
        while len(self.members) < wanted:
            if why := failed():
                raise SettingsError(why)
            if time.monotonic() > deadline:
                here = ", ".join(
                    f"process {one.about.get('process')} on {one.about.get('host')}" for one in self._all()
                )
                raise SettingsError(
                    f"{len(self.members)} of {wanted} workers came within {seconds:g} s ({here or 'none'}): start the "
                    "others with tensorix worker --master HOST:PORT, and see that they reach this port"
                )
            gevent.sleep(0.02)

    def gather_all(self, seconds: float) -> None:
        """Wait until all workers that Locust knows have said hello. Raises SettingsError where one does not."""
        deadline = time.monotonic() + seconds
        while unknown := [one for one in self._runner.clients if one not in self.members]:
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"the worker {unknown[0]} does not write records: start it from the same locustfile"
                )
            gevent.sleep(0.02)

    def claim(self, processes: Sequence[Any]) -> None:
        """These are processes of our own: how they end is seen at once."""
        by_id = {process.pid: process for process in processes}
        for member in self._all():
            if all(member.about.get(one) == self._me[one] for one in ("boot", "host")):
                member.process = by_id.get(member.about.get("process"))

    def prepare(self, plan: LoadPlan, with_key: bool, process_id: str) -> None:
        """Give all that are here the plan and their share. Raises SettingsError where one cannot take part.

        `with_key`: the master itself has a key, so the workers need theirs.
        """
        told = plan.to_dict() | {"headers": dict.fromkeys(plan.headers, ""), "watching": {}}
        present = [member for member in self._all() if self._is_alive(member)]
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
            if reason := wire.disagreement(self._me["versions"], member.about.get("versions")):
                self._send(wire.REFUSED, {"why": reason}, member)
                raise SettingsError(f"{member.name} cannot take part: {reason}")
            member.part = Part(f"{process_id}w{number + 1}", (number, len(present)))
            message = {"plan": json.dumps(told), "share": [number, len(present)], "process_id": member.part.process_id}
            self._send(wire.PLAN, message | {"key": with_key}, member)
        self._await(lambda part: part.prepared, "took the plan")

    def begin(self, run: LoadRun) -> None:
        """Let the workers begin with this run, whose folder is there. Raises SettingsError where one does not."""
        sink = run.sink
        assert isinstance(sink, FolderSink)
        for _, part in self._parts():
            part.writer = sink.run.writer(part.process_id)
        self.run = run
        run.users = lambda: sum(part.users for _, part in self._parts() if not part.missing)
        run.gate = _SharedGate(lambda: [part.left for _, part in self._parts()])
        begins = run.begins_unix_ns = time.time_ns() + _NOTICE_NS
        self.describe()
        for member, _ in self._parts():
            offset = self._offset(member)
            message = {"run": run.session.run_id, "model": run.model, "begins_unix_ns": begins + offset}
            self._send(wire.BEGIN, message, member)
        self._await(lambda part: part.ready, "was ready")
        self._watching = gevent.spawn(self._watch)

    def _await(self, condition: Callable[[Part], bool], what: str) -> None:
        deadline = time.monotonic() + _PREPARE_S
        while True:
            open_ones = [(member, part) for member, part in self._parts() if not condition(part)]
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
        for member, _ in self._parts():
            self._send(wire.CANCEL, {}, member)

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
        while any(part.done is None and not self._is_gone(member) for member, part in self._parts()):
            if time.monotonic() > deadline:
                break
            if time.monotonic() - told_s >= 1.0:
                # Again and again: a message can be lost with its connection.
                told_s = time.monotonic()
                for member, part in self._parts():
                    if part.done is None:
                        self._send(wire.STOP, {"reason": run.end_reason or "stopped"}, member)
            gevent.sleep(0.02)

    def _finish(self, run: LoadRun) -> None:
        if self._watching is not None:
            self._watching.kill()
            self._watching = None
        for _, part in self._parts():
            try:
                if part.writer is not None:
                    part.writer.close()
            except RunFolderError as error:
                run.write_failed(error)
        lost = losses(self._parts(), run.plan, run.end_reason)
        self._count(run)
        self.describe(lost=lost)
        if lost and run.trouble is None:
            run.trouble = lost[0] + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
        self.run = None
        for member, _ in self._parts():
            member.part = None

    def describe(self, *, lost: list[str] | None = None) -> None:
        """Write into the manifest who takes part and how the clocks compare; at the end also what was lost."""
        run = self.run
        if run is None or not isinstance(run.sink, FolderSink):
            return
        workers = [manifest_of(member, part, self._me["boot"]) for member, part in self._parts()]
        try:
            run.sink.run.update_manifest(workers=workers, **({} if lost is None else {"losses": lost}))
        except RunFolderError as error:
            run.write_failed(error)

    def _watch(self) -> None:
        """Notice workers that fall silent or come back, and when all have done their parts."""
        while (run := self.run) is not None:
            gevent.sleep(_LOOK_S)
            for member, part in self._parts():
                missing = part.done is None and not self._is_alive(member)
                if missing != part.missing:
                    part.missing = missing
                    kind = "worker_missing" if missing else "worker_back"
                    run.note(kind, worker=part.process_id, records=part.records, in_flight=part.started - part.finished)
                    run.warn(f"{member.name} {'is not heard of any more' if missing else 'is heard of again'}")
            self._count(run)
            self._conclude(run)

    def _conclude(self, run: LoadRun) -> None:
        """Stop the run where none of the workers will send any more."""
        parts = list(self._parts())
        going_on = [(member, part) for member, part in parts if part.stopping is None and part.done is None]
        if any(not self._is_gone(member) for member, _ in going_on):
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
        parts = list(self._parts())
        run.started = sum(part.started for _, part in parts)
        run.finished = sum(part.records if part.done is None and part.missing else part.finished for _, part in parts)

    # what the workers say

    def _known(self, handler: Callable[[Member, Mapping[str, Any]], None]) -> Callable[..., None]:
        def listen(msg: Any, **_: Any) -> None:
            member = self.members.get(msg.node_id)
            if member is not None and isinstance(msg.data, dict):
                member.heard_ns = time.monotonic_ns()
                handler(member, msg.data)

        return listen

    def _on_hello(self, msg: Any, **_: Any) -> None:
        if not isinstance(msg.data, dict):
            return
        member = self.members.get(msg.node_id)
        if member is None:
            index = self._runner.get_worker_index(msg.node_id)
            member = self.members[msg.node_id] = Member(msg.node_id, index, msg.data)
            if self.run is not None:
                self.run.warn(f"{member.name} came when the run had begun: it takes no part in it")
                self._send(wire.REFUSED, {"why": "the run began without it: it came too late"}, member)
        member.heard_ns = time.monotonic_ns()
        # An answer, so that it need not say it again.
        self._send(wire.HELLO, {}, member)

    def _on_clock(self, member: Member, data: Mapping[str, Any]) -> None:
        answered = time.time_ns()
        asked = self._waiting.pop((member.client_id, int(data["number"])), None)
        if asked is not None:
            member.clock.add(asked, int(data["heard"]), int(data["replied"]), answered)

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
            self._send(wire.DONE, {}, member)

    def _on_parcel(self, member: Member, data: Mapping[str, Any]) -> None:
        part, run = self._current(member, data)
        if part is None or run is None:
            return
        number = int(data["number"])
        if number == part.expected and part.done is None:
            try:
                self._write(member, part, run, data)
            except RunFolderError as error:
                run.write_failed(error)
            part.expected += 1
        self._send(wire.ACK, {"run": data["run"], "number": part.expected - 1}, member)

    def _write(self, member: Member, part: Part, run: LoadRun, data: Mapping[str, Any]) -> None:
        late = -self._offset(member)
        part.started, part.finished, part.users = int(data["started"]), int(data["finished"]), int(data["users"])
        part.left = {str(kind): float(amount) for kind, amount in data["left"].items()}
        part.said_ns = time.monotonic_ns()
        if data["records"]:
            batch = shifted(unpack_records(data["records"]), late)
            part.writer.append(records=batch)
            part.records += batch.num_rows
            if run.listeners:
                for record in records_in(batch):
                    for listener in run.listeners:
                        listener.on_record(record)
        if data["gaps"]:
            part.writer.append(gaps=shifted(unpack_gaps(data["gaps"]), late))
        for text in data["events"]:
            event = json.loads(text)
            event["t_unix_ns"] = int(event["t_unix_ns"]) + late
            if event["kind"] == "worker_second":
                run.workers[part.process_id] = event
            part.writer.event(event.pop("kind"), **event)

    # clocks

    def _compare_clocks(self) -> None:
        """Compare the clock of each worker: when it has come, and again and again."""
        while True:
            fresh = [member for member in self._all() if not member.clock.exchanges]
            for member in fresh or self._all():
                for _ in range(_EXCHANGES):
                    self._clock_number += 1
                    self._waiting[member.client_id, self._clock_number] = time.time_ns()
                    self._send(wire.CLOCK, {"number": self._clock_number}, member)
                    gevent.sleep(_BETWEEN_S)
            if not fresh and self.run is not None:
                for member, part in self._parts():
                    if (offset := member.clock.best(time.time_ns())) is not None:
                        told = {"offset_ns": offset.offset_ns, "uncertainty_ns": offset.uncertainty_ns}
                        self.run.note("worker_clock", worker=part.process_id, **told)
            # Questions whose answers were lost.
            for key in [key for key, asked in self._waiting.items() if time.time_ns() - asked > 60e9]:
                del self._waiting[key]
            pause = time.monotonic() + (_AGAIN_S if self.members else 0.1)
            while time.monotonic() < pause and all(member.clock.exchanges for member in self._all()):
                gevent.sleep(0.1)
            gevent.sleep(0.02)

    def _offset(self, member: Member) -> int:
        """What is taken off a worker's Unix times: 0 where its clock is ours, or cannot be told from it."""
        if self._me["boot"] and member.about.get("boot") == self._me["boot"]:
            return 0
        best = member.clock.best(time.time_ns())
        return best.offset_ns if best is not None and best.is_told_apart else 0

    # who is there

    def _all(self) -> list[Member]:
        return list(self.members.values())

    def _parts(self) -> list[tuple[Member, Part]]:
        return [(member, member.part) for member in self._all() if member.part is not None]

    def _current(self, member: Member, data: Mapping[str, Any]) -> tuple[Part | None, LoadRun | None]:
        """Its part in the run that a message is about; None where that run is over."""
        run = self.run
        return (member.part, run) if run is not None and data.get("run") == run.session.run_id else (None, None)

    def _is_alive(self, member: Member) -> bool:
        if member.process is not None and member.process.poll() is not None:
            return False
        node = self._runner.clients.get(member.client_id)
        # Who has no entry said goodbye to Locust, and may still bring the rest of its records.
        silent_s = (time.monotonic_ns() - member.heard_ns) / 1e9
        return silent_s < wire.GONE_S if node is None else node.state != STATE_MISSING or silent_s < 1.0

    def _is_gone(self, member: Member) -> bool:
        """Whether to give up waiting for it."""
        if member.process is not None and member.process.poll() is not None:
            return True
        return not self._is_alive(member) and (time.monotonic_ns() - member.heard_ns) / 1e9 > wire.GONE_S

    def _send(self, kind: str, data: dict[str, Any], member: Member) -> None:
        try:
            self._runner.send_message(kind, data, client_id=member.client_id)
        except Exception as error:  # noqa: BLE001  Locust's own kinds, and those of its connection: it resets that
            logger.warning("%s could not be told %s: %s", member.name, kind, error)
