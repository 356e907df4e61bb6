"""The arrivals of an open loop: how they are written, when they are due, what a trace says, and who takes which."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import Arrivals, LoadPlan, Replay, Stage, arrivals_of, read_rate, read_think_time
from tensorix_loadtests.schedules import Arrival, arrivals, survey
from tensorix_records import RequestRecord, Run

_SECOND = 10**9


def _plan(asked: Arrivals | None, **fields: Any) -> LoadPlan:
    return LoadPlan(base_url="http://127.0.0.1:9/v1", arrivals=asked, **fields)


def _due_s(asked: Arrivals | None, **fields: Any) -> list[float]:
    return [arrival.offset_ns / _SECOND for arrival in arrivals(_plan(asked, **fields))]


def _p_of_exponential(gaps: list[float]) -> float:
    """Kolmogorov-Smirnov against an exponential of mean 1 (Stephens, JASA 69, 1974)."""
    count = len(gaps)
    expected = [-math.expm1(-gap) for gap in sorted(gaps)]
    distance = max(max((n + 1) / count - share, share - n / count) for n, share in enumerate(expected))
    scaled = (math.sqrt(count) + 0.12 + 0.11 / math.sqrt(count)) * distance
    terms = [math.exp(-2 * (k * scaled) ** 2) * (1 if k % 2 else -1) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * sum(terms)))


@pytest.mark.parametrize(
    ("stage", "integral"),
    [
        (Stage(duration_s=10, rate=50), lambda at: 50 * at),
        (Stage(duration_s=10, rate=0, end_rate=100), lambda at: 5 * at**2),
        (Stage(duration_s=10, rate=100, end_rate=0), lambda at: 100 * at - 5 * at**2),
    ],
)
def test_poisson_gaps_are_exponential(stage: Stage, integral: Callable[[float], float]) -> None:
    """Over 100 seeds the gaps, in the time of the rate's integral, pass a KS test at p > 0.01 in at least 97."""
    passed = 0
    for seed in range(100):
        times = [integral(at) for at in _due_s(Arrivals(stages=(stage,), seed=seed))]
        passed += _p_of_exponential([after - before for before, after in itertools.pairwise([0.0, *times])]) > 0.01
    assert passed >= 97


def test_even_gaps_come_when_they_must() -> None:
    """Constant gaps at 5/s for 2 s are ten, from 0 on; on a ramp the n-th is where the rate's integral is n."""
    assert _due_s(arrivals_of(rate="5/s", duration_s=2, gaps="constant")) == pytest.approx([n / 5 for n in range(10)])
    ramp = _due_s(arrivals_of(ramp="0:40", duration_s=3, gaps="constant"))
    assert ramp == pytest.approx([math.sqrt(n / (40 / 6)) for n in range(60)], abs=1e-8)


def test_gamma_gaps_vary_as_much_as_asked() -> None:
    """At a variation of 3 the gaps' deviation is three times their mean, which stays that of the rate."""
    due = _due_s(Arrivals(stages=(Stage(duration_s=2000, rate=10),), gaps="gamma", variation=3.0, seed=4))
    gaps = [after - before for before, after in itertools.pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(0.1, rel=0.05)
    assert deviation / mean == pytest.approx(3, rel=0.05)


def test_stages_follow_each_other() -> None:
    """Steps and a spike keep their rates and say which stage each arrival is of; a stage without a rate sends none."""
    asked = arrivals_of(steps="10,0,20 x 2s", gaps="constant")
    steps = [(arrival.step_id, arrival.offset_ns // (2 * _SECOND)) for arrival in arrivals(_plan(asked))]
    assert steps == [(0, 0)] * 20 + [(2, 2)] * 40
    spike = _due_s(arrivals_of(spike="2:20:1s", duration_s=5, gaps="constant"))
    assert [sum(second <= at < second + 1 for at in spike) for second in range(5)] == [2, 2, 20, 2, 2]


def test_the_shares_are_the_whole() -> None:
    """What n processes take between them, of a resumed run too, is each arrival once and of the same kind and time."""
    asked = Arrivals(stages=(Stage(duration_s=20, rate=20),), seed=7)
    plan = _plan(asked, mix={"chat-streamed": 3.0, "models": 1.0}, requests=300)
    whole = list(arrivals(plan))
    assert [arrival.index for arrival in whole] == list(range(300))
    assert 0.15 < sum(arrival.kind == "models" for arrival in whole) / 300 < 0.35
    parts = [list(arrivals(plan, share=(worker, 3))) for worker in range(3)]
    assert sorted(itertools.chain(*parts), key=lambda arrival: arrival.index) == whole
    later = [list(arrivals(plan, share=(worker, 2), first_index=100, without={101, 104})) for worker in range(2)]
    rest = sorted(itertools.chain(*later), key=lambda arrival: arrival.index)
    assert [arrival.index for arrival in rest] == [100, 102, 103, *range(105, 300)]
    shift = whole[99].offset_ns
    assert all(arrival.offset_ns == whole[arrival.index].offset_ns - shift for arrival in rest)
    assert max(_due_s(asked, duration_s=5.0)) < 5


def _mooncake(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_mooncakes_trace(tmp_path: Path) -> None:
    """Its times (ms), lengths and hashes are kept, neighbours out of order put right, and twice the speed halves it."""
    line = {"input_length": 6755, "output_length": 500, "hash_ids": [0, 1, 2]}
    lines = [line | {"timestamp": at} for at in (27, 3027, 2027, 6027)]
    path = _mooncake(tmp_path / "trace.jsonl", *lines)
    asked = arrivals_of(replay=str(path), speed=2.0)
    found = list(arrivals(_plan(asked)))
    assert [arrival.offset_ns // 10**6 for arrival in found] == [0, 1000, 1500, 3000]
    assert found[0] == Arrival(0, 0, "chat-streamed", None, 6755, 500, (0, 1, 2))
    seen = survey(_plan(asked))
    assert (seen.requests, seen.prompt_tokens, seen.answer_tokens, seen.most_tokens) == (4, 4 * 6755, 2000, 7255)


@pytest.mark.parametrize(
    "times",
    [
        ("2023-11-16 18:15:46.6805900", "2023-11-16 18:15:50.9951690"),
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:04.324509+00:00"),
    ],
)
def test_azures_traces(tmp_path: Path, times: tuple[str, str]) -> None:
    """The CSV of 2023, with seven decimals, and that of 2024, with a zone, are read alike."""
    rows = "\r\n".join(
        f"{time},{context},{generated}" for time, context, generated in zip(times, (374, 9), (44, 0), strict=True)
    )
    path = tmp_path / "trace.csv"
    path.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\r\n{rows}\r\n", encoding="utf-8")
    first, second = arrivals(_plan(Arrivals(replay=Replay(path=str(path)))))
    assert (first.prompt_tokens, first.answer_tokens) == (374, 44)
    assert (second.offset_ns, second.prompt_tokens, second.answer_tokens) == (4_314_579_000, 9, 0)


def test_a_run_is_sent_again(tmp_path: Path) -> None:
    """Its requests come when they were due, or sent in a closed loop, by kind; retries and the preflight do not.

    One that went out twice on its own, since its idle connection was closed under it, has one record: it comes too.
    """
    run = Run.create(tmp_path / "run", {"run_id": "r"})
    rows: list[dict[str, Any]] = [
        {"start_unix_ns": 1_000, "endpoint": "/models", "scenario": "preflight"},
        {"start_unix_ns": 9_000, "stream": True, "intended_at_ns": -4_000, "prompt_tokens": 7, "completion_tokens": 3},
        {"start_unix_ns": 7_000, "stream": False, "logical_id": "a", "attempt": 1},
        {"start_unix_ns": 9_500, "stream": False, "logical_id": "a", "attempt": 2},
        {"start_unix_ns": 7_500, "stream": True, "attempt": 2},
        {"start_unix_ns": 8_000, "endpoint": "/models"},
    ]
    writer = run.writer("p")
    for number, row in enumerate(rows):
        columns: dict[str, Any] = {
            "run_id": "r",
            "record_id": str(number),
            "request_id": "q",
            "endpoint": "/chat/completions",
            "outcome": "success",
        }
        columns |= row
        writer.add(RequestRecord(**columns))
    writer.close()
    found = list(arrivals(_plan(arrivals_of(replay=str(run.path)))))
    assert [(one.offset_ns, one.kind) for one in found] == [
        (0, "chat-streamed"),
        (2_000, "chat-unstreamed"),
        (2_500, "chat-streamed"),
        (3_000, "models"),
    ]
    assert (found[0].prompt_tokens, found[0].answer_tokens) == (7, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"timestamp": 0, "input_length": 5, "output_length": 1}\n{"timestamp": 1}\n', "line 2: input_length is None"),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1}\n{\n', "line 2: no JSON"),
        ('{"timestamp": "now", "input_length": 5, "output_length": 1}\n', "line 1: timestamp is 'now'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3\n", "line 2: 2 columns instead of 3"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,3,4\n", "line 2: TIMESTAMP is 'yesterday'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,3,x\n", "line 2: invalid literal"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        ("hello\n", "is no trace"),
    ],
)
def test_a_wrong_trace_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong with a trace is said in one line, with its file and the line in it."""
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        survey(_plan(arrivals_of(replay=str(path))))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_trace_far_out_of_order_is_refused(tmp_path: Path) -> None:
    """A line that is earlier than one a thousand lines before cannot be put right on the way."""
    lines = [{"timestamp": at, "input_length": 1, "output_length": 1} for at in (*range(10, 2000), 0)]
    path = _mooncake(tmp_path / "trace.jsonl", *lines)
    with pytest.raises(SettingsError, match="line 1991: earlier"):
        survey(_plan(arrivals_of(replay=str(path))))


@pytest.mark.parametrize(
    "given",
    [
        {"rate": "fast", "duration_s": 1},
        {"rate": "5/fortnight", "duration_s": 1},
        {"rate": "0", "duration_s": 1},
        {"rate": "5"},
        {"rate": "5", "ramp": "1:2", "duration_s": 1},
        {"rate": "5", "duration_s": 1, "gaps": "gamma"},
        {"rate": "5", "duration_s": 1, "gaps": "even"},
        {"rate": "5", "duration_s": 1, "speed": 2.0},
        {"steps": "1,2,5"},
        {"steps": "1,,5 x 3s"},
        {"steps": "1 x soon"},
        {"ramp": "1", "duration_s": 1},
        {"ramp": "1:2"},
        {"spike": "1:2", "duration_s": 1},
        {"spike": "1:2:3s", "duration_s": 3},
        {"replay": "x", "gaps": "poisson"},
        {"gaps": "poisson"},
    ],
)
def test_what_cannot_be_read_is_refused(given: dict[str, Any]) -> None:
    """Each form that is not one is refused in one line."""
    with pytest.raises(SettingsError) as caught:
        arrivals_of(**given)
    assert "\n" not in str(caught.value)


def test_the_forms_of_rates_and_pauses() -> None:
    """Rates by the second, minute and hour; pauses that are always the same, exponential or uniform."""
    assert [read_rate(text) for text in ("5", "5/s", "300/min", "1800/h", ".5")] == [5, 5, 5, 0.5, 0.5]
    pauses = [read_think_time(text) for text in ("2s", "exponential:500ms", "uniform:1.5")]
    assert [(pause.kind, pause.mean_s) for pause in pauses] == [("constant", 2), ("exponential", 0.5), ("uniform", 1.5)]
    assert arrivals_of(duration_s=5) is None


def test_a_number_of_requests_bounds_a_rate() -> None:
    """Without a duration a rate lasts until the requests are there, whatever the seed."""
    for seed in range(30):
        requests = random.Random(seed).choice([1, 7, 300])
        asked = arrivals_of(rate="2", requests=requests, seed=seed)
        assert len(_due_s(asked, requests=requests)) == requests
