"""Quantities of one record against those of tables."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tensorix_records import RequestRecord, Run
from tensorix_records.judging import quantity_of_each
from tensorix_records.objectives import QUANTITIES
from tensorix_records.one_request import quantity_of

NAMES = [name for name, quantity in QUANTITIES.items() if quantity.kind == "time"]


@pytest.mark.parametrize("seed", range(3))
def test_one_record_has_what_its_row_has(
    run: Run, random_record: Callable[[random.Random], RequestRecord], seed: int
) -> None:
    """200 records with anything in them, or nothing: each quantity is the same, and missing in the same ones."""
    rng = random.Random(seed)
    records = []
    for _ in range(200):
        record = random_record(rng)
        times: dict[str, Any] = {
            name: rng.choice([None, rng.randrange(-(10**9), 10**12)])
            for name in RequestRecord.__dataclass_fields__
            if name.endswith("_at_ns") or name == "held_ns"
        }
        counted = ("n", "completion_tokens", "reasoning_tokens")
        counts: dict[str, Any] = {name: rng.choice([None, 0, 1, 2, 30]) for name in counted}
        records.append(replace(record, **times, **counts))
    writer = run.writer("p1")
    for record in records:
        writer.add(record)
    writer.close()
    table = run.records()
    for name in NAMES:
        alone = [quantity_of(record, name) for record in records]
        of_table = quantity_of_each(table, name)
        assert np.allclose([np.nan if value is None else value for value in alone], of_table, equal_nan=True), name
