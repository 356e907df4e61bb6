"""A server on loopback that keeps what Tensorix documents, and tells the truth of each request."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorix_simulator._simulator import Simulator

__all__ = ["Simulator"]


def __getattr__(name: str) -> Any:
    # Not before it is asked for: pytest loads the plugin of this package wherever it is installed.
    if name == "Simulator":
        from tensorix_simulator._simulator import Simulator

        return Simulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
