"""For `opentelemetry-instrument`: traces all clients of a program that knows nothing of it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from tensorix_api.errors import SettingsError
from tensorix_tracing import instrument, uninstrument

__all__ = ["TensorixInstrumentor"]

log = logging.getLogger("tensorix_tracing")

_SETTINGS = frozenset(inspect.signature(instrument).parameters) - {"client"}


class TensorixInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What the entry point `tensorix` of the group `opentelemetry_instrumentor` names.

    `instrument` takes the settings of `tensorix_tracing.instrument`, and those of OpenTelemetry's other instrumentors
    that are no settings here without a word. A mistake in them is logged, and nothing is traced.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: of openai, httpx and httpx2 it traces those that are there."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        try:
            instrument(**{name: value for name, value in kwargs.items() if name in _SETTINGS})
        except SettingsError as error:
            # Raised, it would take down the instrumentation of everything else in the program.
            log.error("nothing is traced: %s", error)  # noqa: TRY400 - the one line says it all

    def _uninstrument(self, **kwargs: Any) -> None:
        uninstrument()
