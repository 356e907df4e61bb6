"""The rooms: what each may import and what it exports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# What a room may import lies below it; those side by side never see each other.
ALLOWED = {
    "api": set[str](),
    "records": {"api"},
    "simulator": {"api"},
    "tracing": {"api"},
    "probes": {"api", "records"},
    "loadtests": {"api", "records"},
    "reports": {"api", "records"},
    "experiments": {"api", "records", "loadtests", "probes", "simulator", "reports"},
    "cli": {"api", "records", "loadtests", "probes", "simulator", "reports", "experiments"},
}
EXPORTED = {
    "api": ["Secret", "Settings", "TensorixError"],
    "records": ["RequestRecord", "Run"],
    "simulator": ["Simulator"],
    "loadtests": ["ChatUser", "ModelListUser"],
    "probes": ["ProbeResult", "run_once"],
    "tracing": ["configure", "instrument", "uninstrument"],
    "reports": ["compare", "latency_report", "rate_limit_report"],
    "experiments": ["Search", "find_capacity"],
    "cli": ["main"],
}
Imports = dict[str, dict[str, set[str]]]


def _room_of(module: str) -> str | None:
    first = module.partition(".")[0]
    return first.removeprefix("tensorix_") if first.startswith("tensorix_") else None


def test_every_room_is_known(rooms: dict[str, Path]) -> None:
    """No package stands where the plan of the house names none, and none of those that are built is missing."""
    assert set(rooms) <= set(ALLOWED)
    assert set(rooms) >= set(EXPORTED)


def test_imports_go_down_only(imported: Imports) -> None:
    """No file of a room imports, even lazily or for types only, a room that is not below its own."""
    wrong = [
        f"{file} imports {module}"
        for room, files in imported.items()
        for file, modules in files.items()
        for module in modules
        if (other := _room_of(module)) is not None and other != room and other not in ALLOWED[room]
    ]
    assert wrong == []


def test_the_check_of_imports_sees_lazy_ones(imported: Imports) -> None:
    """The command line imports its rooms inside functions, and the check above knows of that."""
    seen = set().union(*imported["cli"].values())
    assert {"tensorix_loadtests.plan", "tensorix_reports.load", "tensorix_simulator"} <= seen


@pytest.mark.parametrize("room", ["api"])
def test_api_is_of_the_standard_library_only(imported: Imports, room: str) -> None:
    """The api room imports the standard library and itself."""
    firsts = {module.partition(".")[0] for modules in imported[room].values() for module in modules}
    assert firsts <= set(sys.stdlib_module_names) | {"tensorix_api"}


def test_tracing_needs_the_api_of_opentelemetry_only(imported: Imports) -> None:
    """What runs in other people's services imports nothing of an SDK but where that is what it is for."""
    of_the_api = ("opentelemetry.context", "opentelemetry.metrics", "opentelemetry.propagat", "opentelemetry.trace")
    clients = {"openai", "httpx", "httpx2"}
    apart = ("_configure.py", "instrumentor.py")
    wrong = [
        f"{file} imports {module}"
        for file, modules in imported["tracing"].items()
        if not file.endswith(apart)
        for module in modules
        if (first := module.partition(".")[0]) not in sys.stdlib_module_names
        if first not in {"tensorix_api", "tensorix_tracing", *clients}
        if module != "opentelemetry" and not module.startswith(of_the_api)
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ["cli", "experiments", "probes", "reports", "records", "simulator", "tracing"])
def test_locust_stays_in_the_engine(imported: Imports, room: str) -> None:
    """Only the room of the load tests imports Locust or gevent, which patch the process that they are in."""
    firsts = {module.partition(".")[0] for modules in imported[room].values() for module in modules}
    assert not firsts & {"locust", "gevent", "geventhttpclient"}


def test_a_load_plan_brings_no_locust(subprocess_environment: dict[str, str]) -> None:
    """What the command line imports of the load tests leaves Locust and gevent unloaded."""
    code = "import sys, tensorix_loadtests.plan; print(sorted({'locust', 'gevent'} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=subprocess_environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("room", sorted(EXPORTED))
def test_each_room_exports_what_it_promises(rooms: dict[str, Path], room: str) -> None:
    """`__all__` of a room is the list that users are told of, written out, sorted, and nothing else."""
    tree = ast.parse((rooms[room] / "__init__.py").read_text(encoding="utf-8"))
    written = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]
    assert written == [EXPORTED[room]]


@pytest.mark.parametrize("room", sorted(EXPORTED))
def test_what_is_exported_is_there(room: str, subprocess_environment: dict[str, str]) -> None:
    """Every exported name can be imported, in a process of its own since user classes patch theirs."""
    code = f"from tensorix_{room} import {', '.join(EXPORTED[room])}"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code] if room != "loadtests" else [sys.executable, "-c", code],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_room_is_typed(rooms: dict[str, Path]) -> None:
    """Each package carries `py.typed`, and the folder that holds it is itself no package."""
    for package in rooms.values():
        assert (package / "py.typed").is_file()
        assert not (package.parent / "__init__.py").exists()


def test_tests_mirror_the_rooms(root: Path, rooms: dict[str, Path]) -> None:
    """Each room has a folder of tests with its name, with tests in it."""
    for room in rooms:
        assert list((root / "tests" / room).glob("test_*.py")), room
