"""The engine as a program: `python -m tensorix_loadtests --out RUN < plan.json`.

The plan (`tensorix_loadtests.plan.LoadPlan` as JSON) comes on standard input, since its headers may hold secrets; the
key comes from `TENSORIX_API_KEY`. What is wrong is said in one line on standard error, `error: …`, with exit status 2
if the run could not begin; `warning: …` lines may come before. Exit status 0 means that the run ended in order, 1 that
its folder could not be written to the end.
"""

# First of all: gevent replaces the blocking parts of the standard library before anything imports them.
from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from typing import Any  # noqa: E402


class _WithoutPandas:
    """Hides pandas, which the engine has no use for, from pyarrow.

    That would import it at its first conversion: half a second or more in which nothing is sent, and 50 MB.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ImportError("the engine does without pandas")


sys.meta_path.insert(0, _WithoutPandas())

from tensorix_loadtests._lean import without_web_page  # noqa: E402

without_web_page()

from tensorix_loadtests._engine import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
