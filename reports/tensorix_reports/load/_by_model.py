"""The requests by kind, and by model where a run asked several: like with like, in no more groups than can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tensorix_reports.frames import PREFLIGHT, Codes, Requests, kind_order, smallest

__all__ = ["MOST_MODELS", "Models", "groups_of"]

MOST_MODELS = 12
"""Where a run asked more, those with the fewest successes are one group."""
_UNKNOWN = "model unknown"


@dataclass(frozen=True, slots=True)
class Models:
    """The models that have groups of their own."""

    shown: frozenset[str]
    others: int = 0
    """How many have not."""

    @classmethod
    def of(cls, requests: Requests) -> Models:
        """Of some requests those with the most successes; where two have as many, by their names."""
        asked = _successes(requests).codes("model_requested")
        counts = np.bincount(asked.codes.astype(np.int64) + 1, minlength=len(asked.values) + 1)[1:]
        found = [code for code in np.argsort(-counts, kind="stable").tolist() if counts[code]]
        if len(found) <= MOST_MODELS:
            return cls(frozenset(str(asked.values[code]) for code in found))
        found.sort(key=lambda code: (-int(counts[code]), str(asked.values[code])))
        shown = frozenset(str(asked.values[code]) for code in found[: MOST_MODELS - 1])
        return cls(shown, len(found) - len(shown))

    def named(self, model: str | None) -> str:
        """What the group is called that a model is in."""
        if model is None:
            return _UNKNOWN
        return model if model in self.shown or not self.others else f"{self.others:,} other models"

    def place(self, name: str) -> tuple[bool, str]:
        """The order of the groups: by name, the others last."""
        return (self.others > 0 and name not in self.shown and name != _UNKNOWN, name)


def _successes(requests: Requests) -> Requests:
    return requests.of(requests.codes("outcome").equal("success") & ~requests.codes("kind").equal(PREFLIGHT))


def groups_of(requests: Requests, models: Models) -> Iterator[tuple[str, Requests]]:
    """Successes by kind, and by model where more than one was asked, each with its name."""
    good = _successes(requests)
    asked = good.codes("model_requested")
    several = len(set(np.unique(asked.codes[~good.codes("kind").equal("models")]).tolist()) - {-1}) > 1
    for kind, group in sorted(good.parts("kind"), key=lambda item: kind_order(str(item[0]))):
        if not several or kind == "models":
            yield str(kind), group
            continue
        asked = group.codes("model_requested")
        names = list(dict.fromkeys(models.named(model) for model in [*asked.values, None]))
        places = np.array([names.index(models.named(model)) for model in [*asked.values, None]])
        named = Codes(smallest(places, len(names))[asked.codes], names)
        parts = [(str(name), part) for name, part in group.parted(named)]
        yield from ((f"{kind}, {name}", part) for name, part in sorted(parts, key=lambda item: models.place(item[0])))
