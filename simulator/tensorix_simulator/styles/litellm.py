"""As a LiteLLM gateway (1.106.2) answers that has OpenAI's API behind it: what was seen of one, not its code.

`tests/simulator/gateway/` holds a recording, and the command that makes it. What the gateway refuses itself and what
the provider behind it refused look different, and so do the replies of its own mocks: here those of models that are
named `…-mock`. All models are described, and priced, as the deployment in that recording is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorix_simulator.http.wire import Headers
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.styles.litellm_errors import error_of
from tensorix_simulator.styles.litellm_events import GatewayEvents
from tensorix_simulator.styles.litellm_headers import cost_of, headers_of
from tensorix_simulator.styles.litellm_reading import is_mock, read_body
from tensorix_simulator.styles.style import Context, Reading, Refusal

__all__ = ["LiteLLM"]

_LISTED_SINCE = 1_677_610_602


class LiteLLM:
    """The gateway's form. Paths and methods are looked at before the key, and `Basic KEY` is a key too."""

    schemes: tuple[str, ...] = ("bearer", "basic")
    server: str | None = None
    routes_first = True

    def methods(self, page: str) -> tuple[str, ...]:
        """What a page below the prefix takes; nothing where there is none."""
        if page == "/chat/completions":
            return ("POST",)
        return ("GET",) if page == "/models" or page.startswith("/models/") else ()

    def read(self, body: bytes, settings: SimulatorSettings) -> Reading:
        """The body of a chat completion, in the order in which the gateway looks at it."""
        return read_body(body, settings)

    def headers(self, context: Context) -> Headers:
        """The gateway's."""
        return headers_of(context)

    def refusal(self, refusal: Refusal, context: Context) -> tuple[bytes, Headers]:
        """The gateway's own error, or the provider's as it wraps it."""
        return error_of(refusal, context)

    def models(self, names: tuple[str, ...]) -> dict[str, Any]:
        """OpenAI's list, with what the gateway knows of each model."""
        return {"data": [self.model(name) for name in names], "object": "list"}

    def model(self, name: str) -> dict[str, Any]:
        """One model."""
        return {
            "id": name,
            "object": "model",
            "created": _LISTED_SINCE,
            "owned_by": "openai",
            "mode": "chat",
            "max_input_tokens": 16_385,
            "max_output_tokens": 4_096,
        }

    def completion(
        self, *, identity: str, created: int, model: str, choices: list[dict[str, Any]], usage: dict[str, Any]
    ) -> dict[str, Any]:
        """OpenAI's body without its nulls; of a provider's reply it says which fields the provider had besides."""
        return {
            "id": identity,
            "created": created,
            "model": model,
            "object": "chat.completion",
            "choices": [_choice(choice, is_mock(model)) for choice in choices],
            "usage": usage,
        }

    def stream(
        self, *, identity: str, created: int, model: str, n: int, include_usage: bool, chunked: bool
    ) -> GatewayEvents:
        """OpenAI's chunks without their nulls."""
        return GatewayEvents(
            identity=identity, created=created, model=model, n=n, chunked=chunked, mock=is_mock(model), cost=cost_of
        )


def _choice(choice: Mapping[str, Any], mock: bool) -> dict[str, Any]:
    message = dict(choice["message"])
    kept: dict[str, Any] = {"finish_reason": choice["finish_reason"], "index": choice["index"], "message": message}
    if not mock:
        message["provider_specific_fields"] = {"refusal": None}
        kept["provider_specific_fields"] = {}
    return kept
