"""A model that the server does not have: known once the first answers all refuse it, and then no more are asked for."""

from __future__ import annotations

from tensorix_records import RequestRecord
from tensorix_records.one_request import is_chat

__all__ = ["ModelRefusals"]

_ENOUGH = 5
# A wrong name; a gateway that takes it for a wrong request.
_STATUSES = (404, 400)


class ModelRefusals:
    """Looks at the first answers to chat. One that is no refusal of the model ends the looking."""

    def __init__(self) -> None:
        self._seen = 0
        self._over = False

    def after(self, record: RequestRecord) -> str | None:
        """What to say once five were refused and nothing else was answered; None before, and ever after."""
        if self._over or not is_chat(record):
            return None
        if record.status not in _STATUSES or "model" not in (record.error_message or "").lower():
            # What was throttled or cut off says nothing of the model.
            self._over = record.outcome == "success" or record.status in _STATUSES
            return None
        self._seen += 1
        if self._seen < _ENOUGH:
            return None
        self._over = True
        return (
            f"the first {_ENOUGH} requests were all refused with {record.status}, for the model "
            f"{record.model_requested!r}: {record.error_message}"
        )
