"""What `/metrics` shows: of several collectors, of which none can take the others with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

__all__ = ["Exported"]


class Exported(CollectorRegistry):
    """A registry that leaves out what cannot be had or written, and shows the rest. `tell` gets each once."""

    def __init__(self, collectors: Sequence[Collector], tell: Callable[[Exception], None]) -> None:
        super().__init__()
        self._of = tuple(collectors)
        self._tell = tell
        self._told: set[tuple[str, str]] = set()

    def collect(self) -> Iterator[Metric]:
        """All families, of each the samples that can be written."""
        for collector in self._of:
            try:
                families = list(collector.collect())
            except Exception as error:  # noqa: BLE001 - the others are shown all the same
                self._leave_out(type(collector).__name__, error)
                continue
            for family in families:
                family.samples = [sample for sample in family.samples if self._can_be_written(sample)]
                yield family

    def _can_be_written(self, sample: object) -> bool:
        name, labels, value = sample[0], sample[1], sample[2]  # type: ignore[index]
        try:
            float(value)
            "".join(labels.values()).encode()
        except Exception as error:  # noqa: BLE001 - a number beyond all floats, a text that is none
            self._leave_out(name, error)
            return False
        return True

    def _leave_out(self, what: str, error: Exception) -> None:
        which = what, type(error).__name__
        if which not in self._told:
            self._told.add(which)
            self._tell(error)
