"""The quantities of a single record, as `tensorix_records.timings` has them of tables: to look on while a run goes."""

from __future__ import annotations

from tensorix_records._record import RequestRecord

__all__ = ["is_chat", "quantity_of"]


def is_chat(record: RequestRecord) -> bool:
    """Whether it asked a model, and not for the list of them."""
    return not record.endpoint.endswith("/models")


def _itl(record: RequestRecord) -> float | None:
    tokens, first, last = record.completion_tokens, record.first_token_at_ns, record.last_token_at_ns
    if (
        record.stream is not True
        or tokens is None
        or tokens < 2
        or first is None
        or last is None
        or (record.n or 0) > 1
    ):
        return None
    output = record.first_output_at_ns
    if (record.reasoning_tokens or 0) > 0 and output is not None and output <= first:
        return None
    return (last - first) / (tokens - 1)


def quantity_of(record: RequestRecord, name: str) -> float | None:
    """A time of `tensorix_records.objectives.QUANTITIES`, ns; None where the request has none."""
    intended, end = record.intended_at_ns, record.end_at_ns
    if name == "ttft":
        return record.first_token_at_ns if record.stream is True else None
    if name == "ttfo":
        return record.first_output_at_ns if record.stream is True else None
    if name == "itl":
        return _itl(record)
    if name == "e2e" or intended is None:
        return end if name == "e2e" else None
    if name == "from_intended":
        return None if end is None else end - intended
    if name == "schedule_delay":
        return -intended
    opened = [at for at in (record.dns_done_at_ns, record.tcp_done_at_ns, record.tls_done_at_ns) if at is not None]
    connecting = max(opened) - record.connect_start_at_ns if opened and record.connect_start_at_ns is not None else 0
    ready = intended if record.user_ready_at_ns is None else max(record.user_ready_at_ns, intended)
    return -ready - (record.held_ns or 0) - connecting
