"""The engine and who watches it, in this process: what happens when the watching fails."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import TracebackType

import pytest

from tensorix_api.errors import TensorixError
from tensorix_api.secret import Secret
from tensorix_cli import _load
from tensorix_cli._progress import Progress
from tensorix_cli._view import PlainView
from tensorix_loadtests.engine_process import Engine
from tensorix_loadtests.plan import LoadPlan
from tensorix_records import Run
from tensorix_simulator import Simulator

KEY = "sk-made-up-for-the-engine-5520"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that the test starts, in order; they are free to patch themselves."""
    started: list[Engine] = []

    class Kept(Engine):
        def __init__(self, plan: LoadPlan, out: Path, key: Secret | None, *, resume: bool = False) -> None:
            super().__init__(plan, out, key, resume=resume)
            started.append(self)

    monkeypatch.setattr(_load, "Engine", Kept)
    return started


def a_plan(simulator: Simulator) -> LoadPlan:
    """Longer than any test waits."""
    return LoadPlan(base_url=simulator.base_url, duration_s=300.0, max_tokens=5)


def test_a_view_that_fails_ends_the_run(
    engines: list[Engine],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody sees what is sent any more: the run is ended in order and reported before the failure is raised."""

    class Broken(PlainView):
        def draw(self, progress: Progress, now_ns: int) -> None:
            if progress.finished:
                raise ZeroDivisionError("a defect of the view")

    monkeypatch.setattr(_load, "view", Broken)
    with pytest.raises(ZeroDivisionError):
        _load.run_load(a_plan(simulator), tmp_path / "run", Secret(KEY))
    assert [engine.running() for engine in engines] == [False]
    assert Run.open(tmp_path / "run").manifest["end_reason"] == "interrupted"
    assert (tmp_path / "run" / "report" / "report.html").exists()
    said = capsys.readouterr()
    assert "Report: " in said.out
    assert "cannot be shown (ZeroDivisionError)" in said.err


def test_an_interrupt_while_the_engine_starts_reaches_it(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C in the moment in which the engine is made does not leave it running alone."""
    engines: list[Engine] = []

    class Interrupted(Engine):
        def __init__(self, plan: LoadPlan, out: Path, key: Secret | None, *, resume: bool = False) -> None:
            super().__init__(plan, out, key, resume=resume)
            engines.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_load, "Engine", Interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            _load.run_load(a_plan(simulator), tmp_path / "run", Secret(KEY))
        assert [engine.running() for engine in engines] == [False]
    finally:
        for engine in engines:
            if engine.running():
                for _ in range(3):
                    engine.stop()
                engine.wait(10)


def _locals_of(at: TracebackType | None) -> list[str]:
    values = []
    while at is not None:
        values += [repr(value) for value in at.tb_frame.f_locals.values()]
        at = at.tb_next
    return values


def test_an_engine_that_cannot_be_started_shows_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of ours in one line, and no frame of its traceback, nor of what led to it, holds the key."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    plan = LoadPlan(base_url="http://127.0.0.1:1/v1", requests=1)
    key = Secret("sk-made-up-for-the-frames-3307")
    with pytest.raises(TensorixError, match="cannot be started") as caught:
        Engine(plan, tmp_path / "run", key)
    assert "no-python" in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        # The first frame is this test, which knows the key.
        at = error.__traceback__
        for shown in _locals_of(at.tb_next if at is not None else None):
            assert key.reveal() not in shown
        error = error.__cause__ or error.__context__
