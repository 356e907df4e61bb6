"""What `tensorix probe alerts` gives: files that their readers take, about metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from tensorix_api import Secret
from tensorix_cli import main
from tensorix_probes.alerts.conditions import ABOUT
from tensorix_probes.alerts.rules import alertmanager_example, dashboard, duration, rules
from tensorix_probes.metrics import Metrics
from tensorix_probes.result import Assertion, Phases, ProbeResult, Round, Spent, State
from tensorix_probes.settings import Prices, Target

ROOT = Path(__file__).parents[3]
_METRIC = re.compile(r"\b(?:tensorix_)?probe_[a-z_]+\b")
_RECORDED = re.compile(r"\btensorix:[a-z_:0-9]+\b")


def _all_rules(text: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def _expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in _all_rules(rules()))
    for panel in json.loads(dashboard())["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in json.loads(dashboard())["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


@pytest.fixture
def shown() -> dict[str, set[str]]:
    """The labels of every series that the probes show once everything has happened, by name."""
    target = Target(name="here", api_key=Secret("sk-of-the-files"), prices=Prices())
    metrics = Metrics([target])
    result = ProbeResult(
        check="tls",
        target="here",
        state=State.UP,
        assertions=(Assertion("connects", True),),
        phases=Phases(first_token_ns=1, total_ns=2),
        figures={"certificate_not_after_unix_s": 1.0, "remaining_requests": 1.0},
        spent=Spent(1, 1, 0.1),
        started_unix_ns=0,
    )
    metrics.see(Round(round_id="r", target="here", state=State.UP, started_unix_ns=0, results=(result,)), target)
    metrics.missed(target, "late")
    text = generate_latest(metrics.registry).decode()
    # What `serve` adds of its own, beside the metrics of targets.
    source = (ROOT / "probes" / "tensorix_probes" / "serve" / "standings.py").read_text()
    assert 'name = "tensorix_probe_history"' in source
    found: dict[str, set[str]] = {
        f"tensorix_probe_history_{name}": set()
        for name in ("failing", "lost_total")
        if f'{{name}}_{name.removesuffix("_total")}"' in source
    }
    for name, labels in re.findall(r"^([a-z_]+)\{(.*?)\} ", text, re.M):
        found.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', labels))
    return found


def test_every_metric_and_label_that_is_asked_for_is_there(shown: dict[str, set[str]]) -> None:
    """Rules and dashboard ask for series, and labels of them, that the probes show, or that the rules record."""
    recorded = {rule["record"] for rule in _all_rules(rules()) if "record" in rule}
    asked = set()
    for expression in _expressions():
        names = set(_METRIC.findall(_RECORDED.sub("", expression)))
        assert names <= set(shown), expression
        assert set(_RECORDED.findall(expression)) <= recorded, expression
        for name, labels in re.findall(r"\b((?:tensorix_)?probe_[a-z_]+)\{([^}]*)\}", _RECORDED.sub("", expression)):
            assert set(re.findall(r"([a-z_]+)(?:=|!)", labels)) <= shown[name], expression
        asked |= names
    assert len(asked) > 10


@pytest.mark.system("promtool")
@pytest.mark.parametrize("scale", [1.0, 0.01, 1 / 60, 0.0001, 3.0])
def test_promtool_takes_the_rules(tmp_path: Path, scale: float) -> None:
    """Every expression parses, at every scale and with an objective of one's own."""
    for number, objective in enumerate((None, 0.999)):
        (tmp_path / f"{number}.yml").write_text(rules(scale, objective=objective))
    ran = subprocess.run(
        ["promtool", "check", "rules", "0.yml", "1.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert f"{len(_all_rules(rules()))} rules found" in ran.stdout


@pytest.mark.system("promtool")
def test_promtool_takes_the_dashboard(tmp_path: Path) -> None:
    """Every expression of the dashboard parses once Grafana has put its variables in."""
    put = {"$__rate_interval": "5m", "$__range": "1d", "$target": ".*", "$location": ".*"}
    groups = []
    for number, panel in enumerate(json.loads(dashboard())["panels"]):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in put.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            groups.append({"record": f"a:b{number}{target['refId']}", "expr": expression})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": groups}]}))
    ran = subprocess.run(
        ["promtool", "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_the_dashboard_can_be_imported() -> None:
    """Panels have numbers and places of their own, and ask the data source that is chosen."""
    board = json.loads(dashboard())
    assert "id" not in board
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert {source["datasource"]["uid"] for source in (panel, *panel["targets"])} == {"${datasource}"}
    assert board["templating"]["list"][0]["type"] == "datasource"


@pytest.mark.system("amtool")
def test_amtool_takes_the_example(tmp_path: Path) -> None:
    """Alertmanager's own check takes the example, pages go one way and tickets another."""
    (tmp_path / "alertmanager.yml").write_text(alertmanager_example())

    def amtool(*arguments: str) -> str:
        ran = subprocess.run(["amtool", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    amtool("check-config", "alertmanager.yml")
    route = ("config", "routes", "test", "--config.file=alertmanager.yml")
    assert amtool(*route, "severity=page", "target=here") == "pages"
    assert amtool(*route, "severity=ticket", "target=here") == "tickets"


def test_the_example_names_alerts_that_there_are() -> None:
    """No inhibition is about an alert that nobody fires."""
    named = set(re.findall(r"Tensorix[A-Za-z]+", alertmanager_example()))
    assert named
    assert named <= set(ABOUT)


def test_every_alert_says_what_to_do() -> None:
    """Each alert of the table, and no other, is a rule with a severity, texts and a runbook that is there."""
    alerts = [rule for rule in _all_rules(rules(runbooks="https://example.org/runbooks")) if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == set(ABOUT)
    assert len(alerts) == len(ABOUT)
    sections = re.findall(r"^## (\S+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.M)
    assert sections == list(ABOUT)
    for rule in alerts:
        about = ABOUT[rule["alert"]]
        assert rule["labels"] == {"severity": about.severity}
        assert rule["annotations"]["runbook_url"] == f"https://example.org/runbooks#{rule['alert'].lower()}"
        assert len(rule["annotations"]["summary"]) > 20
        assert rule["annotations"]["description"] == about.description


@pytest.mark.parametrize(
    ("seconds", "written"), [(300, "5m"), (3, "3s"), (0.3, "300ms"), (259_260, "4321m"), (86_400, "1d"), (1e-9, "1ms")]
)
def test_durations_are_promqls(seconds: float, written: str) -> None:
    """Lengths of time are whole numbers of one unit."""
    assert duration(seconds) == written


def _command(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tensorix_cli", "probe", "alerts", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_prints_or_writes(subprocess_environment: dict[str, str], tmp_path: Path) -> None:
    """Without a folder the rules are printed; with one, three files are written."""
    printed = _command("--scale", "0.01", environment=subprocess_environment)
    assert printed.stdout == rules(0.01)
    out = tmp_path / "a" / "b"
    written = _command("--out", str(out), "--objective", "0.999", environment=subprocess_environment)
    assert written.returncode == 0
    assert {path.name for path in out.iterdir()} == {"rules.yml", "alertmanager.yml", "grafana.json"}
    assert (out / "rules.yml").read_text() == rules(objective=0.999)


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["--scale", "0"], "the scale 0 is not between 0.0001 and 100", 2),
        (["--scale", "nan"], "the scale nan is not between", 2),
        (["--objective", "99.5"], "--objective: 99.5 is out of range: above 0%, below 100%", 2),
        (["--out", "/dev/null/x"], "cannot be written", 1),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str, status: int
) -> None:
    """What cannot be used is named with what can."""
    assert main(["probe", "alerts", *arguments]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.count("\n") == 1
