"""The errors that are answered of the simulator's own accord, limits and faults apart."""

from __future__ import annotations

from tensorix_simulator.chat.parameters import BadParameter
from tensorix_simulator.styles.style import Refusal

__all__ = ["NO_CREDIT", "OVERLOADED", "UNAUTHORISED", "astray_refusal", "bad_request", "unreadable"]

UNAUTHORISED = Refusal(
    decision="unauthorised",
    status=401,
    message="Invalid API key provided",
    code="invalid_api_key",
)
NO_CREDIT = Refusal(
    decision="no_credit",
    status=402,
    message="Insufficient credits: top up your account.",
    code="insufficient_credits",
)
OVERLOADED = Refusal(
    decision="overloaded",
    status=503,
    message="The server is overloaded: try again later.",
    code="overloaded",
)


def astray_refusal(method: str, path: str, allowed: tuple[str, ...]) -> Refusal | None:
    """What to say to a path or method that there is not."""
    if not allowed:
        message = f"Invalid URL ({method} {path[:200]})"
        return Refusal(decision="not_found", status=404, message=message, code="not_found")
    if method in allowed:
        return None
    return Refusal(
        decision="not_allowed",
        status=405,
        message=f"Not allowed to {method} on {path[:200]}",
        code="method_not_allowed",
        headers=[("allow", ", ".join(allowed))],
    )


def bad_request(bad: BadParameter, model: str | None) -> Refusal:
    """What to say to a parameter that cannot be had."""
    return Refusal(decision="bad_request", status=400, message=bad.message, code=bad.code, param=bad.param, model=model)


def unreadable(problem: str, most: int) -> Refusal:
    """What to say to a request that is too large (`most` bytes are allowed), or no HTTP."""
    if problem == "too_large":
        message = f"The request body is larger than {most} bytes."
        return Refusal(decision="too_large", status=413, message=message, code="request_too_large")
    return Refusal(decision="malformed", status=400, message="The request is not valid HTTP.", code="invalid_http")
