"""A model that the server does not have ends a run after a few refusals."""

from __future__ import annotations

from typing import Any

from tensorix_loadtests._model_refusals import ModelRefusals
from tensorix_records import RequestRecord


def _record(status: int, message: str | None = "The model 'no/such' does not exist", **columns: Any) -> RequestRecord:
    outcome: Any = "success" if status == 200 else "throttled" if status == 429 else "failed"
    asked: dict[str, Any] = {"endpoint": "/chat/completions", "stream": True, "model_requested": "no/such"} | columns
    return RequestRecord(
        run_id="r",
        record_id="r",
        request_id="q",
        start_unix_ns=1,
        outcome=outcome,
        status=status,
        error_message=None if status == 200 else message,
        **asked,
    )


def test_five_refusals_of_the_model_are_enough() -> None:
    """The fifth says it, once; what was throttled in between and the lists of models do not count."""
    refusals = ModelRefusals()
    others = [_record(429), _record(200, endpoint="/models")]
    said = [refusals.after(one) for one in [_record(404), *others, *[_record(400)] * 3, _record(404), _record(404)]]
    assert said[:6] == [None] * 6
    assert "'no/such'" in (said[6] or "")
    assert said[7] is None


def test_one_answer_of_another_kind_is_enough_to_go_on() -> None:
    """A success, or a refusal that is not about the model, ends the looking: a mix of models may have a wrong one."""
    for other in (_record(200), _record(400, "max_tokens is too large")):
        refusals = ModelRefusals()
        assert all(refusals.after(one) is None for one in [_record(404), other, *[_record(404)] * 9])
