"""Runs on disk: a row for every request that was made, where the rows lie, and what is computed from them."""

from tensorix_records._record import RequestRecord
from tensorix_records._run import Run

__all__ = ["RequestRecord", "Run"]
