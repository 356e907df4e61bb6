"""Rate-limit headers: each spelling that servers use, and each oddity, in a table with a sentence a row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorix_api.ratelimit_headers import RateLimits, parse_duration_ns, read_rate_limits

QUIETLY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
SECOND = 1_000_000_000
NOW = 1_795_402_984 * SECOND  # 2026-11-23 03:03:04 UTC
DATE = "Mon, 23 Nov 2026 03:03:04 GMT"
KEY = "x-ratelimit-api_key-"
OPENAI = "x-ratelimit-"


def limits(*headers: tuple[str, str]) -> dict[str, Any]:
    """What was read, without the fields that are None."""
    return {name: value for name, value in asdict(read_rate_limits(headers, NOW)).items() if value is not None}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        pytest.param([], {}, id="no headers, as a gateway answers streams, errors and /v1/models"),
        pytest.param([("content-type", "text/plain"), ("x-request-id", "1")], {}, id="none that speak of limits"),
        pytest.param(
            [(KEY + "remaining-requests", "59"), (KEY + "remaining-tokens", "1999989")],
            {"remaining_requests": 59, "remaining_tokens": 1_999_989, "spelling": "api_key"},
            id="the two headers that Tensorix documents",
        ),
        pytest.param(
            [
                *((KEY + "remaining-requests", "59"), (KEY + "limit-requests", "60")),
                *((KEY + "remaining-tokens", "1999989"), (KEY + "limit-tokens", "2000000")),
                (KEY + "limit-tokens", "2000000"),
            ],
            {
                "remaining_requests": 59,
                "limit_requests": 60,
                "remaining_tokens": 1_999_989,
                "limit_tokens": 2_000_000,
                "spelling": "api_key",
            },
            id="a LiteLLM gateway's four, one of them twice",
        ),
        pytest.param(
            [("retry-after", "60"), ("rate_limit_type", "requests"), ("reset_at", "2026-11-23 03:44:24 UTC")],
            {"retry_after_ns": 60 * SECOND},
            id="a LiteLLM gateway's 429: Retry-After goes before reset_at",
        ),
        pytest.param(
            [("reset_at", "2026-11-23 03:03:24 UTC")],
            {"retry_after_ns": 20 * SECOND},
            id="reset_at where it stands alone",
        ),
        pytest.param(
            [
                *((OPENAI + "limit-requests", "60"), (OPENAI + "limit-tokens", "150000")),
                *((OPENAI + "remaining-requests", "59"), (OPENAI + "remaining-tokens", "149984")),
                *((OPENAI + "reset-requests", "1s"), (OPENAI + "reset-tokens", "6m0s")),
            ],
            {
                "limit_requests": 60,
                "limit_tokens": 150_000,
                "remaining_requests": 59,
                "remaining_tokens": 149_984,
                "reset_requests_ns": SECOND,
                "reset_tokens_ns": 360 * SECOND,
                "spelling": "openai",
            },
            id="OpenAI's six",
        ),
        pytest.param(
            [("x-ratelimit-model_per_key-remaining-requests", "5")],
            {"remaining_requests": 5, "spelling": "scoped"},
            id="another scope than the key",
        ),
        pytest.param(
            [("x-ratelimit-model-remaining-requests", "5"), ("x-ratelimit-team-remaining-requests", "9")],
            {"remaining_requests": 5, "spelling": "scoped"},
            id="two scopes are no contradiction",
        ),
        pytest.param(
            [("X-RateLimit-Limit", "100"), ("X-RateLimit-Remaining", "7"), ("X-RateLimit-Reset", "1795403044")],
            {"limit_requests": 100, "remaining_requests": 7, "reset_requests_ns": 60 * SECOND, "spelling": "plain"},
            id="the plain three, with the reset as a Unix time",
        ),
        pytest.param(
            [("RateLimit-Limit", "100, 100;w=60"), ("RateLimit-Remaining", "7"), ("RateLimit-Reset", "30")],
            {"limit_requests": 100, "remaining_requests": 7, "reset_requests_ns": 30 * SECOND, "spelling": "ietf"},
            id="the older drafts of the IETF",
        ),
        pytest.param(
            [("RateLimit", "limit=100, remaining=50, reset=5"), ("RateLimit-Policy", "100;w=60")],
            {"limit_requests": 100, "remaining_requests": 50, "reset_requests_ns": 5 * SECOND, "spelling": "ietf"},
            id="drafts 6 and 7",
        ),
        pytest.param(
            [("RateLimit-Policy", "100;w=60")], {"limit_requests": 100, "spelling": "ietf"}, id="draft 7's policy"
        ),
        pytest.param(
            [("RateLimit", '"default";r=50;t=30'), ("RateLimit-Policy", '"default";q=100;w=60')],
            {"limit_requests": 100, "remaining_requests": 50, "reset_requests_ns": 30 * SECOND, "spelling": "ietf"},
            id="draft 8 and later",
        ),
        pytest.param(
            [
                ("RateLimit", '"rpm";r=50;t=30, "tpm";r=900;t=20'),
                ("RateLimit-Policy", '"rpm";q=60;w=60, "tpm";q=1000;w=60;qu="tokens"'),
            ],
            {
                "limit_requests": 60,
                "remaining_requests": 50,
                "reset_requests_ns": 30 * SECOND,
                "spelling": "ietf",
                "limit_tokens": 1_000,
                "remaining_tokens": 900,
                "reset_tokens_ns": 20 * SECOND,
            },
            id="two policies of which one counts tokens",
        ),
        pytest.param(
            [
                ("RateLimit", '"second";r=1;t=1, "minute";r=50;t=30'),
                ("RateLimit-Policy", '"second";q=2;w=1, "minute";q=60'),
            ],
            {"limit_requests": 2, "remaining_requests": 1, "reset_requests_ns": SECOND, "spelling": "ietf"},
            id="of two policies for requests the first, whole",
        ),
        pytest.param(
            [("RateLimit", '"flow";r=5;t=1'), ("RateLimit-Policy", '"flow";q=10;qu="content-bytes"')],
            {},
            id="a policy that counts bytes says nothing here",
        ),
        pytest.param(
            [("RateLimit", '"tokens-a-minute";r=5')], {"remaining_tokens": 5, "spelling": "ietf"}, id="by its name"
        ),
        pytest.param([("retry-after-ms", "1500")], {"retry_after_ns": 1_500_000_000}, id="Azure's retry-after-ms"),
        pytest.param(
            [("retry-after", "2"), ("retry-after-ms", "1500")],
            {"retry_after_ns": 1_500_000_000},
            id="the finer unit first",
        ),
        pytest.param([("Retry-After", "0.5")], {"retry_after_ns": SECOND // 2}, id="a fraction of a second"),
        pytest.param(
            [("Retry-After", "Mon, 23 Nov 2026 03:04:04 GMT")],
            {"retry_after_ns": 60 * SECOND},
            id="Retry-After as a date",
        ),
        pytest.param(
            [("Date", "Mon, 23 Nov 2026 05:00:00 GMT"), ("Retry-After", "Mon, 23 Nov 2026 05:00:09 GMT")],
            {"retry_after_ns": 9 * SECOND},
            id="a date is measured from the server's own Date, whose clock may be off",
        ),
        pytest.param(
            [("Retry-After", "Mon, 23 Nov 2020 03:04:04 GMT")], {"retry_after_ns": 0}, id="a date in the past"
        ),
        pytest.param([("Retry-After", "60, 60")], {"retry_after_ns": 60 * SECOND}, id="Retry-After twice, joined"),
        pytest.param(
            [(OPENAI + "remaining-requests", "1"), (KEY + "remaining-requests", "2")],
            {"remaining_requests": 2, "spelling": "api_key"},
            id="of two spellings the documented one",
        ),
        pytest.param(
            [(OPENAI + "remaining-requests", "1"), (KEY + "remaining-requests", "")],
            {"remaining_requests": 1, "spelling": "openai", "anomaly": KEY + "remaining-requests is empty"},
            id="of two spellings the one that says something",
        ),
        pytest.param(
            [(KEY + "remaining-requests", " 59 ")],
            {"remaining_requests": 59, "spelling": "api_key"},
            id="blanks around it",
        ),
        pytest.param(
            [(KEY + "remaining-tokens", "1999989.0")],
            {"remaining_tokens": 1_999_989, "spelling": "api_key"},
            id="a float",
        ),
        pytest.param(
            [(KEY + "remaining-tokens", "2e6")],
            {"remaining_tokens": 2_000_000, "spelling": "api_key"},
            id="an exponent",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "59, 59")],
            {"remaining_requests": 59, "spelling": "api_key"},
            id="twice, joined",
        ),
        pytest.param(
            [(OPENAI + "reset-requests", "1s, 1s")],
            {"reset_requests_ns": SECOND, "spelling": "openai"},
            id="a reset, joined",
        ),
        pytest.param(
            [(OPENAI + "limit-requests", "60, 60;w=60"), (KEY + "limit-tokens", "9, 9;w=1, 500;w=60;burst=7")],
            {"limit_tokens": 9, "spelling": "api_key"},
            id="a limit followed by policies, which are no second value",
        ),
        pytest.param(
            [(OPENAI + "limit-requests", "60, 60;w=60")],
            {"limit_requests": 60, "spelling": "openai"},
            id="a limit followed by its policy",
        ),
        pytest.param(
            [(OPENAI + "limit-requests", "60;w=60")],
            {"limit_requests": 60, "spelling": "openai"},
            id="a limit that is its policy",
        ),
        pytest.param(
            [("x-ratelimit-limit", "60, 60;w=60")],
            {"limit_requests": 60, "spelling": "plain"},
            id="a plain limit followed by its policy",
        ),
        pytest.param(
            [(OPENAI + "limit-requests", "60, 61, 60;w=60")],
            {
                "limit_requests": 60,
                "spelling": "openai",
                "anomaly": OPENAI + "limit-requests came twice with different values",
            },
            id="twice and not the same, beside a policy",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "59"), (KEY + "remaining-requests", "58")],
            {
                "remaining_requests": 59,
                "spelling": "api_key",
                "anomaly": KEY + "remaining-requests came twice with different values",
            },
            id="twice and not the same: the first, and it is said",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "59, 58")],
            {
                "remaining_requests": 59,
                "spelling": "api_key",
                "anomaly": KEY + "remaining-requests came twice with different values",
            },
            id="the same, joined by a proxy",
        ),
        pytest.param(
            [(KEY + "remaining-requests", ""), (KEY + "remaining-requests", "5")],
            {"remaining_requests": 5, "spelling": "api_key", "anomaly": KEY + "remaining-requests is empty"},
            id="twice, of which once empty",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "")],
            {"spelling": "api_key", "anomaly": KEY + "remaining-requests is empty"},
            id="empty",
        ),
        pytest.param(
            [(KEY + "remaining-tokens", "-5")],
            {"remaining_tokens": -5, "spelling": "api_key", "anomaly": KEY + "remaining-tokens is negative"},
            id="negative: kept as it is, and it is said",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "many")],
            {"spelling": "api_key", "anomaly": KEY + "remaining-requests is no number"},
            id="not a number",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "nan"), (KEY + "limit-requests", "inf")],
            {
                "spelling": "api_key",
                "anomaly": f"{KEY}remaining-requests is no number; {KEY}limit-requests is no number",
            },
            id="numbers for Python's float, but none here",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "9" * 25)],
            {"spelling": "api_key", "anomaly": KEY + "remaining-requests is too large"},
            id="too large for a record",
        ),
        pytest.param(
            [(KEY + "remaining-requests", "9" * 5_000)],
            {"spelling": "api_key", "anomaly": KEY + "remaining-requests is no number"},
            id="too long to be read",
        ),
        pytest.param(
            [(OPENAI + "reset-requests", "soon")],
            {"spelling": "openai", "anomaly": OPENAI + "reset-requests is no time"},
            id="a reset that is no time",
        ),
        pytest.param([("retry-after", "-1")], {"anomaly": "retry-after is negative"}, id="a negative wait"),
        pytest.param([("retry-after", "")], {"anomaly": "retry-after is no time"}, id="an empty wait"),
        pytest.param([("retry-after", "9" * 17)], {"anomaly": "retry-after is no time"}, id="a wait of centuries"),
        pytest.param([("retry-after-ms", "9" * 15)], {"anomaly": "retry-after-ms is no number"}, id="the same in ms"),
        pytest.param(
            [("retry-after-ms", "x"), ("retry-after", "3")],
            {"retry_after_ns": 3 * SECOND, "anomaly": "retry-after-ms is no number"},
            id="the seconds where the milliseconds cannot be read",
        ),
        pytest.param(
            [("reset_at", "Fri, 31 Dec 9999 23:59:59 GMT")],
            {"anomaly": "reset_at is no time"},
            id="the end of the calendar",
        ),
        pytest.param([("x-ratelimit-api_key-remaining-dollars", "5")], {}, id="a unit that is not ours"),
    ],
)
def test_headers(headers: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    """The same in any case of the names, and in any order of different ones."""
    assert limits(*headers) == expected
    assert limits(*((name.upper(), text) for name, text in headers)) == expected
    # Of one name twice, and of two scopes, the first counts.
    if len({name for name, _ in headers}) == len(headers) and not any("-team-" in name for name, _ in headers):
        other = limits(*reversed(headers))
        assert sorted(other.pop("anomaly", "").split("; ")) == sorted(expected.get("anomaly", "").split("; "))
        assert other == {name: value for name, value in expected.items() if name != "anomaly"}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        *(("0", 0), ("1", SECOND), ("1.5", 1_500_000_000), (" 7 ", 7 * SECOND), ("59.999", 59_999_000_000)),
        *(("1s", SECOND), ("6m0s", 360 * SECOND), ("17ms", 17_000_000), ("1m30.5s", 90_500_000_000)),
        *(("2h45m", 9_900 * SECOND), ("1d", 86_400 * SECOND), ("250us", 250_000), ("250µs", 250_000), ("9ns", 9)),
        *(("0s", 0), ("1h0m0s", 3_600 * SECOND), ("8.64s", 8_640_000_000)),
        *((str(NOW // SECOND + 60), 60 * SECOND), (str(NOW // 1_000_000 + 60_000), 60 * SECOND)),
        *((str(NOW // SECOND - 60), 0), (f"{NOW // SECOND + 1}.0", SECOND)),
        *(("2026-11-23T03:03:14Z", 10 * SECOND), ("2026-11-23 03:03:14", 10 * SECOND)),
        *(("2026-11-23T05:03:14+02:00", 10 * SECOND), ("2026-11-23 03:03:14 UTC", 10 * SECOND)),
        *((DATE, 0), ("Mon, 23 Nov 2026 04:03:05 +0100", SECOND)),
        *(("", None), ("-1", None), ("1x", None), ("s", None), ("1s2", None), ("1 s", None), ("soon", None)),
        *(("9" * 19, None), ("9" * 400, None), ("1" * 18 + "d", None), ("1e3", None), ("nan", None), ("0x10", None)),
        *(("99999999999999999", None), ("9999-12-31", None), ("0001-01-01T00:00:00+23:59", 0)),
        *(("\x00", None), ("é", None), ("1s" * 40, None), ("Mon, 99 Nov 2026 03:03:04 GMT", None)),
    ],
)
def test_durations(text: str, nanoseconds: int | None) -> None:
    """Durations, seconds, Unix times in seconds and ms, dates: as nanoseconds from now, never below 0."""
    assert parse_duration_ns(text, NOW) == nanoseconds


NAMES = st.sampled_from(
    [
        *(
            f"{prefix}{what}-{unit}"
            for prefix in (KEY, OPENAI)
            for what in ("limit", "remaining", "reset")
            for unit in ("requests", "tokens")
        ),
        *("ratelimit", "ratelimit-policy", "ratelimit-reset", "x-ratelimit-limit", "retry-after", "retry-after-ms"),
        *("reset_at", "date", "x-ratelimit-a-b-reset-tokens"),
    ]
)
PARTS = [
    "1",
    "9" * 18,
    "9" * 30,
    "-",
    "+",
    ".",
    "e9",
    "s",
    "m",
    "d",
    "ms",
    ",",
    ";",
    "=",
    '"',
    "r",
    "q",
    "w",
    "t",
    " ",
    "²",
]
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from([*PARTS, "tokens", "limit", DATE, "UTC", "٣"]), max_size=8).map(
    "".join
)


@QUIETLY
@given(st.lists(st.tuples(NAMES, TEXTS), max_size=5), st.integers(0, 2**62))
def test_arbitrary_texts_never_raise(headers: list[tuple[str, str]], now_unix_ns: int) -> None:
    """Whatever comes, it is read or left out, and each number that is read fits a record's 64 bits."""
    read = read_rate_limits(headers, now_unix_ns)
    assert isinstance(read, RateLimits)
    for name, value in asdict(read).items():
        if isinstance(value, int):
            assert (0 if name.endswith("_ns") else -(2**63)) <= value < 2**63, name
        else:
            assert value is None or isinstance(value, str), name


@QUIETLY
@given(TEXTS, st.integers(0, 2**62))
def test_arbitrary_durations_never_raise(text: str, now_unix_ns: int) -> None:
    """None, or a wait that a record can hold."""
    wait = parse_duration_ns(text, now_unix_ns)
    assert wait is None or 0 <= wait < 2**63


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "=" * 200_000,
        "1" * 200_000,
        ("r=1;" * 50_000),
        "1s" * 100_000,
        "," * 200_000,
        "a" + " " * 200_000 + "=",
    ],
)
@pytest.mark.parametrize(
    "name", ["ratelimit", "ratelimit-policy", "retry-after", KEY + "reset-requests", KEY + "limit-tokens"]
)
@pytest.mark.timeout(5)
def test_a_long_header_takes_no_long_time(name: str, text: str) -> None:
    """No pattern goes back and forth over what a hostile server sends."""
    assert isinstance(read_rate_limits([(name, text)], NOW), RateLimits)
