"""Where the run folders go that commands make."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tensorix_api.errors import SettingsError

__all__ = ["fresh", "place_of"]


def place_of(out: Path) -> Path:
    """`out`, with the folders above it made where they are missing. Raises SettingsError where they cannot be."""
    try:
        str(out).encode()
    except UnicodeEncodeError:
        raise SettingsError("the name given with --out is not UTF-8: choose another") from None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{str(out.parent)!r} cannot be made ({reason}): give another place with --out") from None
    return out.absolute()


def fresh(prefix: str) -> Path:
    """The path of a run folder under `runs/`, named by the time, that is not there yet."""
    parent = Path("runs")
    name = f"{prefix}{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
    candidates = [parent / name, *(parent / f"{name}-{number}" for number in range(2, 100))]
    return next((path for path in candidates if not path.exists()), candidates[-1])
