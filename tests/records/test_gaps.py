from __future__ import annotations

from array import array

import numpy as np
import pytest

from tensorix_records import Run
from tensorix_records.gaps import GapCounter, bucket_middle_ns, bucket_of_gap, gap_percentile_ns

_HOUR_NS = 3_600_000_000_000


def test_a_bucket_is_within_a_percent_of_each_gap_in_it() -> None:
    """From a microsecond to hours the middle of the bucket is at most 1/128 off, at every scale and edge."""
    powers = 2 ** np.arange(10, 43, dtype=np.int64)
    random = np.exp(np.random.default_rng(1).uniform(np.log(1_000), np.log(3 * _HOUR_NS), 200_000)).astype(np.int64)
    gaps = np.concatenate([powers - 1, powers, powers + 1, random])
    gaps = gaps[gaps >= 1_000]
    error = np.abs(bucket_middle_ns(bucket_of_gap(gaps)) / gaps - 1)
    assert error.max() <= 1 / 128


def test_buckets_are_in_the_order_of_gaps() -> None:
    """A longer gap is never in an earlier bucket, and odd ones have a place too."""
    gaps = np.unique(np.exp(np.linspace(0, np.log(2.0**62), 50_000)).astype(np.int64))
    assert (np.diff(bucket_of_gap(gaps)) >= 0).all()
    low, zero, one, most = bucket_of_gap([-5, 0, 1, 2**63 - 1])
    assert low == zero == one == 0
    assert most == 63 * 64 - 1


def test_no_gap_is_lost_or_put_in_another_second(run: Run) -> None:
    """Counts a second and model equal those of a plain count, whatever the flushes between."""
    rng = np.random.default_rng(2)
    expected: dict[tuple[int, str | None], int] = {}
    writers = [run.writer("w1"), run.writer("w2")]
    for request in range(300):
        model = [None, "a", "b/c"][request % 3]
        stamps = 1_800_000_000_000_000_000 + np.cumsum(rng.integers(0, 300_000_000, rng.integers(0, 40)))
        for stamp in stamps[1:]:
            key = (int(stamp) // 10**9, model)
            expected[key] = expected.get(key, 0) + 1
        writers[request % 2].add_gaps(model, array("q", stamps.tolist()))
        if request % 50 == 0:
            writers[request % 2].flush()
    for writer in writers:
        writer.close()
    table = run.gap_counts()
    found: dict[tuple[int, str | None], int] = {}
    for row in table.to_pylist():
        found[row["second_unix"], row["model"]] = found.get((row["second_unix"], row["model"]), 0) + row["count"]
    assert found == expected
    keys = list(zip(*(table.column(name).to_pylist() for name in ("second_unix", "model", "bucket")), strict=True))
    assert len(set(keys)) == len(keys)


def test_a_counter_that_nobody_fetches_stays_small() -> None:
    """Between two fetches it holds counts rather than gaps."""
    counter = GapCounter()
    stamps = np.arange(0, 50_000 * 1_000_000, 1_000_000)
    for _ in range(40):
        counter.add("m", stamps)
    assert sum(keys.nbytes for waiting in counter._keys.values() for keys in waiting) < 4_000_000
    assert counter.take().column("count").to_numpy().sum() == 40 * 49_999
    assert counter.take() is None


@pytest.mark.parametrize("percent", [1, 25, 50, 90, 95, 99, 99.9])
def test_percentiles_from_counts_are_within_a_percent(percent: float) -> None:
    """A percentile from the histogram differs from that of the gaps themselves by at most its buckets' error."""
    gaps = np.random.default_rng(3).lognormal(np.log(2e7), 1, 20_001).astype(np.int64)
    buckets, counts = np.unique(bucket_of_gap(gaps), return_counts=True)
    order = np.random.default_rng(4).permutation(buckets.size)
    found = gap_percentile_ns(buckets[order], counts[order], percent)
    assert found == pytest.approx(np.percentile(gaps, percent), rel=1 / 128)


def test_a_percentile_of_nothing_is_none() -> None:
    """Where no gap was counted there is no figure."""
    assert gap_percentile_ns([], [], 50) is None
    assert gap_percentile_ns([3, 4], [0, 0], 50) is None
    assert gap_percentile_ns([640], [1], 99) == pytest.approx(1024, rel=0.01)
