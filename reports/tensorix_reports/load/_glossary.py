"""What the report's words mean."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "TTFT",
        "Time to first token: from the request's first byte to the first chunk with something generated, "
        "reasoning included. A chunk with only a role is not a token. A reply that is not streamed has none.",
    ),
    ("TTFO", "Time to first output: the same to the first chunk that is not reasoning."),
    ("ITL", "Inter-token latency of a request: from its first to its last token, divided by one less than its tokens."),
    ("ICL", "Inter-chunk latency: the gaps between the chunks of a stream; a chunk can hold several tokens."),
    ("E2E", "From the request's first byte to the last byte of the response. Opening a connection is not in it."),
    (
        "p50, p95, …",
        "Percentiles by linear interpolation between samples. Below, the 95 % interval: how far "
        "the figure could lie elsewhere by chance.",
    ),
    (
        "usage, chunks",
        "Where the number of tokens is from: the server's own count, or counted chunks if it sent none. "
        "The two are never put together.",
    ),
    ("goodput", "Successful chat requests a second that each met every criterion given with --good."),
    ("throttled", "Refused with status 429. It is not a failure and not a success, and enters no latency."),
    (
        "window",
        "The stretch over which the limiter counts. Documented gateways of this kind open one with the first "
        "request after the last has run out.",
    ),
    ("passed, refused", "Responses with status 200, and with status 429."),
    (
        "bound by",
        "Which limit a window ran into, judged by what passed: all the requests allowed, or at least half of "
        "the tokens.",
    ),
    ("lag", "How much later than the kernel the load client itself saw the bytes."),
)
