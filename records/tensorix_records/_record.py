"""One request as it was seen: a flat row of raw facts, None where unknown.

Nothing that can be computed is stored: windows, phases, ITL, goodput and rates come from these columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tensorix_records.outcome import Outcome, StreamOutcome

__all__ = ["Outcome", "RequestRecord", "Source", "StreamOutcome", "TokenSource"]

Source: TypeAlias = Literal["load", "probe", "trace", "experiment"]
TokenSource: TypeAlias = Literal["usage", "chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One attempt at a request: answered, refused, failed or cancelled.

    Names ending in `_ns` are nanoseconds. The `*_at_ns` columns are relative to `start_unix_ns` (negative for what
    came before: connection set-up, the intended time), all on one clock. `start` is read once the connection stands,
    immediately before the request is given to its socket; where no connection came about it is the instant at which
    the attempt was given up.
    """

    # identity
    run_id: str
    record_id: str
    """Unique within the run."""
    request_id: str
    """Sent as `x-request-id`."""
    logical_id: str | None = None
    """The same for all attempts of one logical call."""
    attempt: int = 1
    """1 for the first."""
    conversation_id: str | None = None
    turn: int | None = None
    source: Source = "load"
    process_id: str | None = None
    host: str | None = None
    location: str | None = None
    user_class: str | None = None
    user_id: int | None = None
    trace_id: str | None = None
    span_id: str | None = None

    # plan
    step_id: int | None = None
    scenario: str | None = None
    schedule_index: int | None = None
    key_alias: str | None = None
    endpoint: str
    """`/chat/completions` or `/models`."""
    method: str = "POST"
    model_requested: str | None = None
    stream: bool | None = None
    """None where streaming has no meaning (`/models`)."""
    max_tokens: int | None = None
    n: int | None = None
    prompt_id: str | None = None
    prompt_chars: int | None = None
    prompt_tokens_planned: int | None = None
    """About how many tokens its text is, as its source says: an estimate, in words of one token or by bytes."""
    request_bytes: int | None = None

    # time
    start_unix_ns: int
    intended_at_ns: int | None = None
    """When the schedule wanted it sent; None in a closed loop."""
    user_ready_at_ns: int | None = None
    """When there was a user free to send it."""
    held_ns: int | None = None
    """How long the caps and the pace that were asked for held it back, before its connection."""
    connect_start_at_ns: int | None = None
    """None, as are the next three, where the connection was reused."""
    dns_done_at_ns: int | None = None
    tcp_done_at_ns: int | None = None
    tls_done_at_ns: int | None = None
    request_sent_at_ns: int | None = None
    """The socket had taken the whole request."""
    headers_at_ns: int | None = None
    """The empty line that ends the headers had arrived."""
    first_chunk_at_ns: int | None = None
    """The first event of the stream that has data, also one with only a role."""
    first_token_at_ns: int | None = None
    """The first chunk with something generated, reasoning included."""
    first_output_at_ns: int | None = None
    """The first chunk with something generated that is not reasoning."""
    last_token_at_ns: int | None = None
    end_at_ns: int | None = None
    """The last byte, or the instant at which the request failed."""
    connection_reused: bool | None = None
    stamp_source: Literal["kernel", "user"] | None = None
    """Whose clock reading the receive stamps are: the kernel's at arrival, or this program's when it got round."""

    # honesty
    lag_first_token_ns: int | None = None
    """How much later than the kernel this program saw the first token."""
    lag_max_ns: int | None = None
    chunks_in_first_read: int | None = None
    """Chunks in the read that brought the first token; above 1 the lag is understated."""
    max_chunks_in_a_read: int | None = None

    # stream
    chunks: int | None = None
    """SSE data events with something generated."""
    icl_max_ns: int | None = None
    """The largest gap between two chunks."""
    chunk_gaps_ns: list[int] | None = field(default=None)
    """Every gap, only on request."""
    done_seen: bool | None = None
    """`data: [DONE]` arrived."""
    response_bytes: int | None = None

    # result
    outcome: Outcome
    stream_outcome: StreamOutcome | None = None
    """How the stream ended; None where there was none."""
    status: int | None = None
    error_kind: str | None = None
    """A value of `tensorix_api.errors.ErrorKind`."""
    error_phase: str | None = None
    """A value of `tensorix_api.errors.Phase`."""
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    """Bounded and redacted."""
    response_id: str | None = None
    model_served: str | None = None
    finish_reason: str | None = None
    tool_calls: int | None = None

    # tokens
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    token_source: TokenSource | None = None
    """`usage` where the server said, `chunks` where the chunks were counted; figures never pool the two."""
    reserved_tokens: int | None = None
    cost: float | None = None
    """In the money of the prices given. By usage where `token_source` says so; else the most that it can be."""

    # limits, as read from the response's headers
    limit_requests: int | None = None
    limit_tokens: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    reset_requests_ns: int | None = None
    """From the response until the request budget is whole again."""
    reset_tokens_ns: int | None = None
    limit_spelling: str | None = None
    """Which family of header names was read (`tensorix_api.ratelimit_headers`)."""
    limit_anomaly: str | None = None
    """What was odd about them: negative, empty, not a number, twice with different values."""
    retry_after_ns: int | None = None
    ledger_remaining_requests: int | None = None
    """What our own count said was left when this request was sent."""
    ledger_remaining_tokens: int | None = None
