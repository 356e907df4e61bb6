"""What was seen: one record a request, the run folder, and the figures computed from them."""

from tensorix_records._record import RequestRecord

__all__ = ["RequestRecord"]
