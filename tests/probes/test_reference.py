"""docs/probes.md against what there is: every check, every assertion and what it leads to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tensorix_probes.registry import PROMISES
from tensorix_probes.settings import BUILT_IN_CHECKS

_PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("check", BUILT_IN_CHECKS)
def test_the_page_lists_every_assertion(check: str) -> None:
    """The page has a row for each assertion of a check, in its order, with its meaning and state, and no other."""
    section = re.search(rf"\n### `{check}`\n(.*?)(?=\n##|\Z)", _PAGE, re.S)
    assert section, f"no section for {check}"
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| `(\w+)` \|$", section[1], re.M)
    assert rows == [(one.name, one.meaning.replace("|", "\\|"), str(one.otherwise)) for one in PROMISES[check]]
