"""Fixtures for the tests of whoever calls such an API; pytest finds them where the toolkit is installed.

`tensorix_simulator`          a simulator of the test's own, quick unless told otherwise by the mark of the same name
`tensorix_simulator_factory`  starts simulators of any settings, which end with the test

Nothing of the simulator is imported before a test asks for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tensorix_simulator import Simulator

_MARK = "tensorix_simulator"
# A test waits for answers, not for the times of a model.
_QUICK = {"ttft": "1ms", "between_tokens": "100us"}


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, so that suites with strict markers may use it."""
    config.addinivalue_line("markers", f"{_MARK}(**settings): what the test's simulator is started with, as rpm=5")


@pytest.fixture
def tensorix_simulator_factory() -> Iterator[Callable[..., Simulator]]:
    """Starts simulators: `factory(rpm=5, faults=["status 503, rate 5%"], tls="valid")`, as `Simulator` takes them."""
    from tensorix_simulator import Simulator

    with ExitStack() as stack:

        def start(*arguments: Any, **settings: Any) -> Simulator:
            return stack.enter_context(Simulator(*arguments, **(settings if arguments else {**_QUICK, **settings})))

        yield start


@pytest.fixture
def tensorix_simulator(
    request: pytest.FixtureRequest, tensorix_simulator_factory: Callable[..., Simulator]
) -> Simulator:
    """A simulator for this test: `tensorix_simulator.base_url` is where clients are sent, any key is valid.

    `@pytest.mark.tensorix_simulator(rpm=5)` says its settings; of several marks the nearest goes first.
    """
    settings: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(_MARK))):
        if mark.args:
            pytest.fail(f"the mark {_MARK} takes settings by name, as rpm=5", pytrace=False)
        settings |= mark.kwargs
    return tensorix_simulator_factory(**settings)
