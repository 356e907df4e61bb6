"""What Tensorix promises: settings, secrets, errors, rate-limit headers, server-sent events, limiters, budgets, names."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorix_api.errors import TensorixError
    from tensorix_api.secret import Secret
    from tensorix_api.settings import Settings

__all__ = ["Secret", "Settings", "TensorixError"]

# A traced service imports single modules of this room; it is not to pay for what settings and secrets need.
_WHERE = {"Secret": "secret", "Settings": "settings", "TensorixError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
