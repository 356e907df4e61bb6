"""The names of spans' and metrics' attributes, as the tracing writes them and the reports read them back.

`gen_ai.*` are OpenTelemetry's semantic conventions for generative AI (semantic-conventions-genai 0.1.0, all of them in
development); `error.*`, `server.*` and `http.*` its general ones, which are stable. `tensorix.*` are ours. They stand
here as strings, since the constants that OpenTelemetry's Python packages ship for them are marked deprecated.
"""

from __future__ import annotations

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from the call to the first event that holds a chunk."""
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a name, no password
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - a name, no password
"""`unknown`: the contract's usage does not tell texts from images."""
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
HTTP_STATUS: Final = "http.response.status_code"

REMAINING: Final = {
    "requests": "tensorix.ratelimit.remaining_requests",
    "tokens": "tensorix.ratelimit.remaining_tokens",
}
LIMIT: Final = {"requests": "tensorix.ratelimit.limit_requests", "tokens": "tensorix.ratelimit.limit_tokens"}
RETRY_AFTER: Final = "tensorix.retry_after"
"""Seconds that the server asked to wait."""
TIME_TO_FIRST_TOKEN: Final = "tensorix.time_to_first_token"  # noqa: S105 - a name, no password
"""Seconds from the call to the first event with anything generated, reasoning included."""
TIME_TO_FIRST_OUTPUT: Final = "tensorix.time_to_first_output"
"""Seconds from the call to the first event with something generated that is not reasoning."""
TIME_TO_LAST_TOKEN: Final = "tensorix.time_to_last_token"  # noqa: S105 - a name, no password
"""Seconds from the call to the last event with anything generated."""
STREAM_OUTCOME: Final = "tensorix.stream.outcome"
STREAM_CHUNKS: Final = "tensorix.stream.chunks"
LARGEST_GAP: Final = "tensorix.stream.largest_gap"
"""Seconds, the longest between two chunks of a stream."""
ATTEMPTS: Final = "tensorix.attempts"
ERROR_CODE: Final = "tensorix.error.code"
CONTENT_LEFT_OUT: Final = "tensorix.content.left_out"
"""Of messages and tools that were to be captured, how many were too much."""
TOOL_CALLS: Final = "tensorix.tool_calls"
"""How many calls of tools the model asked for."""
KEY_ALIAS: Final = "tensorix.key.alias"
"""The name that the service gave to its key; never the key."""
RESOURCE: Final = "limit"
"""On the gauge of what remains: `requests` or `tokens`."""

REQUEST_PARAMETERS: Final = {
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "stop": "gen_ai.request.stop_sequences",
}
"""Fields of a chat request and the attributes that carry them."""

OUTCOMES: Final = (
    "completed",
    "closed_early",
    "abandoned",
    "cancelled",
    "cut",
    "error_event",
    "malformed",
    "timeout",
)
"""How a stream can end."""
