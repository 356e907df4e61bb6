"""The files of loadtests/deployment, each by the validator of whatever reads it."""

from __future__ import annotations

import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import typer
import yaml

from tensorix_cli._commands import app

ROOT = Path(__file__).parents[3]
DEPLOYMENT = ROOT / "loadtests" / "deployment"
MANIFESTS = [
    (f"{path.name} {manifest['kind']} {manifest['metadata']['name']}", manifest)
    for path in sorted((DEPLOYMENT / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
_JOBS = {one["metadata"]["name"].rpartition("-")[2]: one["spec"] for _, one in MANIFESTS if one["kind"] == "Job"}


def _container(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = job["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize(("name", "manifest"), MANIFESTS, ids=[name for name, _ in MANIFESTS])
def test_kubernetes_takes_the_manifests(name: str, manifest: dict[str, Any]) -> None:
    """Each manifest satisfies its schema, without an unknown field; one with a misspelt field does not."""
    kubernetes_validate.validate(manifest, "1.29", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**manifest, "sepc": {}}, "1.29", strict=True)


def test_the_containers_file_is_one(tmp_path: Path) -> None:
    """hadolint finds nothing to say about the Containerfile, and does about one with a relative working directory."""
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    good = DEPLOYMENT / "Containerfile"
    ran = subprocess.run([hadolint, good], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    wrong = tmp_path / "Containerfile"
    wrong.write_text(good.read_text(encoding="utf-8").replace("WORKDIR /data", "WORKDIR data"), encoding="utf-8")
    ran = subprocess.run([hadolint, wrong], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "absolute WORKDIR" in ran.stdout


def test_the_image_holds_what_is_built() -> None:
    """The Containerfile copies every room that the wheel has, and names extras that there are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {path.split("/")[0] for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    text = (DEPLOYMENT / "Containerfile").read_text(encoding="utf-8")
    copied = [line.split()[1:] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line]
    assert {words[0] for words in copied if len(words) == 2} == rooms
    assert all((ROOT / name).exists() for words in copied for name in words[:-1])
    extras = text.partition(".[")[2].partition("]")[0].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])


@pytest.mark.parametrize("role", ["master", "worker"])
def test_the_commands_know_their_options(role: str) -> None:
    """Each command line in the manifests is one that `tensorix` has, options and all."""
    group = typer.main.get_command(app)
    words = _container(_JOBS[role])["args"]
    assert words[0] == "tensorix"
    context = group.make_context("tensorix", words[1:], resilient_parsing=False)
    name, command, rest = group.resolve_command(context, words[1:])  # type: ignore[attr-defined]
    command.make_context(name, rest)


def test_master_and_workers_fit() -> None:
    """As many workers are started as the master waits for, they find its port, and neither is ever started twice."""
    master, worker = _container(_JOBS["master"]), _container(_JOBS["worker"])
    assert f"--workers={_JOBS['worker']['parallelism']}" in master["args"]
    assert _JOBS["worker"]["completions"] == _JOBS["worker"]["parallelism"]
    (service,) = [one for _, one in MANIFESTS if one["kind"] == "Service"]
    port = service["spec"]["ports"][0]["port"]
    assert f"--master={service['metadata']['name']}:{port}" in worker["args"]
    assert f"--bind=0.0.0.0:{port}" in master["args"]
    assert master["ports"][0]["containerPort"] == port
    assert master["image"] == worker["image"]
    assert service["spec"]["selector"].items() <= _JOBS["master"]["template"]["metadata"]["labels"].items()
    for job in _JOBS.values():
        assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
        assert _container(job)["env"][0]["valueFrom"] == {"secretKeyRef": {"name": "tensorix-load", "key": "api-key"}}


def test_every_file_is_tried_here() -> None:
    """No file of the folder is left out of these tests."""
    found = {str(path.relative_to(DEPLOYMENT)) for path in DEPLOYMENT.rglob("*") if path.is_file()}
    assert found == {"Containerfile", "kubernetes/load.yaml"}
