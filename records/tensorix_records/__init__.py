"""What was seen: one record a request, the run folder, and the figures computed from them."""

from tensorix_records._record import RequestRecord
from tensorix_records._run import Run

__all__ = ["RequestRecord", "Run"]
