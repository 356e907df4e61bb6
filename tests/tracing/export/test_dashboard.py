"""The files that users copy to Prometheus and Grafana: rules with exact numbers, and a dashboard that has data."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

DEPLOYMENT = Path(__file__).parents[3] / "tracing" / "deployment"
RULES = DEPLOYMENT / "rules.yml"
DASHBOARD = json.loads((DEPLOYMENT / "grafana.json").read_text())
PUT = {"$__rate_interval": "10s", "$job": ".*", "$server": ".*", "$model": ".*"}


def _queries() -> Iterator[tuple[str, str]]:
    """The title of a panel and what it asks, as Grafana would once its variables are in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in PUT.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            yield panel["title"], expression


def _promtool(folder: Path, *words: str) -> str:
    ran = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return ran.stdout


@pytest.mark.system("promtool")
def test_promtool_takes_rules_and_dashboard(tmp_path: Path) -> None:
    """Every expression parses."""
    count = len(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])
    assert f"{count} rules found" in _promtool(tmp_path, "check", "rules", str(RULES))
    rules = [{"record": f"a:b{number}", "expr": query} for number, (_, query) in enumerate(_queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    _promtool(tmp_path, "check", "rules", "rules.yml")


def test_the_dashboard_can_be_imported() -> None:
    """Panels have numbers and places of their own, and ask the data source that is chosen."""
    assert "id" not in DASHBOARD
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert {source["datasource"]["uid"] for source in (panel, *panel["targets"])} == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"


WHERE = 'job="shop",server_address="api.tensorix.ai",gen_ai_request_model="m"'
DURATION = "gen_ai_client_operation_duration_seconds"


def _series(name: str, per_minute: float, **labels: str) -> dict[str, str]:
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return {"series": f"{name}{{{WHERE}{more}}}", "values": f"0+{per_minute:g}x20"}


def _histogram(name: str, buckets: dict[str, float], **labels: str) -> list[dict[str, str]]:
    """So many more each minute up to each bound."""
    return [_series(f"{name}_bucket", count, le=bound, **labels) for bound, count in buckets.items()]


@pytest.mark.system("promtool")
def test_the_rules_compute_what_they_say(tmp_path: Path) -> None:
    """Rates, shares, quantiles and the least that remains, from series with known numbers."""
    chat = {"gen_ai_operation_name": "chat"}
    series = [
        # Of 120 calls a minute 96 went well, 6 failed (5 and 1), 12 were throttled, 3 cancelled before the headers; of
        # those that went well 3 were closed early; 1 cancelled in mid-stream.
        _series(f"{DURATION}_count", 92, **chat),
        _series(f"{DURATION}_count", 5, **chat, error_type="500"),
        _series(f"{DURATION}_count", 1, **chat, error_type="cut"),
        _series(f"{DURATION}_count", 12, **chat, error_type="429"),
        _series(f"{DURATION}_count", 3, **chat, error_type="cancelled", tensorix_stream_outcome="cancelled"),
        _series(f"{DURATION}_count", 6, **chat, tensorix_stream_outcome="closed_early"),
        _series(f"{DURATION}_count", 1, **chat, tensorix_stream_outcome="abandoned"),
        # No chat: counts nowhere.
        {"series": f'{DURATION}_count{{{WHERE},gen_ai_operation_name="models.list"}}', "values": "0+600x20"},
        # 40 to 0.16 s, 40 more to 0.32, 20 more to 0.64.
        *_histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            {"0.16": 40, "0.32": 80, "0.64": 100, "+Inf": 100},
            **chat,
        ),
        *_histogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            {"0.008": 0, "0.016": 100, "0.032": 200, "+Inf": 200},
            **chat,
        ),
        *_histogram(f"{DURATION}", {"1.28": 50, "2.56": 100, "+Inf": 100}, **chat),
        *_histogram(f"{DURATION}", {"1.28": 100, "2.56": 100, "+Inf": 100}, **chat, error_type="429"),
        _series("gen_ai_client_token_usage_sum", 6000, **chat, gen_ai_token_type="output"),
        _series("gen_ai_client_token_usage_sum", 600, **chat, gen_ai_token_type="input"),
        _series("tensorix_client_retries_total", 3, **chat, error_type="429"),
        *(
            {
                "series": f'tensorix_ratelimit_remaining{{job="shop",server_address="api.tensorix.ai",limit="{limit}",'
                f'instance="{instance}",tensorix_key_alias="shop"}}',
                "values": f"{value}x20",
            }
            for limit, instance, value in (("requests", "a", 12), ("requests", "b", 7), ("tokens", "a", 9000))
        ),
    ]
    where = {"job": "shop", "server_address": "api.tensorix.ai", "gen_ai_request_model": "m"}
    keyed = {"job": "shop", "server_address": "api.tensorix.ai", "tensorix_key_alias": "shop"}
    expected: dict[str, list[tuple[dict[str, str], float]]] = {
        "tensorix:calls:rate5m": [(where, 2)],
        "tensorix:calls_failed:ratio5m": [(where, 6 / 120)],
        "tensorix:calls_throttled:ratio5m": [(where, 12 / 120)],
        "tensorix:calls_left:ratio5m": [(where, 10 / 120)],
        "tensorix:first_chunk_seconds:quantile5m": [
            ({**where, "quantile": "0.5"}, 0.16 + 0.16 * 10 / 40),
            ({**where, "quantile": "0.95"}, 0.32 + 0.32 * 15 / 20),
            ({**where, "quantile": "0.99"}, 0.32 + 0.32 * 19 / 20),
        ],
        "tensorix:chunk_gap_seconds:quantile5m": [
            ({**where, "quantile": "0.5"}, 0.016),
            ({**where, "quantile": "0.95"}, 0.016 + 0.016 * 90 / 100),
            ({**where, "quantile": "0.99"}, 0.016 + 0.016 * 98 / 100),
        ],
        "tensorix:call_seconds:quantile5m": [
            ({**where, "quantile": "0.5"}, 1.28),
            ({**where, "quantile": "0.95"}, 1.28 + 1.28 * 45 / 50),
            ({**where, "quantile": "0.99"}, 1.28 + 1.28 * 49 / 50),
        ],
        "tensorix:tokens:rate5m": [
            ({**where, "gen_ai_token_type": "output"}, 100),
            ({**where, "gen_ai_token_type": "input"}, 10),
        ],
        "tensorix:retries:rate5m": [({**where, "error_type": "429"}, 0.05)],
        "tensorix:ratelimit_remaining:min": [({**keyed, "limit": "requests"}, 7), ({**keyed, "limit": "tokens"}, 9000)],
    }
    assert set(expected) == {rule["record"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    # To ten digits: what is recorded is a binary fraction.
    tests = [
        {
            "expr": f"round({name}, 1e-10)",
            "eval_time": "15m",
            "exp_samples": [
                {
                    "labels": "{" + ",".join(f'{label}="{value}"' for label, value in sorted(labels.items())) + "}",
                    "value": round(value, 10),
                }
                for labels, value in samples
            ],
        }
        for name, samples in expected.items()
    ]
    # Where nobody failed the share is 0, and where nobody called there is none.
    lone = 'job="lone",server_address="s",gen_ai_request_model="m",gen_ai_operation_name="chat"'
    quiet = [
        {"series": f"{DURATION}_count{{{lone}}}", "values": "0+60x20 1200x20"},
    ]
    lone_labels = '{job="lone",server_address="s",gen_ai_request_model="m"}'
    shares = ("tensorix:calls_failed:ratio5m", "tensorix:calls_throttled:ratio5m", "tensorix:calls_left:ratio5m")
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {"interval": "1m", "input_series": series, "promql_expr_test": tests},
            {
                "interval": "1m",
                "input_series": quiet,
                "promql_expr_test": [
                    *(
                        {
                            "expr": share,
                            "eval_time": "15m",
                            "exp_samples": [{"labels": share + lone_labels, "value": 0}],
                        }
                        for share in shares
                    ),
                    *({"expr": share, "eval_time": "35m", "exp_samples": []} for share in shares),
                ],
            },
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test, width=1_000_000))
    _promtool(tmp_path, "test", "rules", "test.yml")


def test_the_table_of_what_is_recorded_is_whole() -> None:
    """The README beside the rules names each series once, with the labels that it has."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    text = (DEPLOYMENT / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(tensorix:[a-z0-9_:]+)` \| .* \| (.*) \|$", text, re.M))
    assert list(rows) == list(dict.fromkeys(rule["record"] for rule in rules))
    for rule in rules:
        labels = {"job", "server_address", *re.findall(r"`(\w+)`", rows[rule["record"]])} - set(rule.get("labels", {}))
        grouped = re.search(r"by \((.*?)\)", rule["expr"])
        assert grouped is not None
        assert labels == set(grouped[1].split(", ")) - {"le"}, rule
