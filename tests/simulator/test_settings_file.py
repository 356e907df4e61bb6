"""Settings files in JSON and TOML: what they may hold, and how a mistake in one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.settings_file import as_json, as_toml, gathered, read_settings

UNUSUAL = SimulatorSettings(
    rpm=None,
    tpm=5,
    window_s=0.5,
    header_lie="late",
    models=("a/b", 'odd "name" \\ \x7f é'),
    valid_keys=("sk-one",),
    invalid_keys=(),
    reply_tokens="uniform(5, 9)",
    answers={"What is 1 + 1?": "2\n", 'a "b"': ""},
    count_refused=True,
)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("settings", [SimulatorSettings(), UNUSUAL])
def test_settings_that_were_printed_are_read_back_equal(tmp_path: Path, settings: SimulatorSettings) -> None:
    """Through JSON and TOML, nulls, quotes and odd characters included; and no key is in either."""
    for name, text in (("s.json", as_json(settings)), ("s.toml", as_toml(settings))):
        assert read_settings(write(tmp_path, name, text)) == settings
        # The form is told by the text where the name does not say.
        assert read_settings(write(tmp_path, "settings", text)) == settings
        assert "sk-one" not in text


def test_a_file_may_name_presets(tmp_path: Path) -> None:
    """They are put under the file's other settings."""
    path = write(tmp_path, "s.toml", 'presets = ["fast-chat", "litellm"]\nslots = 3\nrpm = "null"\n')
    settings = read_settings(path)
    assert (settings.latency, settings.step, settings.slots) == ("batch", "8ms", 3)
    assert (settings.headers, settings.rpm) == ("litellm", None)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", '{\n"tpm": 5,\n"rpm": -1}', ", line 3: setting 'rpm' must be a whole number from 0 to 10**12"),
        ("s.json", '{\n"rqm": 1}', ", line 2: unknown setting 'rqm': one of prefix, models, rpm"),
        ("s.json", '{\n"rpm": 1,}', ", line 2, column "),
        ("s.json", '{"rpm": 1, "rpm": 2}', ": 'rpm' is given 2 times"),
        ("s.json", '{"rpm": ' + "9" * 5_000 + "}", ": no valid JSON: "),
        ("s.json", "[" * 100_000, ": nested too deep"),
        ("s.json", "", " is empty: for no settings write {}"),
        ("s.json", "[1]", ": settings must be a JSON object"),
        ("s.json", '{"format": 2}', ": settings of format 2 cannot be read: this version reads format 1"),
        ("s.json", '{"presets": ["huge"]}', ", line 1: unknown preset 'huge': one of fast-chat, "),
        ("s.toml", "tpm = 5\n\nwindow_s = 0\n", ", line 3: setting 'window_s' must be a number of seconds from 0.001"),
        ("s.toml", 'ttft = "soon"', ", line 1: setting 'ttft': "),
        ("s.toml", "tpm = 5\nrpm = \n", ", line 2, column 7: no valid TOML: "),
        ("s.toml", "rpm = 1\nrpm = 2\n", ", line 2, column 8: no valid TOML: "),
        ("s.toml", "rpm = 1979-05-27", ", line 1: setting 'rpm' must be a whole number"),
        ("s.toml", 'rpm = 5\ntls = "valid"', ", line 2: 'tls' is no setting but an option of the command: --tls"),
        ("s.toml", "rpm = 5\n[limits]\nrpm = 5", ", line 2: unknown section 'limits': settings stand before any"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    """One line: the file, the line where it can be told, the setting and what it may be."""
    path = write(tmp_path, name, text)
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}{said}")
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_gets_no_line(tmp_path: Path) -> None:
    """Better no line than a wrong one: an answer may hold a setting's name."""
    path = write(tmp_path, "s.json", '{"answers": {"rpm": "5"},\n"rpm": -1}')
    with pytest.raises(SettingsError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: setting 'rpm'")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, a folder, or no text."""
    with pytest.raises(SettingsError, match=r"none\.json: No such file"):
        read_settings(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="Is a directory"):
        read_settings(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{")
    with pytest.raises(SettingsError, match="no UTF-8 text"):
        read_settings(tmp_path / "bytes")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors write one."""
    assert read_settings(write(tmp_path, "s.json", '\ufeff{"rpm": 5}')).rpm == 5


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("rpm=5", "rpm", 5),
        ("rpm=null", "rpm", None),
        (" rpm = 5 ", "rpm", 5),
        ("header_lie=late", "header_lie", "late"),
        ("header_lie=null", "header_lie", None),
        ("prefix=", "prefix", ""),
        ('prefix="/v2"', "prefix", "/v2"),
        ("reply_tokens=5", "reply_tokens", "5"),
        ("reply_tokens=null", "reply_tokens", None),
        ('models=["a/b", "c"]', "models", ("a/b", "c")),
        ("count_refused=true", "count_refused", True),
        ('answers={"a=b": "c"}', "answers", {"a=b": "c"}),
        ("idle_s=0.5", "idle_s", 0.5),
    ],
)
def test_an_assignment_is_json_or_plain_text(text: str, name: str, value: Any) -> None:
    """`--set NAME=VALUE`."""
    assert getattr(gathered(None, assigned=[text]), name) == value


def test_what_is_given_later_goes_first(tmp_path: Path) -> None:
    """Defaults, file, presets, options, assignments; an option that is not given changes nothing."""
    path = write(tmp_path, "s.json", json.dumps({"rpm": 1, "tpm": 1, "slots": 1, "queue": 1, "burst": 1}))
    settings = gathered(
        path, presets=["fast-chat"], options={"rpm": None, "tpm": 2, "queue": 2}, assigned=["queue=3", "queue=4"]
    )
    assert (settings.burst, settings.rpm, settings.slots, settings.tpm, settings.queue) == (1, 1, 64, 2, 4)
