"""A run's objectives as JUnit's XML: a test case for each objective, and one for a brake that acted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from tensorix_api.errors import CannotWriteError
from tensorix_records import Run
from tensorix_records.judging import Judged, verdict

__all__ = ["write_junit"]


def write_junit(run: Run, path: Path) -> None:
    """Write the file, all or nothing. What is broken failed; where there is not enough data it is skipped.

    Raises CannotWriteError, and SettingsError for objectives that cannot be read.
    """
    found = verdict(run)
    suite = TestSuite(_printable(str(run.manifest.get("label") or "tensorix load")))
    suite.add_property("run", _printable(str(run.manifest.get("run_id"))))
    suite.add_property("end_reason", _printable(str(run.manifest.get("end_reason"))))
    if found.goodput and found.goodput.a_second.value is not None:
        suite.add_property("goodput", f"{found.goodput.a_second.value:.6g}/s")
    for one in found.judged:
        suite.add_testcase(_case(one, found.window.seconds))
    if run.manifest.get("end_reason") == "brake":
        words = next((event.get("words") for event in reversed(run.events()) if event.get("kind") == "stop"), None)
        suite.add_testcase(_braked(_printable(str(words or "a brake ended the run"))))
    document = JUnitXml("tensorix load")
    document.add_testsuite(suite)
    try:
        # Beside its place, then moved over it: a reader sees all of it, or all of the one before.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            trial = Path(file.name)
            try:
                document.write(file)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                trial.replace(path)
            except OSError:
                trial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CannotWriteError(f"{path} cannot be written ({error.strerror}): choose another with --junit") from None


def _braked(words: str) -> TestCase:
    """What ended the run before its time failed, whatever became of the objectives until then."""
    case = TestCase("the run was not ended by a brake", classname="brakes")
    failure = Failure(words, "brake")
    failure.text = words
    case.result = [failure]
    return case


def _case(one: Judged, seconds: float) -> TestCase:
    case = TestCase(_printable(one.objective.text), classname="objectives", time=seconds)
    if one.standing == "unknown":
        case.result = [Skipped(_printable(one.reason))]
    elif one.standing == "broken":
        failure = Failure(_printable(one.reason), "broken")
        failure.text = _printable(f"{one.objective.text}: {one.reason}")
        case.result = [failure]
    else:
        case.system_out = _printable(one.reason)
    return case


def _printable(text: str) -> str:
    """What XML can hold."""
    return "".join(character if character.isprintable() else " " for character in text)
