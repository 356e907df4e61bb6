"""One HTML page that holds everything it needs: it asks nobody for anything, and its own policy forbids it to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup

from tensorix_reports.page._inert import inert
from tensorix_reports.page._picture import Picture
from tensorix_reports.page._statement import Verdict
from tensorix_reports.page._tables import Cell, Table

__all__ = ["Section", "html_of"]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its pictures, then its tables, by their ids; what a report does not have is left out."""

    name: str
    tables: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script (2 s to bundle, so once a process)."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    if "</script" in bundle.lower() or "<!--" in bundle:
        raise AssertionError("the bundled script would end its own element: it cannot be put into a page")
    return bundle


def _asset(name: str) -> str:
    return resources.files("tensorix_reports").joinpath("page", name).read_text("utf-8")


def script_data(value: Any) -> Markup:
    """JSON that cannot end the script element that it stands in, nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _shown(value: Any) -> Any:
    return inert(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def html_of(
    title: str,
    subtitle: str,
    verdict: Verdict,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    *,
    tiles: Sequence[tuple[str, Cell]],
    sections: Sequence[Section],
    glossary: Sequence[tuple[str, str]],
    whole: str,
    again_s: int | None = None,
) -> str:
    """The page. Its scripts are allowed by their digests, and nothing else may run or be fetched.

    `tiles` are the few figures at the top, and `whole` is what a picture shows that is not zoomed: the whole run.
    A page with `again_s` loads itself again every so many seconds.
    """
    environment = jinja2.Environment(
        autoescape=True, finalize=_shown, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    program, vega = _asset("page.js"), _vega()
    digests = " ".join(f"'sha256-{_digest(script)}'" for script in (vega, program))
    table, picture = {one.id: one for one in tables}, {one.id: one for one in pictures}
    filled = [
        (
            one.name,
            [table[id_] for id_ in one.tables if id_ in table],
            [picture[id_] for id_ in one.pictures if id_ in picture],
        )
        for one in sections
        if any(id_ in table for id_ in one.tables) or any(id_ in picture for id_ in one.pictures)
    ]
    return environment.from_string(_asset("page.html")).render(
        title=title,
        subtitle=subtitle,
        verdict=verdict,
        tiles=tiles,
        sections=filled,
        # The first section with a picture in it says how they are read, and zoomed where there is one with a range.
        told_in=next((number for number, (_, _, some) in enumerate(filled) if any(one.spec for one in some)), None),
        zoomed=any(one.zoomed for _, _, some in filled for one in some),
        glossary=glossary,
        whole=whole,
        again_s=again_s,
        style=Markup(_asset("page.css")),  # noqa: S704 - our own file
        drawings=script_data(
            {
                picture.id: {"spec": picture.spec, "data": picture.packed()}
                for picture in pictures
                if picture.spec is not None
            }
        ),
        vega=Markup(vega),  # noqa: S704 - checked above
        program=Markup(program),  # noqa: S704 - our own file
        policy=f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )
