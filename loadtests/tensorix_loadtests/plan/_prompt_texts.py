"""Lengths and shares of models as a person writes them: `500`, `lognormal:500,300`, `file:lengths.txt`, `a=3,b=1`.

Everything here raises SettingsError, in one line, for what it cannot read.
"""

from __future__ import annotations

import math

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._prompting import Lengths

__all__ = ["read_lengths", "read_models"]


def read_lengths(text: str) -> Lengths:
    """Lengths: `500`, `normal:500,100` and `lognormal:500,300` (mean, deviation), `uniform:100-900`, `file:PATH`."""
    kind, colon, rest = (part.strip() for part in text.partition(":"))
    try:
        if not colon:
            return Lengths(mean=_whole(text))
        match kind:
            case "constant":
                return Lengths(mean=_whole(rest))
            case "normal" | "lognormal":
                mean, deviation = map(float, rest.split(","))
                return Lengths(kind="normal" if kind == "normal" else "lognormal", mean=mean, deviation=deviation)
            case "uniform":
                least, most = map(_whole, rest.split("-"))
                if not 1 <= least <= most:
                    raise ValueError
                middle, half = (least + most) / 2, (most - least) / 2
                return Lengths(kind="uniform", mean=middle, deviation=half, least=least, most=most)
            case "file" if rest:
                return Lengths(kind="file", path=rest)
    except ValueError:
        pass
    raise SettingsError(
        f"the lengths {text!r} cannot be read: write them like 500, normal:500,100, lognormal:500,300, "
        "uniform:100-900 or file:lengths.txt"
    )


def _whole(text: str) -> int:
    number = int(text.strip().replace("_", "x"))
    if number < 1:
        raise ValueError
    return number


def read_models(text: str) -> dict[str, float]:
    """Models with their shares of the requests: `a=3,b=1`; a name alone has the share 1."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = (piece.strip() for piece in (part if "=" in part else f"{part}=1").rpartition("="))
        try:
            shares[name] = float(share)
        except ValueError:
            shares[name] = math.nan
        if not name or not 0 < shares[name] < math.inf:
            raise SettingsError(f"the share of a model in {text!r} cannot be read: write it like a=3,b=1")
    return shares
