"""What Tensorix promises: settings, secrets, errors, rate-limit headers, events, limiters, budgets, names."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorix_api.errors import TensorixError
    from tensorix_api.secret import Secret
    from tensorix_api.settings import Settings

__all__ = ["Secret", "Settings", "TensorixError"]


def __getattr__(name: str) -> Any:
    # When they are asked for: a traced service imports single modules of this room, and is not to pay for what settings
    # and secrets need.
    value: Any
    if name == "Secret":
        from tensorix_api.secret import Secret as value  # noqa: N813
    elif name == "Settings":
        from tensorix_api.settings import Settings as value  # noqa: N813
    elif name == "TensorixError":
        from tensorix_api.errors import TensorixError as value  # noqa: N813
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
