"""The configuration from TOML: what is read, and what is said of every mistake in it."""

from __future__ import annotations

import io
import re
import sys
import tomllib
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tensorix_api import Secret
from tensorix_probes.configuration.file import ConfigurationError, example_configuration, read_configuration
from tensorix_probes.configuration.schema import MaintenanceSection, Root, Section, TargetSection
from tensorix_probes.configuration.words import warnings_of
from tensorix_probes.settings import (
    Alerts,
    Budget,
    Canary,
    Configuration,
    Headers,
    HistorySettings,
    Maintenance,
    Objective,
    Prices,
    Serve,
    Slow,
    Target,
    Timeouts,
)

KEY = "sk-the-key-that-nobody-may-see-1"
ODD = "0a1B2c3D4e5F6a7B8c9D0e1F"
"""A key that looks like no other's."""
ENVIRON = {
    "A_KEY": KEY,
    "ANOTHER_KEY": ODD,
    "EMPTY_ONE": " ",
    "BAD_KEY": "sk-has a space",
    "A_HOOK": "https://hooks.test/x",
}
HERE = '[[target]]\nname = "prod"\nbase_url = "http://127.0.0.1:1/v1"\n'
"""A target that needs no key, in three lines."""


def read(folder: Path, text: str, environ: dict[str, str] | None = None) -> Configuration:
    """A configuration of a text."""
    path = folder / "probes.toml"
    path.write_text(text, encoding="utf-8")
    return read_configuration(path, ENVIRON if environ is None else environ)


def mistakes(folder: Path, text: str) -> list[str]:
    """What is said of a text, without the folder's name."""
    with pytest.raises(ConfigurationError) as raised:
        read(folder, text)
    return [one.removeprefix(f"{folder}/") for one in raised.value.mistakes]


# What is read.


def test_the_least_configuration_has_the_defaults_of_the_values(tmp_path: Path) -> None:
    """A name and an address are enough: everything else is as `settings` has it."""
    configuration = read(tmp_path, HERE)
    assert configuration.targets == (Target(name="prod", base_url="http://127.0.0.1:1/v1"),)
    assert (configuration.history, configuration.serve, configuration.alerts) == (HistorySettings(), Serve(), Alerts())
    assert configuration.source == tmp_path / "probes.toml"
    assert (configuration.maintenance, configuration.location, configuration.warnings) == ((), None, ())


def test_every_setting_is_read(tmp_path: Path) -> None:
    """Each setting of the file becomes the value that it names."""
    (tmp_path / "hook").write_text("https://hooks.test/secret\n")
    (tmp_path / "hook").chmod(0o600)
    found = read(
        tmp_path,
        """
        location = "fra1"
        [history]
        url = "postgresql://probe:${ANOTHER_KEY}@db/probes"
        keep_results = "10d"
        keep_hours = "1000d"
        [serve]
        host = "0.0.0.0"
        port = 1234
        late = "1s"
        grace = "0s"
        otlp = true
        [alerts]
        webhook_file = "hook"
        repeat = "1h30m"
        scale = 0.01
        [[target]]
        name = "prod/eu"
        base_url = "https://api.test/v1/"
        key_env = "A_KEY"
        model = "m"
        wanted_models = ["n", "o"]
        interval = "2min"
        offset = "3s"
        jitter = "500ms"
        checks = ["tls", "chat", "auth", "errors"]
        every = { auth = "2h" }
        accept = ["ratelimit.headers_present_on_stream"]
        certificate_days = 30
        timeouts = { dns = "1s", connect = "2s", tls = "3s", first_byte = "4s", first_token = "5s", total = "7s" }
        slow = { connect = "1s", models = "none", chat = "2s", first_token = "3s", gap = "4s" }
        canary = { prompt = "p", expect = "e+", max_tokens = 7, body = { seed = 1 } }
        headers = { requests = 100, tokens = 200, window = "10s", expected_on = ["chat"], judge_remaining = false }
        budget = { share = "12.5%", tokens_a_day = "none", cost_a_day = 0.5, keep_free_requests = 9 }
        prices = { prompt_per_million = 1, completion_per_million = 2.5, currency = "EUR" }
        objective = { availability = "99.9%", window = "7d" }
        extra_headers = { X-One = "plain", X-Two = { env = "ANOTHER_KEY" } }
        [[maintenance]]
        name = "once"
        start = 2026-11-30T02:00:00+01:00
        end = 2026-11-30T04:00:00+01:00
        targets = ["prod/*"]
        [[maintenance]]
        name = "weekly"
        days = ["sun", "Mon"]
        from = "23:30"
        to = 01:00:00
        """,
    )
    assert found.targets == (
        Target(
            name="prod/eu",
            base_url="https://api.test/v1",
            api_key=Secret(KEY),
            key_source="$A_KEY",
            model="m",
            wanted_models=("n", "o"),
            interval_s=120,
            offset_s=3,
            jitter_s=0.5,
            checks=("tls", "chat", "auth", "errors"),
            every_s={"auth": 7200},
            accept=("ratelimit.headers_present_on_stream",),
            certificate_days=30,
            timeouts=Timeouts(dns_s=1, connect_s=2, tls_s=3, first_byte_s=4, first_token_s=5, chunk_s=7, total_s=7),
            slow=Slow(connect_s=1, models_s=None, chat_s=2, first_token_s=3, gap_s=4),
            canary=Canary(prompt="p", expect="e+", max_tokens=7, body={"seed": 1}),
            headers=Headers(requests=100, tokens=200, window_s=10, expected_on=("chat",), judge_remaining=False),
            budget=Budget(share=0.125, tokens_a_day=None, cost_a_day=0.5, keep_free_requests=9),
            prices=Prices(prompt_per_million=1, completion_per_million=2.5, currency="EUR"),
            objective=Objective(availability=0.999, window_s=7 * 86_400),
            extra_headers={"X-One": Secret("plain"), "X-Two": Secret(ODD)},
        ),
    )
    assert found.location == "fra1"
    assert found.history == HistorySettings(
        url=f"postgresql://probe:{ODD}@db/probes", keep_results_s=864_000, keep_hours_s=86_400_000
    )
    assert found.serve == Serve(host="0.0.0.0", port=1234, late_s=1, grace_s=0, otlp=True)
    assert found.alerts == Alerts(webhook=Secret("https://hooks.test/secret"), repeat_s=5400, scale=0.01)
    assert found.maintenance == (
        Maintenance(
            name="once",
            targets=("prod/*",),
            start=datetime(2026, 11, 30, 1, tzinfo=UTC),
            end=datetime(2026, 11, 30, 3, tzinfo=UTC),
        ),
        Maintenance(name="weekly", days=(6, 0), from_s=84_600, to_s=3600),
    )
    assert found.warnings == ()
    assert KEY not in repr(found)
    assert ODD not in repr(found)


def test_defaults_lie_under_each_target_setting_by_setting(tmp_path: Path) -> None:
    """What a target gives for itself goes before the defaults, and leaves their other settings of a section."""
    text = """
    [defaults]
    key_env = "A_KEY"
    interval = "30s"
    [defaults.slow]
    chat = "1s"
    gap = "2s"
    [[target]]
    name = "one"
    slow.chat = "3s"
    [[target]]
    name = "two"
    key_file = "key"
    interval = "10s"
    """
    (tmp_path / "key").write_text("of-a-file\n")
    (tmp_path / "key").chmod(0o600)
    one, two = read(tmp_path, text).targets
    assert (one.slow, one.interval_s, one.key_source) == (Slow(chat_s=3, gap_s=2), 30, "$A_KEY")
    assert (two.slow, two.interval_s, two.key_source) == (Slow(chat_s=1, gap_s=2), 10, "key")
    assert two.api_key == Secret("of-a-file")
    assert one.timeouts.total_s == 22.5
    assert two.timeouts == Timeouts(
        dns_s=5, connect_s=5, tls_s=5, first_byte_s=7.5, first_token_s=7.5, chunk_s=7.5, total_s=7.5
    )


def test_a_key_of_systemd_lies_where_it_says(tmp_path: Path) -> None:
    """`$CREDENTIALS_DIRECTORY` in a file's name is put in, and the newline at the end of the file is not of the key."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "tensorix").write_text(f"{KEY}\r\n")
    (folder / "tensorix").chmod(0o400)
    text = HERE + 'key_file = "$CREDENTIALS_DIRECTORY/tensorix"'
    (target,) = read(tmp_path, text, {"CREDENTIALS_DIRECTORY": str(folder)}).targets
    assert target.api_key == Secret(KEY)


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path) -> None:
    """A key file that is open to others is used, with a warning; and so is one sent without TLS."""
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    text = '[[target]]\nname = "a"\nbase_url = "http://192.0.2.1/v1"\nkey_file = "key"\n'
    assert read(tmp_path, text).warnings == (
        "the file it names can be read by everybody on this machine: chmod o-rwx it",
        "target 1 (a): its key goes to 192.0.2.1 without TLS",
    )


@pytest.mark.parametrize(
    ("lines", "url"),
    [
        ('url = "${WHOLE}"', "postgresql://u:p%40@h/d"),
        ('url = "postgresql://u:${PART}@h/d"', "postgresql://u:p%40%2F@h/d"),
        (
            'url = "postgresql://u@h:5/d?sslmode=require"\npassword_env = "PART"',
            "postgresql://u:p%40%2F@h:5/d?sslmode=require",
        ),
        ('url = "/var/lib/${NAME}.sqlite"', "/var/lib/h.sqlite"),
        ('url = "none"', None),
    ],
)
def test_passwords_of_a_history_come_from_the_environment(tmp_path: Path, lines: str, url: str | None) -> None:
    """Variables are put into its address, percent-encoded where they are a part of one."""
    environ = {"WHOLE": "postgresql://u:p%40@h/d", "PART": "p@/", "NAME": "h"}
    assert read(tmp_path, f"[history]\n{lines}\n{HERE}", environ).history.url == url


def test_a_file_is_found_beside_the_configuration(tmp_path: Path) -> None:
    """Names of files are taken from where the configuration lies, not from where the command runs."""
    assert read(tmp_path, f'[history]\nurl = "h.sqlite"\n{HERE}').history.url == str(tmp_path / "h.sqlite")


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, and is called so in messages."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(HERE.encode())))
    assert read_configuration("-", {}).targets[0].name == "prod"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a = 1")))
    with pytest.raises(ConfigurationError, match=r"^standard input, line 1: a: there is no such setting"):
        read_configuration("-", {})


# What is said of mistakes.


def _mistakes() -> list[tuple[str, str]]:
    blocks = Path(__file__).with_name("settings_mistakes.txt").read_text(encoding="utf-8").split("-----\n")[1:]
    words = {"HERE\n": HERE, "{KEY}": KEY, "{ODD}": ODD, "{ODDS}": ODD[2:], "DEEP": "[" * 5000}
    found = []
    for block in blocks:
        text, said = block.rsplit("=> ", 1)
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        found.append((text, said.rstrip("\n")))
    return found


MISTAKES = _mistakes()


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said.partition(": ")[0] for _, said in MISTAKES])
def test_a_mistake_is_named_with_its_line_and_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    """One mistake is one line: the file, the line, the target, the setting, and what would be right; never a key."""
    (tmp_path / "empty.key").write_text("\n")
    (tmp_path / "one.key").write_text("word")
    (tmp_path / "two.key").write_text("two words")
    (tmp_path / "hook").write_text("https://hooks.test/x")
    (told,) = mistakes(tmp_path, text)
    found = told.removeprefix("probes.toml").lstrip(",: ")
    if said.endswith("choose from"):
        assert found.startswith(said)
    else:
        assert found == said
    assert "\n" not in told
    assert KEY not in told
    assert ODD not in told


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Nobody has to mend a file line by line, and one mistake brings forth no others."""
    told = mistakes(
        tmp_path,
        'locaton = "x"\n[defaults]\ninterval = "never"\n[defaults.timeouts]\ntotal = "9x"\n[[target]]\nname = "a"\n'
        f'api_key = "{KEY}"\ntimeouts.total = "80s"\nchecks = ["tsl"]\n[[target]]\nname = "a"\nkey_env = "NO_KEY"\n',
    )
    assert [re.search(r"line (\d+)", one)[1] for one in told] == ["1", "3", "5", "8", "10", "12", "13"]  # type: ignore[index]


def test_one_bad_value_hides_no_other_mistake(tmp_path: Path) -> None:
    """What is wrong beside a value that cannot be read is told with it; targets without a name are not offered."""
    told = mistakes(
        tmp_path,
        '[[target]]\nbase_url = "http://127.0.0.1:1/v1"\nchecks = ["tls", "tls", "foo"]\nevery.foo = "5m"\n'
        'every.chat = "5"\nextra_headers.Authorization = "x"\nextra_headers.x-a = 3\nextra_headers."a b" = "y"\n'
        "budget.cost_a_day = 5\nbudget.share = 7\n"
        '[[target]]\nname = "b"\nkey_env = "A_KEY"\n'
        '[[maintenance]]\nname = "m"\ndays = ["mon"]\ntargets = ["x*"]\n',
    )
    lines = [re.search(r"line (\d+): (?:\w+ \d(?: \(.*?\))?[:,] )?([^:]*)", one).groups() for one in told]  # type: ignore[union-attr]
    assert lines == [
        ("1", "it has no name"),
        ("3", "checks, entry 3"),
        ("3", "checks"),
        ("4", "every.foo"),
        ("5", "every.chat"),
        ("6", "extra_headers.Authorization"),
        ("7", "extra_headers.x-a"),
        ("8", "extra_headers.a b"),
        ("9", "budget.cost_a_day"),
        ("10", "budget.share"),
        ("17", "targets, entry 1"),
    ]
    assert told[-1].endswith("no target is called 'x*': choose from b")


def test_what_is_slow_only_after_the_end_is_warned_of(tmp_path: Path) -> None:
    """A bound for slow answers that the timeout comes before says nothing; of the defaults no word is lost."""
    configuration = read(tmp_path, HERE + 'interval = "5s"\nslow.chat = "50s"\n')
    (warning,) = [one for one in warnings_of(configuration) if "slow" in one]
    assert warning.startswith("prod: slow.chat (50s) is never reached: timeouts.total (3s750ms) ends the request")
    assert "slow" not in "".join(warnings_of(read(tmp_path, HERE + 'interval = "5s"\n')))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "it cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "it cannot be read: Is a directory"),
        (lambda path: path.write_bytes(b"# ok\nlocation = '\xff'"), "line 2: it is no UTF-8 text"),
    ],
    ids=["missing", "a folder", "not UTF-8"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any, said: str) -> None:
    """Why a file cannot be read is said with its name, without a traceback."""
    path = tmp_path / "probes.toml"
    make(path)
    with pytest.raises(ConfigurationError) as raised:
        read_configuration(path, {})
    (told,) = raised.value.mistakes
    assert re.sub(r"^[:, ]+", "", told.removeprefix(str(path))) == said


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    """What editors of Windows write is read, and lines are counted as they show them."""
    path = tmp_path / "probes.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (HERE + "\nslow.gap = 5").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigurationError, match=r"line 5: target 1 \(\"prod\"\), slow\.gap: 5 is no length of time"):
        read_configuration(path, {})


# Everything that there is.


def _settings_of(model: type[Section], path: tuple[str, ...] = ()) -> set[str]:
    found = set()
    for field in model.model_fields.values():
        own = field.annotation
        if isinstance(own, type) and issubclass(own, BaseModel):
            found |= _settings_of(own, (*path, str(field.alias)))  # type: ignore[arg-type]
        else:
            found.add(".".join((*path, str(field.alias))))
    return found


def test_every_field_of_the_values_can_be_set() -> None:
    """No field of `settings` is out of reach of a file: each has its name there, without the unit."""
    otherwise = {"api_key", "key_source", "webhook", "source", "warnings", "targets", "maintenance"}

    def names(kind: Any) -> set[str]:
        return {field.name.removesuffix("_s") for field in fields(kind)} - otherwise

    def of(model: type[Section]) -> set[str]:
        return {str(field.alias) for field in model.model_fields.values()}

    assert names(Target) <= of(TargetSection)
    assert {"key_env", "key_file"} <= of(TargetSection)
    assert names(Maintenance) <= of(MaintenanceSection)
    assert names(Configuration) <= of(Root)
    for name, field in [*Root.model_fields.items(), *TargetSection.model_fields.items()]:
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            kind = {"history": HistorySettings, "serve": Serve, "alerts": Alerts, "prices": Prices}.get(name)
            known = kind or type(getattr(Target(name="x"), name))
            assert is_dataclass(known)
            assert names(known) <= of(section), name


def test_the_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    """The example is a configuration that can be used; with each # before a setting taken away it means the same."""
    example = example_configuration()
    environ = {"TENSORIX_API_KEY": KEY}
    plain = read(tmp_path, example, environ)
    assert plain.warnings == ()
    # Its last window is an example of another kind, and so are options and headers.
    bare = re.sub(r"(?m)^#\[target\.options.*$|^X-Team.*$|^#X-Team.*$|^#\[\[maintenance\]\](.|\n)*", "", example)
    whole = re.sub(r"(?m)^#(?=[a-z\[])", "", bare)
    data = tomllib.loads(whole)
    given = {name for name in data if name not in ("target", "maintenance", "defaults")}
    shown = {f"{name}.{key}" for name in given if isinstance(data[name], dict) for key in data[name]}
    (target,) = data["target"]
    shown |= {name for name in given if not isinstance(data[name], dict)}
    inside = {f"{name}.{key}" for name, value in target.items() if isinstance(value, dict) for key in value} | set(
        target
    )
    assert shown == _settings_of(Root) - {"defaults", "target", "maintenance"}
    assert _settings_of(TargetSection) - inside == {"options"}
    shown_windows = {key for key in _settings_of(MaintenanceSection) if re.search(rf"(?m)^#?{key} =", example)}
    assert shown_windows == _settings_of(MaintenanceSection)

    # key_env stands commented as "none": that is not the key of the defaults.
    same = read(tmp_path, re.sub(r'(?m)^key_(env|file) = "none".*$', "", whole), environ)
    assert same.targets[0].prices == Prices()
    assert replace(same.targets[0], prices=None, every_s={}, extra_headers={}) == replace(
        plain.targets[0], extra_headers={}, every_s={}
    )
    assert (same.history, same.serve, same.alerts) == (plain.history, plain.serve, plain.alerts)


# When maintenance is.


def _at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("when", "covered"),
    [
        ("2026-11-29T01:59:59+00:00", False),
        ("2026-11-29T02:00:00+00:00", True),
        ("2026-11-29T03:59:59+00:00", True),
        ("2026-11-29T04:00:00+00:00", False),
        ("2026-11-28T03:00:00+00:00", False),
        ("2026-11-29T03:30:00+02:00", False),
    ],
)
def test_a_weekly_window_is_of_its_days_in_utc(when: str, covered: bool) -> None:
    """It begins with its first second and is over at its end, on its days only."""
    window = Maintenance(name="w", days=(6,), from_s=7200, to_s=14_400)
    assert window.covers("a", _at(when)) is covered


@pytest.mark.parametrize(
    ("when", "covered"),
    [
        ("2026-11-29T22:59:59+00:00", False),
        ("2026-11-29T23:00:00+00:00", True),
        ("2026-11-30T00:59:59+00:00", True),
        ("2026-11-30T01:00:00+00:00", False),
        ("2026-11-30T23:30:00+00:00", False),
        ("2026-11-29T00:30:00+00:00", False),
    ],
)
def test_a_window_over_midnight_ends_on_the_day_after(when: str, covered: bool) -> None:
    """From Sunday 23:00 to 01:00 is Monday's first hour, too, and not Sunday's."""
    window = Maintenance(name="w", days=(6,), from_s=82_800, to_s=3600)
    assert window.covers("a", _at(when)) is covered


def test_a_window_of_once_is_of_its_targets_only() -> None:
    """It covers the targets that its patterns match, from its start up to its end."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    window = Maintenance(name="w", targets=("prod-*", "x"), start=start, end=end)
    inside = _at("2026-01-01T12:00:00+00:00")
    assert [window.covers(name, inside) for name in ("prod-eu", "x", "Prod-eu", "dev")] == [True, True, False, False]
    assert window.covers("x", _at("2026-01-01T00:00:00+00:00"))
    assert not window.covers("x", _at("2026-01-02T00:00:00+00:00"))


# Whatever stands in a file.

_NAMES = [
    *sorted({name.rpartition(".")[2] for name in _settings_of(TargetSection) | _settings_of(Root)}),
    "api_key",
    "x",
]
_WRITTEN = f"""5 -1 1.5 nan true '5s' 'none' '' 'A_KEY' [] ['tls'] [1] {{}} {{a=1}} '50%' 1979-05-27 07:32:00
1979-05-27T07:32:00Z '{KEY}' '{ODD}' ['{ODD}'] {{a='{KEY}'}}"""
_VALUES = st.sampled_from(_WRITTEN.split())
_HEADERS = ["[history]", "[serve]", "[alerts]", "[defaults]", "[[target]]", "[target.slow]", "[[maintenance]]"]
_HEADERS += ["[target.canary.body]", "[defaults.timeouts]", "[target.extra_headers]", "[target.every]", "[odd]"]
_LINES = st.one_of(
    st.sampled_from(_HEADERS), st.tuples(st.sampled_from(_NAMES), _VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_LINES, max_size=12))
def test_whatever_stands_in_a_file_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    """No file gives a traceback or shows a key, and each of its mistakes has a line in the file."""
    folder = tmp_path_factory.getbasetemp()
    try:
        configuration = read(folder, "\n".join(lines))
    except ConfigurationError as error:
        for told in error.mistakes:
            assert KEY not in told
            assert ODD not in told
            line = re.match(
                rf"{re.escape(str(folder))}/probes\.toml(?:, line (\d+)(?:, column \d+|, at the end)?)?: ", told
            )
            assert line, told
            assert line[1] is None or 1 <= int(line[1]) <= max(1, len(lines))
            assert line[1] is not None or "there is no target" in told
    else:
        assert configuration.targets
        assert KEY not in repr(configuration)
