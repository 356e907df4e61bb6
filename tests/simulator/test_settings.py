"""Settings and distributions: what may be written, and what a wrong one is told."""

from __future__ import annotations

import json
import random
import statistics
from typing import Any

import pytest

from tensorix_api import Secret
from tensorix_api.errors import SettingsError
from tensorix_simulator.distributions import Distribution
from tensorix_simulator.settings import FORMAT, SimulatorSettings


def test_defaults_are_what_is_documented() -> None:
    """60 requests and 2,000,000 tokens a minute and key, no Retry-After, below /v1."""
    settings = SimulatorSettings()
    assert (settings.rpm, settings.tpm, settings.window_s) == (60, 2_000_000, 60.0)
    assert (settings.retry_after, settings.prefix) == ("none", "/v1")


def test_settings_survive_json() -> None:
    """What `to_dict` writes, `from_dict` reads back equal, through JSON."""
    settings = SimulatorSettings(rpm=None, models=("a/b",), valid_keys=("sk-one",), reply_tokens="uniform(5, 9)")
    written = json.loads(json.dumps(settings.to_dict()))
    assert written["format"] == FORMAT
    assert SimulatorSettings.from_dict(written) == settings


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("rpm", -1, "a whole number from 0 to 10**12, or null"),
        ("rpm", True, "a whole number from 0 to 10**12, or null"),
        ("tpm", 1.5, "a whole number from 0 to 10**12, or null"),
        ("window_s", 0, "from 0.001"),
        ("window_s", "60", "from 0.001"),
        ("window_s", float("nan"), "from 0.001"),
        ("charging", "free", "actual, reserve, prompt"),
        ("charging", [], "actual, reserve, prompt"),
        ("retry_after", "sometimes", "none, honest, fixed60"),
        ("error_rate", 1.1, "from 0 to 1"),
        ("models", [], "at least one model"),
        ("models", "glm", "at least one model"),
        ("prefix", "v1", "a path such as '/v1'"),
        ("count_models", 1, "true or false"),
        ("unknown_parameters", "ignore", "refuse, accept"),
        ("seed", 2**63 + 1, "a whole number from 0 to 2**63"),
        ("default_max_tokens", 0, "from 1 to 1000000"),
        ("ttft", "soon", "lognormal"),
        ("ttft", 5, "the text of a distribution"),
        ("ttft", "250", "with a unit (ns, us, ms, s, m or min, h, d)"),
        ("reply_tokens", "5ms", "uniform(10, 50)"),
        ("between_tokens", None, "the text of a distribution"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(name: str, value: Any, allowed: str) -> None:
    """One line that holds the setting's name and the values allowed."""
    with pytest.raises(SettingsError) as caught:
        SimulatorSettings.from_dict({name: value})
    assert repr(name) in str(caught.value)
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_is_named_with_those_there_are() -> None:
    """A slip of the pen does not pass in silence."""
    with pytest.raises(SettingsError, match=r"unknown setting 'rmp': one of .*rpm"):
        SimulatorSettings.from_dict({"rmp": 5})


@pytest.mark.parametrize("version", [FORMAT + 1, "1", None, True])
def test_another_format_is_refused(version: Any) -> None:
    """A file of a later version is not half understood."""
    with pytest.raises(SettingsError, match="reads format 1"):
        SimulatorSettings.from_dict({"format": version})


def test_settings_hold_aliases_and_no_keys() -> None:
    """Whatever repeats the settings repeats no key; an alias may be given in a key's place."""
    key = "sk-made-up-and-nowhere-else"
    settings = SimulatorSettings(valid_keys=(key,), invalid_keys=(key,), no_credit_keys=(key,))
    assert key not in repr(settings) + json.dumps(settings.to_dict())
    assert settings.valid_keys == (Secret(key).alias,)
    assert SimulatorSettings(valid_keys=(Secret(key).alias,)).valid_keys == settings.valid_keys
    with pytest.raises(SettingsError) as caught:
        SimulatorSettings.from_dict({"valid_keys": [key, 5]})
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mean", "sd"),
    [
        ("250ms", 250e6, 0),
        ("constant(1.5s)", 1.5e9, 0),
        ("0", 0, 0),
        ("uniform(10ms, 30ms)", 20e6, 20e6 / 12**0.5),
        ("normal(100us,10us)", 100e3, 10e3),
        ("lognormal(200ms, 0)", 200e6, 0),
        ("exponential(20ms)", 20e6, 20e6),
        ("gamma(20ms, 4)", 20e6, 10e6),
        (
            "lognormal(100ms, 0.5)",
            100e6 * 2.718281828**0.125,
            100e6 * 2.718281828**0.125 * (2.718281828**0.25 - 1) ** 0.5,
        ),
    ],
)
def test_distributions_have_the_mean_and_spread_they_are_named_for(text: str, mean: float, sd: float) -> None:
    """20,000 draws against the textbook's mean and standard deviation."""
    draw = Distribution.parse(text, "time").sampler(random.Random(1))
    drawn = [draw() for _ in range(20_000)]
    assert statistics.fmean(drawn) == pytest.approx(mean, rel=0.03)
    assert statistics.pstdev(drawn) == pytest.approx(sd, rel=0.05, abs=1e-6)
    assert min(drawn) >= 0


@pytest.mark.parametrize(
    "text",
    ["", "ms", "-5ms", "5 minutes", "uniform(5ms)", "uniform(9ms, 5ms)", "gamma(5ms, 0)", "lognormal(0, 1)",
     "lognormal(1ms, 11)", "lognormal(1ms, 1ms)", "normal(1ms, 2ms, 3ms)", "cauchy(1ms)", "5ms)", "constant(2000h)",
     "1e5ms", "exponential()", "99999999s"],
)  # fmt: skip
def test_what_is_no_distribution_is_told_the_forms(text: str) -> None:
    """Every other text is refused with the forms that there are."""
    with pytest.raises(SettingsError, match="exponential"):
        Distribution.parse(text, "time")
