"""What the exit status of every command means: one table, which the README and `tensorix --help` repeat."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["MEANING", "ExitStatus"]


class ExitStatus(IntEnum):
    """The statuses that a command ends with."""

    DONE = 0
    NOT_DONE = 1
    MISTAKE = 2
    INCONCLUSIVE = 3
    PAYMENT = 4
    DEFECT = 70
    INTERRUPTED = 130


MEANING = {
    ExitStatus.DONE: (
        "done; probe once: up; simulate, probe serve: it was ended in order (Ctrl-C, SIGTERM, a closed terminal)"
    ),
    ExitStatus.NOT_DONE: (
        "it could not do its job: no request succeeded, the run was stopped by 401 or 402, "
        "the engine died, or a file or the output could not be written (for simulate: its truth); "
        "load: an objective is broken; compare: a gate is; search: no load met the objectives; "
        "probe once: down or degraded"
    ),
    ExitStatus.MISTAKE: (
        "a mistake in what was asked: an unknown option, a server or model that cannot be used, a missing or wrong "
        "key, a run folder or configuration that cannot be used, an extra that is not installed; load: nothing is left "
        "of a run that is to go on, or the first five requests were all refused for the model; one line on standard "
        "error says which, or one for each mistake of a configuration"
    ),
    ExitStatus.INCONCLUSIVE: (
        "load, compare: not enough data for an objective or a gate; search: it did not come to an end; "
        "probe once: inconclusive: no budget, a key at its limit, or nothing that could be told; with several targets "
        "the worst of down, out of credit, inconclusive, degraded and up counts"
    ),
    ExitStatus.PAYMENT: "probe once: out of credit (402)",
    ExitStatus.DEFECT: "a defect of tensorix: please report it (TENSORIX_TRACEBACK=1 shows where)",
    ExitStatus.INTERRUPTED: (
        "interrupted (Ctrl-C, SIGTERM, a closed terminal), but for simulate; "
        "a run that had begun was ended in order and reported"
    ),
}
