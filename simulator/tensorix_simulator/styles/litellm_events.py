"""The chunks of a LiteLLM gateway's streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tensorix_simulator.http.wire import encode_json, frame, last_chunk
from tensorix_simulator.styles.tensorix import TOKEN_BYTES

__all__ = ["GatewayEvents"]


class GatewayEvents:
    """The events of one streamed completion. What is the same in every chunk is encoded once.

    Of several choices only the first has a role and a reason why it ended; a mock has its role in the first text.
    """

    __slots__ = ("_called", "_chunked", "_common", "_cost", "_mock", "_openings", "_unspoken")

    def __init__(
        self,
        *,
        identity: str,
        created: int,
        model: str,
        n: int,
        chunked: bool,
        mock: bool,
        cost: Callable[[Mapping[str, Any]], float],
    ) -> None:
        """`cost` gives the price of a usage in dollars."""
        common = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model}
        self._common = b"data: " + encode_json(common)[:-1]
        self._chunked = chunked
        self._mock = mock
        self._cost = cost
        self._called = False
        self._unspoken = mock
        self._openings = {
            reasoning: tuple(
                self._common
                + b',"choices":[{"index":%d,"delta":{"%s":"'
                % (index, b"reasoning_content" if reasoning else b"content")
                for index in range(n)
            )
            for reasoning in (False, True)
        }

    def _event(self, index: int, delta: bytes, rest: bytes = b"", more: bytes = b"") -> bytes:
        choice = b',"choices":[{"index":%d,"delta":%s%s}]' % (index, delta, rest)
        return frame(self._common + choice + more + b"}\n\n", self._chunked)

    def role(self, choice: int) -> bytes:
        """The first chunk, of the first choice."""
        return b"" if self._mock or choice else self._event(0, b'{"role":"assistant"}')

    def token(self, choice: int, token: int, reasoning: bool) -> bytes:
        """One token of one choice, by its index in the cycle of tokens."""
        if self._unspoken:
            self._unspoken = False
            field = b"reasoning_content" if reasoning else b"content"
            return self._event(choice, b'{"role":"assistant","%s":"%s"}' % (field, TOKEN_BYTES[token]))
        payload = self._openings[reasoning][choice] + TOKEN_BYTES[token] + b'"}}]}\n\n'
        return b"%x\r\n%s\r\n" % (len(payload), payload) if self._chunked else payload

    def delta(self, choice: int, delta: Mapping[str, Any]) -> bytes:
        """One token that is no word of the cycle."""
        if self._unspoken:
            self._unspoken = False
            delta = {"role": "assistant", **delta}
        if "tool_calls" in delta:
            self._called = True
            delta = {**delta, "tool_calls": [{**call, "type": "function"} for call in delta["tool_calls"]]}
        return self._event(choice, encode_json(delta))

    def finish(self, choice: int, reason: str) -> bytes:
        """The chunk that says why it ended, of the first choice."""
        return b"" if choice else self._event(0, b"{}", b',"finish_reason":' + encode_json(reason))

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The chunk that says what it has cost, in a choice that says nothing."""
        details = usage.get("completion_tokens_details", {})
        reasoning = details.get("reasoning_tokens", 0)
        told = {
            "completion_tokens": usage["completion_tokens"],
            "prompt_tokens": usage["prompt_tokens"],
            "total_tokens": usage["total_tokens"],
            "cost": self._cost(usage),
        }
        if not self._called:
            text = usage["completion_tokens"] - reasoning
            told["completion_tokens_details"] = {"reasoning_tokens": reasoning, "text_tokens": text}
        return self._event(0, b"{}", more=b',"usage":' + encode_json(told))

    def done(self) -> bytes:
        """`data: [DONE]` and the end of the body."""
        return frame(b"data: [DONE]\n\n", self._chunked) + last_chunk(self._chunked)
