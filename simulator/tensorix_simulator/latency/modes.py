"""The latency that the settings ask for: independent of the load, or a batch."""

from __future__ import annotations

from tensorix_simulator.chat.replies import Reply
from tensorix_simulator.distributions import Distribution
from tensorix_simulator.latency.batch import BatchModel
from tensorix_simulator.latency.batched import Batched
from tensorix_simulator.latency.independent import Independent
from tensorix_simulator.latency.pacing import Pacer
from tensorix_simulator.latency.timing import Ticket, Timing, TokenDue
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["Latency", "batch_model"]


def batch_model(settings: SimulatorSettings) -> BatchModel:
    """How long the steps are that these settings describe."""
    return BatchModel(
        step_ns=_time_ns(settings.step),
        step_per_sequence_ns=_time_ns(settings.step_per_sequence),
        prompt_tokens_per_s=settings.prompt_tokens_per_s,
        prompt_tokens_per_step=settings.prompt_tokens_per_step,
        noise=settings.step_noise,
    )


def _time_ns(text: str) -> float:
    value = Distribution.parse(text, "time").constant
    assert value is not None, "the settings' checks let only one time through"
    return value


class Latency:
    """Both modes; a reply stays in the one in which it began."""

    def __init__(self, pacer: Pacer, settings: SimulatorSettings) -> None:
        self._independent = Independent(pacer)
        self._batched = Batched(pacer)
        self._settings = settings
        self._batched.batch.seed(settings.seed)
        self.change(settings)

    def change(self, settings: SimulatorSettings) -> None:
        """From now on (a batch: from its next step on) other settings; who runs or waits already stays."""
        if settings.seed != self._settings.seed:
            self._batched.batch.seed(settings.seed)
        self._settings = settings
        self._timing: Timing = self._batched if settings.latency == "batch" else self._independent
        self._independent.bound(settings.slots, settings.queue)
        batch = self._batched.batch
        batch.model = batch_model(settings)
        batch.line.slots, batch.line.queue = settings.slots, settings.queue

    def forget(self) -> None:
        """Draw noise from here on as from the beginning."""
        self._batched.batch.seed(self._settings.seed)

    def begin(
        self, start_ns: int, prompt_tokens: int, reply: Reply, due: TokenDue, *, whole: bool, sequences: int = 1
    ) -> Ticket | None:
        """As `Timing.begin`, in the mode that is set now."""
        return self._timing.begin(start_ns, prompt_tokens, reply, due, whole=whole, sequences=sequences)
