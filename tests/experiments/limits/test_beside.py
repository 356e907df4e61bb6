"""The questions beside the experiment, asked of a gateway that is known."""

from __future__ import annotations

from pathlib import Path

from tensorix_api.secret import Secret
from tensorix_api.settings import Settings
from tensorix_experiments.limits import Bounds, LimitsExperiment, run_limits
from tensorix_reports.limits import limits_report
from tensorix_simulator import Simulator


def test_a_gateway_is_asked_what_counts_and_whether_its_retry_after_is_true(tmp_path: Path) -> None:
    """A Retry-After that is always the window's length is true just after a window opened, and overstated later.

    A 400 counts there, and with it what the headers say agrees with the limiter.
    """
    with Simulator(
        rpm=30,
        tpm=100_000,
        window_s=6.0,
        limiter="fixed_window",
        style="litellm",
        headers="litellm",
        charging="reserve",
        count_bad_requests=True,
        reply_tokens="20",
        ttft="5ms",
        between_tokens="1ms",
    ) as gateway:
        asked = LimitsExperiment(
            settings=Settings(base_url=gateway.base_url, api_key=Secret("sk-beside"), model=gateway.settings.models[0]),
            bounds=Bounds(requests=200, seconds=90.0, tokens=20_000),
            window_s=6.0,
        )
        ended = run_limits(asked, tmp_path / "run")
    report = limits_report(tmp_path / "run")
    main = report.main
    assert ended.reason == "completed"
    assert main is not None
    beside = {one.question: one.answer for one in report.beside}
    assert beside["does a request that is refused for its parameters (400) count?"] == "yes"
    assert beside["does the list of models count?"] == "no"
    assert main.retry.too_late == 1
    assert main.retry.too_late_by_most_s is not None
    assert 2.0 < main.retry.too_late_by_most_s < 6.0
    [told] = [one for one in main.headers if one.present]
    assert told.equal >= told.compared - 1
