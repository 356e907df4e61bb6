"""Runs beside a baseline: exact figures, what chance may claim, gates, and what a server sent stays inert."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_records import RequestRecord
from tensorix_reports import compare, latency_report
from tensorix_reports.comparison import Compared, Comparison, write_comparison
from tensorix_reports.comparison._gates import read_gate

Runs = Callable[..., Path]
_COUNT = 400


@pytest.fixture(scope="module")
def run_of(make_run: Runs, request_at: Callable[..., RequestRecord]) -> Runs:
    """A run of independent latencies about 100 ms: `slower` times as slow; a share `failing` of its requests fails."""

    def make(seed: int, *, slower: float = 1.0, failing: float = 0.0, count: int = _COUNT, **columns: Any) -> Path:
        generator = np.random.default_rng(seed)
        asked = columns.pop("asked", None)
        first = (100e6 * slower * np.exp(0.3 * generator.normal(size=count))).astype(int).tolist()
        bad = generator.random(count) < failing
        failed = {"outcome": "failed", "status": 500, "error_kind": "server_error", "error_phase": "headers"}
        records = [
            request_at(
                number,
                number / 10,
                first_token_at_ns=at,
                first_output_at_ns=at,
                last_token_at_ns=at + 10**8,
                end_at_ns=at + 10**8 + 10**6,
                **(failed if bad[number] else {}),
                **columns,
            )
            for number, at in enumerate(first)
        ]
        return make_run(records, **({} if asked is None else {"asked": asked}))

    return make


def _figure(comparison: Comparison, quantity: str, statistic: str) -> Compared:
    return next(one for one in comparison.rows[0] if (one.quantity, one.statistic) == (quantity, statistic))


def test_figures_are_those_of_the_report(run_of: Runs) -> None:
    """Values and counts are the load report's own, difference and ratio are theirs."""
    first, second = run_of(1), run_of(2, slower=1.3)
    comparison = compare([first, second])
    for quantity, named in (("ttft", "TTFT"), ("ttfo", "TTFO"), ("e2e", "E2E"), ("itl", "ITL")):
        told = [
            next(row for row in latency_report(run).rows if row.quantity == named).figures for run in (first, second)
        ]
        for percent in (50.0, 90.0, 95.0):
            one = _figure(comparison, quantity, f"p{percent:g}")
            values = [figures[percent].value for figures in told]
            assert [one.baseline, one.value] == [pytest.approx((value or 0) * 1e6, rel=1e-9) for value in values]
            assert (one.baseline_count, one.count) == (_COUNT, _COUNT)
            assert one.value is not None
            assert one.baseline is not None
            assert one.difference == pytest.approx(one.value - one.baseline)
            assert one.ratio == pytest.approx(one.value / one.baseline)
    assert _figure(comparison, "ttft", "p99").note == "not enough data: fewer than 10 samples beyond it"


def test_a_change_is_shown_and_what_stayed_is_not(run_of: Runs) -> None:
    """TTFT 30 % longer is found, with the truth inside its interval; what was not changed shows no difference."""
    comparison = compare([run_of(1), run_of(2, slower=1.3)])
    one = _figure(comparison, "ttft", "p50")
    assert one.shown
    assert one.ratio_low is not None
    assert one.ratio_high is not None
    assert 1 < one.ratio_low < 1.3 < one.ratio_high
    assert not _figure(comparison, "error_rate", "share").shown
    assert not _figure(comparison, "sent", "a second").shown


def test_a_run_beside_itself_differs_in_nothing(run_of: Runs) -> None:
    """No difference and no warning."""
    run = run_of(1)
    comparison = compare([run, run])
    assert comparison.different(1) == []
    assert comparison.warnings == ((),)
    assert {one.difference for one in comparison.rows[0]} == {0.0}


def test_chance_alone_claims_little(run_of: Runs) -> None:
    """Of forty comparisons of a server with itself at most six name any difference: 5 % are meant to."""
    runs = [run_of(seed, failing=0.02, count=200) for seed in range(20)]
    claims = [
        bool(compare([runs[place], runs[(place + step) % 20]]).different(1)) for place in range(20) for step in (1, 7)
    ]
    assert sum(claims) <= 6


@pytest.mark.parametrize(
    ("gate", "rule", "standing"),
    [
        ("ttft_p50 +10%", "shown", "broken"),
        ("ttft_p50 +10ms", "shown", "broken"),
        ("ttft_p50 +60%", "shown", "met"),
        ("ttft_p50 +29%", "estimate", "broken"),
        ("ttft_p50 +10%", "certain", "broken"),
        ("ttft_p50 +29%", "certain", "unknown"),
        ("ttft_p50 -10%", "shown", "met"),
        ("ttft_p99.9 +10%", "shown", "unknown"),
        ("ttft_p93 +5%", "shown", "broken"),
        ("error_rate +5pp", "shown", "met"),
        ("error_rate +10%", "shown", "unknown"),
        ("successful -10%", "shown", "met"),
        ("goodput -5%", "shown", "unknown"),
    ],
)
def test_gates(run_of: Runs, gates_of: Callable[..., Comparison], gate: str, rule: str, standing: str) -> None:
    """Each gate, on TTFT that grew by a third, stands as its rule says."""
    assert gates_of(gate, rule).standing == standing


@pytest.fixture(scope="module")
def gates_of(run_of: Runs) -> Callable[..., Comparison]:
    """A comparison under one gate."""
    runs = [run_of(1), run_of(2, slower=1.33)]

    def make(gate: str, rule: Any) -> Comparison:
        return compare(runs, fail_if=[gate], rule=rule)

    return make


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft_p95+10%", "is not of the form"),
        ("ttft_p95 10%", "is not of the form"),
        ("ttft +10%", "lacks a statistic"),
        ("speed_p95 +10%", "known are"),
        ("ttft_max +10%", "has no interval"),
        ("ttft_p95 +1pp", "+10% or +50ms"),
        ("error_rate +5ms", "+1pp"),
        ("successful -5", "-2/s"),
        ("successful -5pp", "-2/s"),
    ],
)
def test_a_gate_that_cannot_be_read_says_how(text: str, said: str) -> None:
    """One line, which names what is allowed."""
    with pytest.raises(SettingsError, match=r"gate|objective") as error:
        read_gate(text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_else_differs_is_said(run_of: Runs) -> None:
    """The model and the length of the run differ, and tokens are counted in two ways."""
    comparison = compare(
        [run_of(1, asked={"model": "a"}), run_of(2, count=900, token_source="chunks", asked={"model": "b"})]
    )
    text = "\n".join(comparison.warnings[0])
    assert "asked.model differs: a in the baseline, b here" in text
    assert "the steady state lasts 40 s in the baseline and 90 s here" in text
    assert "counted by usage in the baseline and by chunks here" in text
    assert {one.note for one in comparison.rows[0] if one.quantity == "itl"} == {
        "only in the baseline",
        "only in this run",
    }


def test_few_or_no_requests_are_not_enough(make_run: Runs, run_of: Runs) -> None:
    """An empty run and one of five requests give no difference, and no error."""
    for other in (make_run(), run_of(3, count=5), run_of(4, failing=1.1)):
        comparison = compare([run_of(1), other], fail_if=["ttft_p50 +10%"])
        assert not _figure(comparison, "ttft", "p50").shown
        assert comparison.standing == "unknown"


def test_mistakes_are_named(run_of: Runs, tmp_path: Path) -> None:
    """One run is no comparison, and a folder that is no run is refused."""
    with pytest.raises(SettingsError, match="two runs or more"):
        compare([run_of(1)])
    with pytest.raises(RunFolderError):
        compare([run_of(1), tmp_path])


def test_what_a_server_sent_is_inert_in_every_file(run_of: Runs, tmp_path: Path) -> None:
    """A model's name with HTML, a formula, a table's bar and control characters does nothing in any of the files."""
    name = "=cmd|'/c calc'!A1</script><script>alert(1)</script>\x1b[31m\u202e`|"
    runs = [run_of(1, model_requested=name, asked={"model": name}), run_of(2, asked={"model": "b"})]
    written = write_comparison(compare(runs), tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    markdown = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown.replace("\\<script\\>", "")
    with (tmp_path / "out" / "compare.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)
    assert all(character.isprintable() for line in written.verdict for character in line)
    described = json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert described["format"] == 1
    assert len(described["runs"]) == 1


def test_what_is_read_first_has_most_of_what_chance_may_claim(run_of: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside one family of all figures, the intervals of p50 are narrower, those of p99 wider; no estimate moves."""
    runs = [run_of(1, count=1200), run_of(2, count=1200)]

    def widths(statistic: str) -> tuple[float, float]:
        one = _figure(compare(runs), "ttft", statistic)
        assert one.ratio is not None
        assert one.ratio_low is not None
        assert one.ratio_high is not None
        return one.ratio, float(np.log(one.ratio_high / one.ratio_low))

    parted = {statistic: widths(statistic) for statistic in ("p50", "p99")}
    monkeypatch.setattr(
        "tensorix_reports.comparison._draws.HEADLINES", ("p50", "p90", "p95", "p99", "mean", "share", "a second")
    )
    one_family = {statistic: widths(statistic) for statistic in ("p50", "p99")}
    assert {name: found[0] for name, found in parted.items()} == {name: found[0] for name, found in one_family.items()}
    assert parted["p50"][1] < one_family["p50"][1]
    assert parted["p99"][1] > one_family["p99"][1]
