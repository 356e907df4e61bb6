"""What the tests of the probes share: simulators that answer at once, and targets that point at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_probes.settings import Target
from tensorix_simulator import Simulator
from tensorix_simulator.settings import SimulatorSettings

QUICK: dict[str, Any] = {"ttft": "1ms", "between_tokens": "1ms"}


@pytest.fixture(scope="module")
def lasting() -> Iterator[Simulator]:
    """One that lasts for all tests of a module."""
    with Simulator(**QUICK) as simulator:
        yield simulator
        assert simulator.complaints() == ""


@pytest.fixture
def borrow(lasting: Simulator) -> Callable[..., Simulator]:
    """Gives the one that lasts settings of one's own, quick unless told otherwise, and forgets what came before."""

    def borrow_it(**settings: Any) -> Simulator:
        wanted = SimulatorSettings(**{**QUICK, **settings}).to_dict()
        lasting.change(**{name: value for name, value in wanted.items() if name != "format"})
        lasting.reset()
        return lasting

    return borrow_it


@pytest.fixture
def start() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators of one's own settings, quick unless told otherwise."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> Simulator:
            return stack.enter_context(Simulator(**{**QUICK, **settings}))

        yield start_one


@pytest.fixture
def target_at() -> Callable[..., Target]:
    """A target at an address (a simulator's `base_url`), with a key and the simulator's first model."""

    def make(base_url: str, **fields: Any) -> Target:
        known: dict[str, Any] = {
            "name": "here",
            "base_url": base_url,
            "api_key": Secret("sk-test-of-the-probes"),
            "model": "deepseek/deepseek-chat-v3.1",
        }
        return Target(**{**known, **fields})

    return make
