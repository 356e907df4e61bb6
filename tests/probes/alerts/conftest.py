"""Rounds of probes as the series that Prometheus would have scraped, and promtool to say what the rules find."""

from __future__ import annotations

import subprocess
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tensorix_probes.alerts.rules import rules
from tensorix_probes.result import State


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What happened to a target. Times are seconds from the beginning."""

    rounds: Sequence[tuple[float, State]]
    """When each ended, in order."""
    until_s: float
    maintenance: tuple[float, float] = (0.0, 0.0)
    interval_s: float = 60.0
    scrape_s: float = 60.0
    objective: float = 0.995
    restarts: tuple[float, ...] = ()
    """When the exporter began anew, with all counters 0."""
    silent_from_s: float = float("inf")
    """When it was gone for good."""
    gauges: dict[str, Callable[[float], float | None]] = field(default_factory=dict)
    """Other series, by time."""
    beside: dict[str, Callable[[float], float]] = field(default_factory=dict)
    """Those of others, which go on when it is gone."""
    target: str = "here"

    def mutes(self, at_s: float) -> bool:
        """Whether a time falls into the maintenance."""
        return self.maintenance[0] <= at_s < self.maintenance[1]

    def counts(self, after_s: float, until_s: float, *states: State) -> int:
        """How many rounds outside the maintenance had one of some states, from after a time until another."""
        return sum(after_s < at <= until_s and state in states and not self.mutes(at) for at, state in self.rounds)

    def series(self) -> list[dict[str, str]]:
        """All of it as promtool takes it."""
        where = f'target="{self.target}",location=""'
        scrapes = [self.scrape_s * number for number in range(int(self.until_s / self.scrape_s) + 1)]
        wanted: dict[str, Callable[[float], float | None]] = {
            f"tensorix_probe_objective_ratio{{{where}}}": lambda _: self.objective,
            f"tensorix_probe_interval_seconds{{{where}}}": lambda _: self.interval_s,
            f"probe_last_run_timestamp_seconds{{{where}}}": self._last_run,
            f"probe_success{{{where}}}": self._success,
            **self.gauges,
        }
        for state in State:
            for maintenance in (True, False):
                labels = f'{where},state="{state}",maintenance="{str(maintenance).lower()}"'
                times = [at for at, seen in self.rounds if seen is state and self.mutes(at) is maintenance]
                wanted[f"tensorix_probe_rounds_total{{{labels}}}"] = self._counter(times)
        ours = {
            name: lambda at_s, value=value: value(at_s) if at_s < self.silent_from_s else None
            for name, value in wanted.items()
        }
        return [
            {"series": name, "values": self._values(scrapes, value)} for name, value in (ours | self.beside).items()
        ]

    def _counter(self, times: list[float]) -> Callable[[float], float]:
        def value(at_s: float) -> float:
            begun_s = max((one for one in self.restarts if one <= at_s), default=float("-inf"))
            return bisect_right(times, at_s) - bisect_right(times, begun_s)

        return value

    def _last(self, at_s: float) -> tuple[float, State] | None:
        index = bisect_right(self.rounds, at_s, key=lambda one: one[0])
        return self.rounds[index - 1] if index else None

    def _last_run(self, at_s: float) -> float | None:
        last = self._last(at_s)
        return last[0] if last else None

    def _success(self, at_s: float) -> float | None:
        last = self._last(at_s)
        return float(last[1] is not State.DOWN) if last and last[1].conclusive else None

    @staticmethod
    def _values(scrapes: list[float], value: Callable[[float], float | None]) -> str:
        found, before = [], False
        for at_s in scrapes:
            seen = value(at_s)
            found.append(f"{seen:.10g}" if seen is not None else "stale" if before else "_")
            before = seen is not None
        return " ".join(found)


@pytest.fixture(scope="session")
def scene() -> type[Scene]:
    """The class, for files that cannot import this one."""
    return Scene


@pytest.fixture(scope="session")
def every() -> Callable[..., list[tuple[float, State]]]:
    """Makes rounds: one each so many seconds, up but for those whose numbers are named."""

    def make(
        count: int, interval_s: float = 60.0, *, down: Iterable[int] = (), other: dict[int, State] | None = None
    ) -> list[tuple[float, State]]:
        failed, others = set(down), other or {}
        # Five seconds before a scrape, so that none falls upon one.
        return [
            ((number + 1) * interval_s - 5, State.DOWN if number in failed else others.get(number, State.UP))
            for number in range(count)
        ]

    return make


@pytest.fixture
def fires(tmp_path: Path) -> Callable[..., None]:
    """Has promtool run the rules over a scene, and holds that at some times just these alerts fire.

    `expected` is by time, names of alerts; `ever` is those that fire at any time at all. promtool asks the rules each
    `step_s`, whatever their group's own interval; groups in any order, so that one that reads what another records may
    be a step behind (and sees nothing where a step is more than five minutes). Given a list, it takes (scene, expected,
    ever) one after the other.
    """

    def judge(
        scenes: Scene | list[tuple[Scene, dict[float, set[str]], set[str] | None]],
        expected: dict[float, set[str]] | None = None,
        *,
        ever: set[str] | None = None,
        step_s: float = 60.0,
        scale: float = 1.0,
        only: str = ".*",
    ) -> None:
        (tmp_path / "rules.yml").write_text(rules(scale))
        if isinstance(scenes, Scene):
            scenes = [(scenes, expected or {}, ever)]
        test = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": f"{step_s * 1000:.0f}ms",
            "tests": [
                {
                    "interval": f"{scene.scrape_s * 1000:.0f}ms",
                    "input_series": scene.series(),
                    "promql_expr_test": list(_asked(scene.until_s, expected, ever, only)),
                }
                for scene, expected, ever in scenes
            ],
        }
        (tmp_path / "test.yml").write_text(yaml.safe_dump(test, width=1_000_000))
        ran = subprocess.run(
            ["promtool", "test", "rules", "test.yml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]

    return judge


def _asked(
    until_s: float, expected: dict[float, set[str]], ever: set[str] | None, only: str
) -> Iterator[dict[str, object]]:
    firing = f'ALERTS{{alertstate="firing",alertname=~"{only}"}}'
    queries = [(f"group by (alertname) ({firing})", at_s, names) for at_s, names in expected.items()]
    if ever is not None:
        queries.append((f"group by (alertname) (last_over_time({firing}[{until_s * 1000:.0f}ms]))", until_s, ever))
    for query, at_s, names in queries:
        yield {
            "expr": query,
            "eval_time": f"{at_s * 1000:.0f}ms",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
        }
