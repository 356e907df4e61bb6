"""The pictures as PNG and SVG, from the page's own specifications and without a browser."""

from __future__ import annotations

from collections.abc import Sequence

import vl_convert

from tensorix_reports.page._picture import Picture

__all__ = ["stills_of"]

_WIDTH = 900


def stills_of(pictures: Sequence[Picture], formats: Sequence[str]) -> dict[str, bytes]:
    """File names and contents; pictures without data are left out. Raises ValueError for an unknown format."""
    files: dict[str, bytes] = {}
    for kind in formats:
        if kind not in ("png", "svg"):
            raise ValueError(f"a picture is png or svg, not {kind!r}")
        for picture in pictures:
            if picture.spec is None:
                continue
            spec = picture.whole() | {"width": _WIDTH, "title": picture.title, "background": "white"}
            if kind == "svg":
                files[f"{picture.id}.svg"] = vl_convert.vegalite_to_svg(spec).encode()
            else:
                files[f"{picture.id}.png"] = vl_convert.vegalite_to_png(spec, scale=2.0)
    return files
