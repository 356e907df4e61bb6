"""Drive traffic: Locust user classes, the client that stamps streams truly, and the engine that runs them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorix_loadtests._users import ChatUser, ModelListUser

__all__ = ["ChatUser", "ModelListUser"]


def __getattr__(name: str) -> Any:
    # Importing Locust patches the process, so only who asks for a user class gets it: a plan can be read without.
    if name in __all__:
        from tensorix_loadtests import _plugin, _users

        # A locustfile only imports the class; the run folder comes with it.
        _plugin.install()
        return getattr(_users, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
