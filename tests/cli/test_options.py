"""How options are written: durations, headers, bodies, mixes and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorix_api.errors import SettingsError
from tensorix_cli import _options


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("60s", 60.0),
        ("1.5m", 90.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        (" 2M ", 120.0),
        ("1m1s", 61.0),
        ("2min", 120.0),
        ("1d", 86_400.0),
        ("20us", 2e-5),
    ],
)
def test_a_duration_is_read_in_the_usual_spellings(text: str, seconds: float) -> None:
    """Plain seconds, or numbers with d, h, m or min, s, ms, us and ns one after another."""
    assert _options.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "5x", "s", "1m-", "1e3", "nan", "inf", "٣"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    """Zero, negative and unreadable lengths of time are mistakes; the message shows how to write one."""
    with pytest.raises(SettingsError, match="1h30m"):
        _options.duration(text)


def test_a_header_is_cut_at_its_first_colon() -> None:
    """The value keeps its own colons and loses the blanks around it."""
    assert _options.header("X-Trace:  a:b ") == ("X-Trace", "a:b")


@pytest.mark.parametrize("text", ["", "no colon sk-very-secret", ": sk-very-secret"])
def test_a_wrong_header_is_refused_without_repeating_it(text: str) -> None:
    """A header's value may be a secret: the message does not hold it."""
    with pytest.raises(SettingsError) as caught:
        _options.header(text)
    assert "secret" not in str(caught.value)


def test_a_body_is_a_json_object() -> None:
    """Any JSON object is taken; other JSON and no JSON are mistakes."""
    assert _options.body('{"top_p": 0.5}') == {"top_p": 0.5}
    for text in ("[1]", "{", "", "1"):
        with pytest.raises(SettingsError, match="--body"):
            _options.body(text)


def test_a_mix_names_shares() -> None:
    """A share that is not written is 1; one that is no number is a mistake."""
    assert _options.mix("chat-streamed=6, models") == {"chat-streamed": 6.0, "models": 1.0}
    with pytest.raises(SettingsError, match="models=x"):
        _options.mix("models=x")


def test_prompts_come_from_text_and_files(tmp_path: Path) -> None:
    """Given texts first, then each line of each file that is not empty."""
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\n  two \n", encoding="utf-8")
    assert _options.prompts(["zero"], [file]) == ("zero", "one", "two")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_prompt_file_that_holds_no_prompt_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty files and files that are no text are mistakes that name the file."""
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"prompts\.txt"):
        _options.prompts([], [file])


def test_a_prompt_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    """The message names the file and what the system said."""
    with pytest.raises(SettingsError, match="No such file"):
        _options.prompts([], [tmp_path / "none.txt"])
