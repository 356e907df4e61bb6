"""Objectives, criteria and brakes as people write them."""

from __future__ import annotations

import pytest

from tensorix_api.errors import SettingsError
from tensorix_records.objectives import read_brake, read_criterion, read_goals, read_objective


@pytest.mark.parametrize(
    ("text", "name", "statistic", "bound"),
    [
        ("ttft_p95 < 800ms", "ttft", 95.0, 800e6),
        ("itl_p50<50ms", "itl", 50.0, 50e6),
        ("e2e_p99.9 <= 1m30s", "e2e", 99.9, 90e9),
        ("e2e_max < 2s", "e2e", "max", 2e9),
        ("ttfo_mean < 1s", "ttfo", "mean", 1e9),
        ("from_intended_p95 < 3s", "from_intended", 95.0, 3e9),
        ("schedule_delay_p99 < 5ms", "schedule_delay", 99.0, 5e6),
        ("error_rate < 1%", "error_rate", None, 0.01),
        ("throttled_rate < .5 %", "throttled_rate", None, 0.005),
        ("error_rate <= 0.02", "error_rate", None, 0.02),
        ("goodput > 0.9/s", "goodput", None, 0.9),
        ("successful > 300/min", "successful", None, 5.0),
        ("output_tokens >= 500", "output_tokens", None, 500.0),
    ],
)
def test_an_objective_is_read_as_it_is_written(text: str, name: str, statistic: object, bound: float) -> None:
    """Name, statistic and bound in its unit, whatever the spaces."""
    read = read_objective(text)
    assert (read.name, read.statistic) == (name, statistic)
    assert read.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft p95 800ms", "not of the form"),
        ("ttft < 800ms", "ttft_p95"),
        ("ttft_p95 < 800", "800ms"),
        ("ttft_p95 < 5%", "800ms"),
        ("ttft_p0 < 1s", "p0"),
        ("latency_p95 < 1s", "known are ttft, ttfo"),
        ("error_rate < 1", "1% or 0.01"),
        ("error_rate < 120%", "1% or 0.01"),
        ("error_rate_p95 < 1%", "leave it out"),
        ("goodput > 5ms", "10/s"),
        ("", "not of the form"),
    ],
)
def test_a_wrong_objective_is_one_line_that_says_what_is_allowed(text: str, said: str) -> None:
    """Nothing is guessed; the message has the word that helps."""
    with pytest.raises(SettingsError, match=said) as caught:
        read_objective(text)
    assert "\n" not in str(caught.value)


def test_the_bound_itself_is_kept_only_where_it_is_included() -> None:
    """`<` leaves the bound out, `<=` takes it in; so do `>` and `>=`."""
    bounds = {"<": False, "<=": True, ">": False, ">=": True}
    assert {sign: read_objective(f"sent {sign} 5/s").holds(5.0) for sign in bounds} == bounds


def test_a_criterion_is_of_a_single_request() -> None:
    """Rates and percentiles are of a run, not of one request."""
    assert read_criterion("itl < 50ms").bound == 50e6
    for text in ("ttft_p95 < 1s", "error_rate < 1%"):
        with pytest.raises(SettingsError, match="of a single request there are ttft"):
            read_criterion(text)


def test_a_brake_says_for_how_long_and_over_what() -> None:
    """`for` is how long it has to be so, `over` the window of the figure: ten seconds unless it is said."""
    brake = read_brake("error_rate > 20% for 10s")
    assert (brake.for_s, brake.over_s) == (10.0, 10.0)
    brake = read_brake("ttft_p95 > 5s for 1m over 30s")
    assert (brake.for_s, brake.over_s) == (60.0, 30.0)
    assert read_brake("slo for 30s").when is None
    for text in ("error_rate > 20%", "slo for ever", "slo for 0s"):
        with pytest.raises(SettingsError):
            read_brake(text)


def test_goals_that_need_another_say_so() -> None:
    """Goodput needs criteria, and a brake on the objectives needs some."""
    with pytest.raises(SettingsError, match="--good"):
        read_goals(["goodput > 1/s"], [])
    with pytest.raises(SettingsError, match="--slo"):
        read_goals([], [], ["slo for 10s"])
    assert read_goals(["goodput > 1/s"], ["ttft < 1s"], ["slo for 10s"]).objectives[0].name == "goodput"
