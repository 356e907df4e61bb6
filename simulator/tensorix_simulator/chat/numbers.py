"""Numbers within the bounds that a JSON schema sets."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tensorix_simulator.chat.schemas import BadSchemaError, satisfies

__all__ = ["number_within", "whole_within"]


def _bounds(schema: Mapping[str, Any], width: float) -> tuple[float, float]:
    """The least and the most; where one is missing, so far apart."""
    lows = [schema[name] for name in ("minimum", "exclusiveMinimum") if name in schema]
    highs = [schema[name] for name in ("maximum", "exclusiveMaximum") if name in schema]
    low = max(lows) if lows else min(0, min(highs) - width) if highs else 0
    return low, min(highs) if highs else low + width


def whole_within(schema: Mapping[str, Any], generator: random.Random) -> int:
    """A whole number. Raises BadSchemaError where there is none."""
    factor = schema.get("multipleOf", 1)
    # The least whole number that is a multiple: 3 of 1.5.
    factor = int(factor) if float(factor).is_integer() else Decimal(str(factor)).as_integer_ratio()[0]
    low, high = _bounds(schema, 100 * factor)
    first = math.ceil(low) + (low == schema.get("exclusiveMinimum"))
    last = math.floor(high) - (high == schema.get("exclusiveMaximum"))
    least, most = -(-first // factor), last // factor
    if least > most:
        raise BadSchemaError("no whole number is within its bounds")
    return generator.randint(least, most) * factor


def number_within(schema: Mapping[str, Any], generator: random.Random) -> float:
    """A number, with two places where they are enough. Raises BadSchemaError where there is none."""
    factor = schema.get("multipleOf")
    low, high = _bounds(schema, 100 * (factor or 1))
    if factor is not None:
        exact = Decimal(str(factor))
        least = math.ceil(Decimal(str(low)) / exact) + (low == schema.get("exclusiveMinimum"))
        most = math.floor(Decimal(str(high)) / exact) - (high == schema.get("exclusiveMaximum"))
        if least > most:
            raise BadSchemaError("no number is within its bounds")
        return float(generator.randint(least, most) * exact)
    value = low + (high - low) * generator.uniform(0.1, 0.9)
    short = round(value, 2)
    value = short if low < short < high else value
    if not satisfies(value, {name: schema[name] for name in schema if name.endswith("imum")}, True):
        raise BadSchemaError("no number is within its bounds")
    return value
