"""The matrix of the tracing: openai's SDK from the oldest to the newest, on httpx and on httpx2; Python likewise.

`make matrix` runs all of it; `nox -s "tracing-3.13(openai='newest')"` one part. What the sessions do not pin themselves
is held to `constraints.txt`, as everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tracing"]

# A shim of pyenv's runs only the versions that somebody chose; what is installed lies here.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([*map(str, sorted(PYENV.glob("versions/3.*/bin"))), os.environ["PATH"]])

SDKS = {
    # Older ones fail with httpx 0.28: they hand their client an argument that it no longer has.
    "oldest": ["openai==1.55.3", "httpx==0.28.1"],
    # The last that rides on httpx.
    "last-httpx": ["openai==2.54.0", "httpx==0.28.1"],
    # On httpx2; with httpx beside it, for clients that are httpx's own.
    "newest": ["openai==3.54.0", "httpx==0.28.1", "httpx2==2.16.2"],
}
TESTS = ["tests/tracing/stream_ends", *sorted(map(str, Path("tests/tracing").glob("test_openai*.py")))]


@nox.session(python=["3.11", "3.13"])
@nox.parametrize("openai", list(SDKS))
def tracing(session: nox.Session, openai: str) -> None:
    """What the tracing tells of streams, calls, retries and hooks, with one SDK."""
    pinned = {spec.partition("==")[0] for spec in SDKS[openai]}
    constraints = Path(session.create_tmp()) / "constraints.txt"
    lines = Path("constraints.txt").read_text().splitlines()
    constraints.write_text("\n".join(line for line in lines if line.partition("==")[0] not in pinned) + "\n")
    needed = ["opentelemetry-sdk", "pytest", "pytest-timeout", "trio", "wrapt"]
    session.install("-e", ".[simulator]", *needed, *SDKS[openai], env={"PIP_CONSTRAINT": str(constraints)})
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *(session.posargs or TESTS))
