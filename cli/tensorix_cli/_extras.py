"""Which extra brings what: so that a command whose parts are missing says what to install."""

from __future__ import annotations

from importlib.util import find_spec

from tensorix_api.errors import TensorixError

__all__ = ["NEEDS", "MissingExtraError", "extra_of", "how_to_install", "require"]

NEEDS = {
    "cli": ("typer", "rich"),
    "records": ("numpy", "pyarrow"),
    "simulator": ("httptools", "jsonschema", "re2", "rstr"),
    "loadtests": ("gevent", "httptools", "locust", "numpy", "psutil", "pyarrow"),
    "history": ("alembic", "sqlalchemy"),
    "probes": (
        "flask",
        "httpcore",
        "httpx",
        "jinja2",
        "junitparser",
        "prometheus_client",
        "pydantic",
        "stamina",
        "waitress",
    ),
    "reports": ("altair", "jinja2", "junitparser", "numpy", "pandas", "pyarrow", "vl_convert"),
}
"""The modules of each extra without which its room does not work (uvloop only makes the simulator faster)."""


class MissingExtraError(TensorixError):
    """A part that a command needs is not installed."""

    def __init__(self, extras: tuple[str, ...], modules: tuple[str, ...]) -> None:
        super().__init__(f"{', '.join(modules)} not installed, which this command needs: {how_to_install(*extras)}")


def how_to_install(*extras: str) -> str:
    """The command that brings these extras, in an installation and in a clone."""
    names = ",".join(extras)
    return f"pip install 'tensorix-toolkit[{names}]', or in a clone pip install '.[{names}]'"


def _is_there(module: str) -> bool:
    """Whether a module can be imported, found out without importing it: Locust would patch this process."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a module blocked with `sys.modules[name] = None` is a ValueError
        return False


def require(*extras: str) -> None:
    """Raise MissingExtraError unless everything that these extras bring is installed."""
    missing = {extra: [module for module in NEEDS[extra] if not _is_there(module)] for extra in extras}
    modules = dict.fromkeys(module for names in missing.values() for module in names)
    if modules:
        raise MissingExtraError(tuple(extra for extra in extras if missing[extra]), tuple(modules))


def extra_of(module: str) -> str | None:
    """The extra that brings a module, by its first name; None for a module of no extra."""
    first = module.partition(".")[0]
    return next((extra for extra, modules in NEEDS.items() if first in modules), None)
