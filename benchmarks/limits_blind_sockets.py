"""Blind trials over real sockets: the whole command's experiment and report against the simulator."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice, product
from pathlib import Path

from limits_blind_table import Result
from limits_blind_world import KINDS, Cell
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits import MOST_TOKENS, Bounds, LimitsExperiment, run_limits
from tensorix_experiments.limits._design import most
from tensorix_reports.limiter import Kind
from tensorix_reports.limits import Wished, limits_report
from tensorix_simulator import Simulator

__all__ = ["over_sockets"]

_WINDOW_S = 5.0
_LIMITS = (10, 60, 23, 150, 40)


def over_sockets(count: int) -> Iterator[Result]:
    """So many trials one after the other: the kinds in turn, without a header and with one."""
    ways: list[tuple[bool, Kind]] = list(product((False, True), KINDS))
    for number, (header, kind) in enumerate(islice(cycle(ways), count)):
        limit = _LIMITS[(number + number // len(KINDS)) % len(_LIMITS)]
        yield _one(
            Cell(
                kind=kind,
                limit=limit,
                window_s=_WINDOW_S,
                documented_window_s=_WINDOW_S,
                trip_s=0.02,
                header=header,
                seed=number,
            )
        )


def _one(cell: Cell) -> Result:
    requests, seconds = most(cell.documented_window_s)
    bounds = Bounds(requests=requests, seconds=seconds, tokens=requests * MOST_TOKENS)
    headers = "documented" if cell.header else "none"
    with (
        Simulator(
            rpm=cell.limit,
            tpm=None,
            window_s=cell.window_s,
            limiter=cell.kind,
            headers=headers,
            ttft="20ms",
            between_tokens="1ms",
        ) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        asked = LimitsExperiment(
            settings=Settings(base_url=server.base_url, api_key=Secret("sk-blind"), model=server.settings.models[0]),
            bounds=bounds,
            window_s=cell.documented_window_s,
            beside=False,
        )
        began_s = time.process_time()
        run = Path(folder) / "run"
        ended = run_limits(asked, run)
        report = limits_report(run, Wished(window_s=cell.documented_window_s))
        cpu_s = time.process_time() - began_s
    main = report.main
    best = main.best if main is not None else None
    return Result(
        cell=cell,
        verdict=main.fit.verdict if main is not None else "no limit reached",
        named=best.kind if best else None,
        probability=best.probability if best else 0.0,
        limit=best.limit.value if best else None,
        window_s=best.window_s.value if best else None,
        requests=ended.requests,
        windows=ended.seconds / cell.documented_window_s,
        kept=ended.requests <= requests and ended.seconds <= seconds and ended.reason == "completed",
        claims_foreign=main is not None and main.fit.foreign_per_s is not None,
        second=main.fit.second_limit if main is not None else None,
        cpu_s=cpu_s,
    )
