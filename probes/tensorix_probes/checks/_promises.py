"""What a check looks at, by name, and what it collects while it looks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tensorix_api import Secret
from tensorix_api.secret import Redactor
from tensorix_probes.check import Finding
from tensorix_probes.exchange.answer import Answer
from tensorix_probes.result import Assertion, Spent, State
from tensorix_probes.settings import Target

__all__ = ["Judgement", "Promise"]

_SHOWN = 160
"""Characters of what a server sent that a detail repeats."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that a check looks at, under the name that its assertion has."""

    name: str
    meaning: str
    """What holds where it is kept."""
    otherwise: State = State.DEGRADED


@lru_cache(maxsize=256)
def _redactor(secrets: tuple[Secret, ...]) -> Redactor:
    return Redactor(*secrets)


class Judgement:
    """The assertions of one run. A name that its check did not declare is a defect, and raises KeyError."""

    def __init__(self, promises: Iterable[Promise], target: Target) -> None:
        self._promises = {promise.name: promise for promise in promises}
        self._target = target
        self._assertions: dict[str, Assertion] = {}
        self.inconclusive: str | None = None
        """Why nothing can be said."""

    def judge(self, name: str, held: bool | None, detail: str = "") -> bool:
        """Note whether a promise was kept (None: it could not be judged), and say whether it was not broken.

        The detail says what was expected and what came; it is dropped where the promise was kept. What is judged again,
        of another answer, counts as judged last.
        """
        promise = self._promises[name]
        self._assertions[name] = Assertion(name, held, None if held else detail or None, promise.otherwise)
        return held is not False

    def quote(self, value: Any, limit: int = _SHOWN) -> str:
        """What a server sent, for a detail: on one line, bounded, and without secrets. Not text: as JSON."""
        if value is None:
            return "nothing"
        if not isinstance(value, str):
            try:
                value = json.dumps(value, ensure_ascii=False)
            except RecursionError:
                value = "[nested too deeply]"
        secrets = tuple(one for one in (self._target.api_key, *self._target.extra_headers.values()) if one)
        return _redactor(secrets)(value, limit)

    def finding(
        self,
        answer: Answer | None = None,
        *,
        spent: Spent | None = None,
        figures: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Finding:
        """All of it."""
        return Finding(
            assertions=tuple(self._assertions.values()),
            answer=answer,
            inconclusive=self.inconclusive,
            spent=spent or Spent(),
            figures=figures or {},
            facts=facts or {},
        )
