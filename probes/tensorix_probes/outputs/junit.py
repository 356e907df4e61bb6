"""What probes found as JUnit's XML, which continuous integration reads: a suite a target, a case a check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from tensorix_probes.outputs.replacing import replace_file
from tensorix_probes.result import ProbeResult, Round, State

__all__ = ["write_junit"]


def write_junit(rounds: Sequence[Round], path: Path) -> None:
    """Write the file, all or nothing. Raises OSError.

    What is inconclusive is skipped, with its reason; what is degraded, down or out of credit failed, with the
    assertions that did not hold.
    """
    document = JUnitXml("tensorix probe")
    for one in rounds:
        suite = TestSuite(_printable(one.target))
        suite.add_property("state", one.state)
        if one.location:
            suite.add_property("location", one.location)
        for result in one.results:
            suite.add_testcase(_case(result))
        if not one.results:
            case = TestCase("round", classname=_printable(one.target), time=one.duration_ns / 1e9)
            case.result = [Skipped(_printable(one.reason or str(one.state)))]
            suite.add_testcase(case)
        document.add_testsuite(suite)
    with replace_file(path) as file:
        document.write(file)


def _case(result: ProbeResult) -> TestCase:
    case = TestCase(result.check, classname=_printable(result.target), time=result.duration_ns / 1e9)
    reason = _printable(result.reason or str(result.state))
    if result.state is State.INCONCLUSIVE:
        case.result = [Skipped(reason)]
    elif result.state is not State.UP:
        failure = Failure(reason, str(result.state))
        failure.text = "\n".join(_printable(f"{one.name}: {one.detail or 'does not hold'}") for one in result.failed)
        case.result = [failure]
    return case


def _printable(text: str) -> str:
    """What XML can hold."""
    return "".join(character if character.isprintable() else " " for character in text)
