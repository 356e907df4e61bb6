"""What importing the tracing brings into a service, and what it does without an SDK or without clients."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tensorix_simulator import Simulator

# `time` is imported by the interpreter itself: measuring brings nothing.
_TIMED = """
import opentelemetry.trace, opentelemetry.metrics, opentelemetry.propagate
import sys, time
before = set(sys.modules)
began = time.perf_counter()
import tensorix_tracing
took = time.perf_counter() - began
print(took, *sorted(set(sys.modules) - before))
"""


def test_what_is_imported(program: Callable[..., str]) -> None:
    """Beside opentelemetry-api and the standard library the import brings the package itself, and nothing else."""
    runs = [program(_TIMED, prelude=False).split() for _ in range(5)]
    for _, *modules in runs:
        brought = {module.partition(".")[0] for module in modules}
        assert brought <= {"tensorix_tracing", "tensorix_api"} | set(sys.stdlib_module_names)
    # Some tenths of a millisecond; the fastest of five is late only where all are.
    assert min(float(took) for took, *_ in runs) < 0.015


def test_what_instrument_imports(program: Callable[..., str]) -> None:
    """The first `instrument` brings only modules of ours, of opentelemetry-api with what that needs, and of Python."""
    printed = program(
        """
import sys, httpx
client = httpx.Client(base_url="http://127.0.0.1:1/v1")
before = set(sys.modules)
from tensorix_tracing import instrument
instrument(client)
print(*sorted(set(sys.modules) - before))
""",
        prelude=False,
    )
    brought = {module.partition(".")[0] for module in printed.split()}
    assert brought <= {"tensorix_tracing", "tensorix_api", "opentelemetry", "typing_extensions"} | set(
        sys.stdlib_module_names
    )
    assert not [
        module for module in printed.split() if module.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))
    ]


_HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        for hidden in {hidden!r}:
            if name == hidden or name.startswith(hidden + "."):
                raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
"""
_SDK = ["opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.semconv", "opentelemetry.instrumentation"]

_CALLS = """
import json, logging
logging.basicConfig(level=logging.WARNING)
from tensorix_tracing import instrument, uninstrument
asked = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 3}
key = {"authorization": "Bearer k"}
found = []
def everything():
    for name in ("openai", "httpx", "httpx2"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        if name == "openai":
            client = module.OpenAI(base_url=sys.argv[1], api_key="k")
            instrument(client)
            assert client.chat.completions.create(**asked).choices
            assert len(list(client.chat.completions.create(**asked, stream=True))) > 3
        else:
            client = module.Client(base_url=sys.argv[1], headers=key)
            instrument(client)
            response = client.post("/chat/completions", json=asked)
            assert response.status_code == 200
            # Without an SDK there is no trace to be sent on.
            if not any(name.startswith("opentelemetry.sdk") for name in sys.modules):
                assert "traceparent" not in response.request.headers, response.request.headers
            with client.stream("POST", "/chat/completions", json={**asked, "stream": True}) as response:
                assert len(list(response.iter_lines())) > 3
        client.close()
        found.append(name)
instrument(hosts=["127.0.0.1"])
everything()
uninstrument()
found.clear()
everything()
print(*found)
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
"""


@pytest.mark.parametrize(
    ("hidden", "left"),
    [
        ([], "openai httpx httpx2"),
        (["openai", "httpx2"], "httpx"),
        (["httpx"], "openai httpx2"),
        (["openai", "httpx", "httpx2"], ""),
    ],
    ids=["all clients", "httpx only", "openai only", "none"],
)
def test_without_an_sdk(program: Callable[..., str], hidden: list[str], left: str) -> None:
    """Without an SDK, and with only some of the clients or none, calls work as ever, and nothing is said."""
    printed = program(_HIDE.format(hidden=[*_SDK, *hidden]) + _CALLS, prelude=False)
    assert printed.strip() == left


@pytest.fixture(scope="module")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has opentelemetry-api, httpx and what they need, and nothing else of this environment."""
    site = tmp_path_factory.mktemp("bare")
    wanted = ["opentelemetry", "typing_extensions", "httpx", "httpcore", "h11", "certifi", "idna", "anyio", "sniffio"]
    wanted += ["importlib_metadata", "zipp", "tensorix_tracing", "tensorix_api"]
    for name in wanted:
        spec = find_spec(name)
        if spec is None:
            continue
        if name == "opentelemetry":
            (site / name).mkdir()
            for folder in ("context", "trace", "metrics", "propagate", "propagators", "baggage", "util", "attributes"):
                for place in spec.submodule_search_locations or []:
                    if (Path(place) / folder).is_dir():
                        (site / name / folder).symlink_to(Path(place) / folder)
            for place in spec.submodule_search_locations or []:
                for file in Path(place).glob("*.py*"):
                    (site / name / file.name).symlink_to(file)
                for folder in ("environment_variables", "version", "_logs", "_events"):
                    if (Path(place) / folder).is_dir() and not (site / name / folder).exists():
                        (site / name / folder).symlink_to(Path(place) / folder)
        else:
            origin = Path(str(spec.origin))
            target = origin.parent if origin.name == "__init__.py" else origin
            (site / target.name).symlink_to(target)
    for metadata in Path(str(find_spec("typing_extensions").origin)).parent.glob("opentelemetry_api-*.dist-info"):  # type: ignore[union-attr]
        (site / metadata.name).symlink_to(metadata)
    return site


def test_where_only_the_api_is_installed(bare_environment: Path, simulator: Simulator) -> None:
    """In an environment with opentelemetry-api and httpx alone, an instrumented client calls, and nothing is said."""
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-W",
            "error",
            "-c",
            f"import sys\nsys.path.insert(0, {str(bare_environment)!r})\n" + _CALLS,
            simulator.base_url,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "httpx\n", "")


def test_the_list_of_what_is_imported_is_what_is_declared() -> None:
    """What the package imports by itself is the standard library, opentelemetry-api and the room below."""
    import ast

    import tensorix_tracing

    allowed = {"opentelemetry", "tensorix_api", "tensorix_tracing"} | set(sys.stdlib_module_names)
    for file in Path(str(tensorix_tracing.__file__)).parent.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom) and file.name != "instrumentor.py":
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
                assert all(name.partition(".")[0] in allowed for name in names), json.dumps([file.name, names])
                assert not any(name.startswith("opentelemetry.sdk") for name in names), file.name
