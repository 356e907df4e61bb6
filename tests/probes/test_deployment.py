"""The files of probes/deployment, each by the validator of whatever reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tensorix_cli._commands import app

DEPLOYMENT = Path(__file__).parents[2] / "probes" / "deployment"
MANIFESTS = [
    (path.name, manifest)
    for path in sorted((DEPLOYMENT / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]


def _run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, **more)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units whose program is there: systemd looks for it."""
    program = tmp_path / "tensorix"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in (DEPLOYMENT / "systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/tensorix/bin/tensorix", str(program)))
    return tmp_path


@pytest.mark.system("systemd-analyze")
def test_systemd_takes_the_units(units: Path) -> None:
    """systemd finds nothing to say about the services and the timer, and does about one that is wrong."""
    for unit in ("tensorix-probe-serve.service", "tensorix-probe.timer", "tensorix-probe.service"):
        ran = _run("systemd-analyze", "verify", "--man=no", str(units / unit))
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), unit
    wrong = units / "tensorix-probe-serve.service"
    wrong.write_text(wrong.read_text().replace("Type=exec", "Type=excec").replace("Restart=always", "Restrat=always"))
    said = _run("systemd-analyze", "verify", "--man=no", str(wrong)).stderr
    assert "excec" in said
    assert "Restrat" in said


@pytest.mark.system("systemd-analyze")
def test_the_service_is_exposed_little(units: Path) -> None:
    """systemd's own rating of what the services may do is at most 2 of 10; without any hardening it is 9.6."""
    for unit in ("tensorix-probe-serve.service", "tensorix-probe.service"):
        ran = _run("systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", str(units / unit))
        assert ran.returncode == 0, ran.stdout.splitlines()[-1:] + ran.stderr.splitlines()


@pytest.mark.parametrize(("name", "manifest"), MANIFESTS, ids=[f"{name} {one['kind']}" for name, one in MANIFESTS])
def test_kubernetes_takes_the_manifests(name: str, manifest: dict[str, Any]) -> None:
    """Each manifest satisfies its schema, without an unknown field; one with a misspelt field does not."""
    kubernetes_validate.validate(manifest, "1.29", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**manifest, "sepc": {}}, "1.29", strict=True)


def test_no_two_jobs_run_at_once_and_none_for_good() -> None:
    """The CronJob forbids a second one, ends one that hangs before the next is due, and retries nothing."""
    (job,) = [one for _, one in MANIFESTS if one["kind"] == "CronJob"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    inner = job["spec"]["jobTemplate"]["spec"]
    assert job["spec"]["schedule"] == "*/5 * * * *"
    assert inner["activeDeadlineSeconds"] < 300
    assert inner["backoffLimit"] == 0


@pytest.mark.system("crontab")
def test_cron_takes_the_crontab(tmp_path: Path) -> None:
    """cron's own dry run takes the file, and not one with a 70th day."""
    help_text = _run("crontab", "-h")
    dry = "-n" if "-n" in help_text.stderr + help_text.stdout else "-T"
    wrong = tmp_path / "crontab"
    wrong.write_text((DEPLOYMENT / "crontab").read_text().replace("* * * * *", "* * 70 * *"))
    good = _run("crontab", dry, str(DEPLOYMENT / "crontab"))
    assert good.returncode == 0, good.stderr
    assert _run("crontab", dry, str(wrong)).returncode != 0


def _command_lines() -> list[list[str]]:
    lines = [
        line.partition("=")[2].split()
        for path in sorted((DEPLOYMENT / "systemd").glob("*.service"))
        for line in path.read_text().splitlines()
        if line.startswith("ExecStart=")
    ]
    cron = (DEPLOYMENT / "crontab").read_text().splitlines()[-1].split()
    pods = [one["spec"].get("jobTemplate", one)["spec"] for _, one in MANIFESTS if one["kind"] != "Service"]
    containers = [pod["template"]["spec"]["containers"][0]["args"] for pod in pods]
    return [*lines, cron[cron.index("tensorix") :], *containers]


@pytest.mark.parametrize("line", _command_lines(), ids=lambda line: " ".join(line[1:3]))
def test_the_commands_know_their_options(line: list[str]) -> None:
    """Each command line in these files is one that `tensorix` has, options and all."""
    import typer

    group = typer.main.get_command(app)
    words = line[1:]
    context = group.make_context("tensorix", words, resilient_parsing=False)
    _, command, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
    _, inner, rest = command.resolve_command(command.make_context("probe", rest), rest)
    inner.make_context(inner.name, rest)


def test_the_configuration_is_one(tmp_path: Path, subprocess_environment: dict[str, str]) -> None:
    """`check-config` takes probes.toml where systemd hands over the key, and does not repeat the key."""
    (tmp_path / "api-key").write_text("sk-of-the-deployment\n")
    (tmp_path / "api-key").chmod(0o400)
    configuration = str(DEPLOYMENT / "probes.toml")
    ran = _run(
        sys.executable,
        "-m",
        "tensorix_cli",
        "probe",
        "check-config",
        configuration,
        env=subprocess_environment | {"CREDENTIALS_DIRECTORY": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr
    assert "sk-of" not in ran.stdout + ran.stderr


def test_every_file_is_tried_here() -> None:
    """No file of the folder is left out of these tests."""
    known = {"README.md", "probes.toml", "crontab"}
    assert {path.name for path in DEPLOYMENT.iterdir() if path.is_file()} == known
    assert {path.suffix for path in (DEPLOYMENT / "systemd").iterdir()} == {".service", ".timer"}
