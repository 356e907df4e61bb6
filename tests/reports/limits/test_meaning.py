"""What a limiter means: numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_reports.limiter import Fitted, Interval
from tensorix_reports.limits import meaning_of, read_traffic
from tensorix_reports.limits._traffic import refused_of

Fit = Callable[..., Fitted]


def test_the_documented_limit(fitted: Fit) -> None:
    """60 requests and 2,000,000 tokens a minute: one a second, 33,333 tokens, and six keys for five a second."""
    meaning = meaning_of(fitted(limit=60, window_s=60.0), token_limit=2_000_000, want_per_s=5.0)
    assert (meaning.rate_per_s, meaning.burst, meaning.whole_after_s) == (1.0, 60, 60.0)
    assert meaning.crossover_tokens == pytest.approx(33_333.3, abs=0.1)
    assert meaning.pace_s == pytest.approx(1 / 0.95)
    assert meaning.keys == 6
    assert meaning.load_options == "--limit-share 0.95 --rpm 60 --limit-window 60s --tpm 2000000"


def test_which_limit_binds_depends_on_what_is_charged(fitted: Fit) -> None:
    """Of 50,000 tokens a request, half of them the answer, the prompt alone stays below what the requests allow."""
    meaning = meaning_of(fitted(limit=60, window_s=60.0), token_limit=2_000_000, mean_tokens=50_000)
    mine = {one.charging: one for one in meaning.binding if one.mean_tokens == 50_000}
    assert {name: one.by for name, one in mine.items()} == {
        "actual": "tokens",
        "reserve": "tokens",
        "prompt": "requests",
    }
    assert mine["actual"].rate_per_s == pytest.approx(2 / 3)


def test_wished_traffic_that_tokens_bind_needs_more_keys(fitted: Fit) -> None:
    """One request a second of 66,667 tokens: a key lets half of that pass, 95 % of it are used, so three keys."""
    common: dict[str, Any] = {"token_limit": 2_000_000, "want_per_s": 1.0}
    assert meaning_of(fitted(limit=60, window_s=60.0), mean_tokens=66_667, **common).keys == 3
    assert meaning_of(fitted(limit=60, window_s=60.0), mean_tokens=1_000, **common).keys == 2


def test_a_bucket_is_whole_when_its_burst_is_back(fitted: Fit) -> None:
    """Ten a second with a burst of five: half a second; a counter of two windows takes two."""
    bucket = meaning_of(fitted("token_bucket", limit=600, window_s=60.0, burst=5.0))
    assert (bucket.rate_per_s, bucket.burst, bucket.whole_after_s) == (10.0, 5, 0.5)
    assert meaning_of(fitted("sliding_counter", limit=60, window_s=60.0, phase_s=0.0)).whole_after_s == 120.0


def test_a_second_limit_is_the_tighter_one(fitted: Fit) -> None:
    """Two a second below sixty a minute bound the burst, and not the rate."""
    meaning = meaning_of(fitted(limit=60, window_s=60.0), second=(2, 1.0))
    assert (meaning.rate_per_s, meaning.burst) == (1.0, 2)


@pytest.mark.parametrize(
    ("kind", "burst", "refused"),
    [("fixed_window", None, 20), ("sliding_log", None, 20), ("token_bucket", 1.0, 30)],
)
def test_a_plan_is_refused_what_the_limiter_refuses(
    fitted: Fit, tmp_path: Path, kind: Any, burst: float | None, refused: int
) -> None:
    """Twenty at once and twenty two windows later, of ten a window; a bucket of one lets ten of the forty pass.

    Those of the bucket: one at 0, one at 100 s, and none of the others, since all come at once.
    """
    path = tmp_path / "traffic.csv"
    late = [100.0 + place for place in range(20)] if burst else [100.0] * 20
    path.write_text("time,tokens\n" + "".join(f"{at},100\n" for at in [0.0] * 20 + late))
    found = refused_of(read_traffic(path), fitted(kind, limit=10, window_s=20.0, burst=burst))
    # A bucket of one, refilled in two seconds, lets every other of one a second pass: 1 + 10.
    assert found.refused == (29 if burst else refused)
    assert found.share == found.refused / 40


def test_a_plan_that_tokens_refuse_says_so(fitted: Fit, tmp_path: Path) -> None:
    """Three requests of 400 tokens, of 1,000 a window: the third is refused, for tokens."""
    path = tmp_path / "traffic.csv"
    path.write_text("0,400\n1,400\n2,400\n")
    found = refused_of(read_traffic(path), fitted(limit=10, window_s=20.0), token_limit=1_000)
    assert (found.refused, found.for_tokens) == (1, 1)


def test_a_plan_takes_dates_and_names_in_any_order(tmp_path: Path) -> None:
    """ISO 8601 in UTC where no zone is named; columns by their names; sorted by time."""
    path = tmp_path / "traffic.csv"
    path.write_text("Tokens,model,Timestamp\n7,a,1970-01-01T00:00:05\n,b,1970-01-01T00:00:01Z\n")
    assert [(one.at_s, one.tokens) for one in read_traffic(path)] == [(1.0, 0), (5.0, 7)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        ("when,what\n1,2\n", "no column of times"),
        ("time,tokens\n", "holds no request"),
        ("time,tokens\n1,2\nsoon,3\n", "line 3"),
        ("1,-5\n", "line 1"),
        ("1,many\n", "'many' is no number"),
        ("nan,1\n", "no column of times"),
        ("\x00", "traffic.csv"),
    ],
)
def test_a_plan_that_cannot_be_read_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong, and where."""
    path = tmp_path / "traffic.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said) as raised:
        read_traffic(path)
    assert len(str(raised.value).splitlines()) == 1


def test_a_plan_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A folder and a file of bytes, too."""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("nowhere", ".", "bytes"):
        with pytest.raises(SettingsError):
            read_traffic(tmp_path / name)


def test_what_is_not_known_exactly_is_said_by_its_less_generous_bound(fitted: Fit) -> None:
    """Of a window of two to four seconds the longest is kept to: whoever paces by it is refused under none of them."""
    unsure = replace(fitted(limit=12), window_s=Interval(3.0, 2.0, 4.0), limit=Interval(12.0, 11.0, 14.0))
    meaning = meaning_of(unsure)
    assert (meaning.rate_per_s, meaning.burst, meaning.whole_after_s) == (11 / 4, 11, 4.0)
    assert meaning.load_options == "--limit-share 0.95 --rpm 11 --limit-window 4s"
