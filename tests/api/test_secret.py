"""A key is never shown: not by the object that holds it, not in text that repeats it in any spelling or cut in two."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import html
import json
import pickle
import random
import subprocess
import sys
import traceback
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from tensorix_api.secret import Redactor, Secret
from tensorix_api.settings import Settings

KEY = "mdUp-Key_77qXz42LmNoP9"
ODD_KEYS = [
    KEY,
    "tnsr/with+slash=and%percent~",
    "quo\"te's\\and<angles>&amp",
    "sk-proj-" + "aB3" * 40,
    "a.b.c:d@e?f#g[h]{i}(j)*k$l^m|n",
    "f" * 32,
    "k9zw",
    "ключ-é-😀",
]


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        "{!r:>40}".format,
        "%s".__mod__,
        lambda secret: f"{secret!s:.30}",
        lambda secret: repr([secret, {"key": secret}]),
        lambda secret: repr(Settings(api_key=secret)),
        lambda secret: str([getattr(secret, name) for name in dir(secret) if "__reveal" in name]),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: secret.alias,
        lambda secret: repr(Redactor(secret)) + repr(vars(Redactor(secret))),
    ],
)
def test_nothing_shows_it(show: Callable[[Secret], str]) -> None:
    """No way of writing the object down holds the key."""
    assert KEY not in show(Secret(KEY))


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_it_is_not_taken_elsewhere(take: Callable[[Secret], object]) -> None:
    """Pickle, copy and JSON refuse, with a message that has no key in it."""
    with pytest.raises(TypeError) as caught:
        take(Secret(KEY))
    assert KEY not in str(caught.value)


def test_settings_are_not_pickled_with_it() -> None:
    """What holds a key cannot be pickled or turned into a dictionary by copying."""
    settings = Settings(api_key=Secret(KEY))
    with pytest.raises(TypeError, match="environment variable"):
        pickle.dumps(settings)
    with pytest.raises(TypeError, match="environment variable"):
        dataclasses.asdict(settings)


def test_a_traceback_with_locals_does_not_show_it() -> None:
    """Neither a secret nor a redactor among the locals of a frame gives the key away."""

    def fail(secret: Secret, redact: Redactor) -> None:
        alias = secret.alias
        raise RuntimeError(redact(f"wrong key {secret.reveal()} of {alias}"))

    try:
        fail(Secret("-".join(["mdUp", "Key_77qXz42LmNoP9"])), Redactor(Secret(KEY)))
    except RuntimeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "wrong key [redacted]" in shown
    assert "Secret('**')" in shown
    assert KEY not in shown


def test_it_compares_by_value_and_only_with_its_kind() -> None:
    """Equal secrets are one in a set; none equals its own text; an empty one is false."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
    assert not Secret("")
    assert Secret("a")


def test_the_alias_tells_keys_apart() -> None:
    """The same for the same key, another for another; of a fixed look, and no plain hash of the key."""
    alias = Secret(KEY).alias
    assert alias == Secret(KEY).alias != Secret(KEY + "x").alias
    assert alias.startswith("key-")
    assert len(bytes.fromhex(alias[4:])) == 4
    assert all(alias[4:] not in hashlib.new(name, KEY.encode()).hexdigest() for name in ("md5", "sha1", "sha256"))


def base64_at(key: str, before: int) -> str:
    return base64.b64encode(b"~" * before + key.encode() + b"~").decode()


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "percent": lambda key: quote(key, safe=""),
    "percent, slashes kept": quote,
    "form": quote_plus,
    "percent, lower case": lambda key: quote(key, safe="").lower(),
    "percent, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "percent, every byte": lambda key: "".join(f"%{byte:02X}" for byte in key.encode()),
    "JSON": lambda key: json.dumps(key)[1:-1],
    "JSON in JSON": lambda key: json.dumps(json.dumps(key)[1:-1])[1:-1],
    "JSON with its slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "JSON, every character": lambda key: "".join(
        f"\\u{key.encode('utf-16-be')[at]:02x}{key.encode('utf-16-be')[at + 1]:02x}"
        for at in range(0, len(key.encode("utf-16-be")), 2)
    ),
    "Python": lambda key: repr(key)[1:-1],
    "HTML": html.escape,
    "HTML, by number": lambda key: "".join(f"&#{ord(character)};" for character in key),
    "HTML, by hexadecimal number": lambda key: "".join(f"&#x{ord(character):X};" for character in key),
    "hexadecimal": lambda key: key.encode().hex(),
    "HEXADECIMAL": lambda key: key.encode().hex().upper(),
    "SHA-256": lambda key: hashlib.sha256(key.encode()).hexdigest(),
    "MD5": lambda key: hashlib.md5(key.encode()).hexdigest(),
}


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_taken_out(spelling: str, key: str) -> None:
    """Wherever it stands in the text, however often."""
    written = SPELLINGS[spelling](key)
    shown = Redactor(Secret(key))(f"no {written}: <{written}>")
    assert shown == "no [redacted]: <[redacted]>"


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if len(key) > 6])
@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("variant", ["standard", "for URLs", "percent"])
def test_base64_is_taken_out_at_every_alignment(key: str, before: int, variant: str) -> None:
    """Inside a longer base64 text the key starts at one of three bit offsets; no decoder gets it back."""
    encoded = base64_at(key, before)
    written = {
        "standard": encoded,
        "for URLs": encoded.replace("+", "-").replace("/", "_"),
        "percent": quote(encoded, safe=""),
    }[variant]
    shown = Redactor(Secret(key))(f"Authorization: {written}")
    assert "[redacted]" in shown
    left = shown.removeprefix("Authorization: ").partition("[redacted]")
    assert len(left[0] + left[2]) <= len(written) - len(base64.b64encode(key.encode()).rstrip(b"=")) + 4


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if len(key) > 6])
def test_text_that_was_cut_inside_the_key_shows_no_six_of_its_characters(key: str) -> None:
    """Who cut the text before us may have left half a key that equals no spelling of it."""
    redact = Redactor(Secret(key))
    for spelling in ("plain", "percent", "JSON", "hexadecimal", "SHA-256"):
        written = SPELLINGS[spelling](key)
        for cut in range(6, len(written)):
            for text in (
                f"wrong: {written[:cut]}",
                f"{written[cut - 6 :]} is wrong",
                written[:cut],
                written[cut - 6 :],
            ):
                shown = redact(text)
                assert "[redacted]" in shown, (spelling, cut)
                assert all(written[at : at + 6] not in shown for at in range(len(written) - 5)), (spelling, cut)


@pytest.mark.parametrize("limit", [1, 5, 12, 20, 30, 500])
def test_the_limit_never_cuts_a_key_in_two(limit: int) -> None:
    """Redacted first, then cut: no start of the key is left at the end."""
    shown = Redactor(Secret(KEY))(f"wrong key {KEY} {'x' * 600}", limit)
    assert len(shown) == limit
    assert KEY[:6] not in shown
    assert shown.endswith("…")


def test_keys_in_random_noise_are_found() -> None:
    """300 random texts around random spellings of random keys."""
    rng = random.Random(7)
    alphabet = "abcXYZ019-_/+=%&;\\\"' \n.:é"
    for _ in range(300):
        key = "".join(rng.choices([chr(code) for code in range(0x21, 0x7F)], k=rng.randrange(8, 60)))
        written = SPELLINGS[rng.choice(list(SPELLINGS))](key)
        noise = ["".join(rng.choices(alphabet, k=rng.randrange(30))) for _ in range(2)]
        assert written not in Redactor(Secret(key))(noise[0] + written + noise[1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdef0123456789 is wrong", "Authorization: Bearer [redacted] is wrong"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", "authorization: basic [redacted]"),
        ("your key sk-abc123DEF456 is wrong", "your key [redacted] is wrong"),
        ("sk-short", "sk-short"),
        ("nothing to hide", "nothing to hide"),
        ("two\nlines\tand\x1b[31m colour\x00", "two lines and [31m colour "),
        ("", ""),
    ],
)
def test_credentials_of_others_go_by_their_look(text: str, shown: str) -> None:
    """Also without a key of our own; control characters become spaces."""
    assert Redactor()(text) == shown
    assert Redactor(None, Secret(""), Secret(KEY))(text) == shown


def test_several_secrets() -> None:
    """One that contains another is taken out whole."""
    redact = Redactor(Secret("inner-key"), Secret("outer-inner-key-more"), Secret("third.key"))
    assert redact("outer-inner-key-more, inner-key, third.key") == "[redacted], [redacted], [redacted]"


PATHOLOGICAL = {
    "backslashes": "\\" * 65_536,
    "escapes that never end": "\\\\u00" * 11_000,
    "percent signs": "%25" * 22_000,
    "ampersands": "&amp;" * 13_000,
    "blanks after a scheme": "bearer" + " " * 65_536,
    "the key's beginning": KEY[:-1] * 3_000,
}
NESTED_KEYS = [KEY, '\\"' * 20 + "Z", "\\" * 20 + "Z", "%25" * 20 + "Z", random.Random(5).randbytes(2_000).hex()]
REDACT = """
import json, sys
from tensorix_api.secret import Redactor, Secret
key, *texts = json.load(sys.stdin)
print(json.dumps([Redactor(Secret(key))(text) for text in texts]))
"""


@pytest.mark.parametrize("key", NESTED_KEYS, ids=["usual", "escaped quotes", "backslashes", "percents", "long"])
def test_no_text_takes_long(key: str) -> None:
    """Texts of 64 KiB made to have patterns try again are done in a process that is killed after 10 seconds."""
    asked = json.dumps([key, *PATHOLOGICAL.values(), key[:-1] * (65_536 // len(key))])
    done = subprocess.run([sys.executable, "-c", REDACT], input=asked, capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert len(shown) == len(PATHOLOGICAL) + 1
    assert all(len(text) <= 500 for text in shown)


def test_a_long_secret_takes_little_memory() -> None:
    """A cookie of 4,000 characters is no table of its beginnings and ends."""
    rng = random.Random(3)
    cookie = "".join(chr(rng.randrange(0x21, 0x7F)) for _ in range(4_000))
    tracemalloc.start()
    try:
        redact = Redactor(Secret(cookie))
        assert redact(f"no {cookie}: {json.dumps(cookie)[1:-1]}, {cookie[:2_000]}") == (
            "no [redacted]: [redacted], [redacted]"
        )
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("key", [key for key in ODD_KEYS if len(key) > 6])
@pytest.mark.parametrize("spelling", ["plain", "percent, every byte", "JSON, every character", "HTML", "SHA-256"])
def test_only_the_beginning_is_looked_at_and_no_key_is_seen_by_half(spelling: str, key: str) -> None:
    """Wherever a key lies across the place up to which a long text is looked at, also where others went before it."""
    written = SPELLINGS[spelling](key)
    redact = Redactor(Secret(key))
    for filled in (0, 40):
        before = written * filled
        for at in range(0, len(written) + 80, 17):
            shown = redact(before + "x" * at + f" {written} " + written * 200 + "y" * 10_000, 80)
            left = shown.replace("[redacted]", "|").strip("x…y ")
            assert len(shown) <= 80
            assert all(written[place : place + 6] not in left for place in range(len(written) - 5)), (filled, at)


def test_what_lies_beyond_is_not_looked_at() -> None:
    """The work is that of the beginning, however long the text: no more than a few thousand characters are read."""

    taken: list[int] = []

    class Text(str):
        __slots__ = ()

        def __getitem__(self, places: object) -> str:
            part = super().__getitem__(places)  # type: ignore[index]
            taken.append(len(part))
            return part

    shown = Redactor(Secret(KEY))(Text(f"no {KEY} " * 100_000))
    assert shown.startswith("no [redacted] no [redacted] ")
    assert shown.endswith("…")
    assert len(taken) == 1
    assert taken[0] < 4_000


def test_a_word_of_other_case_at_an_edge_is_no_part_of_a_key() -> None:
    """A message that begins with a word like the key's end, but for its case, is shown whole."""
    redact = Redactor(Secret("sk-invalid"))
    assert redact("Invalid API key provided") == "Invalid API key provided"
    assert "invalid" not in redact("invalid is what a cut left")
