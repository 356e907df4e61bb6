"""The options of plain `locust -f …`, and the plan that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_loadtests.plan import (
    DEFAULT_PROMPT,
    Goals,
    Limits,
    LoadPlan,
    Prompting,
    Spending,
    Watching,
    parse_key_variables,
    read_lengths,
    read_prices,
)

__all__ = ["add_options", "plan_of"]


def add_options(parser: Any, **_: Any) -> None:
    """Ours among those of Locust's parser."""
    group = parser.add_argument_group("Tensorix", "the key comes from TENSORIX_API_KEY, the address from --host")
    group.add_argument("--out", default="", help="run folder to make (default: a new one under runs/)")
    group.add_argument("--model", default="", env_var="TENSORIX_MODEL", help="default: the first that the server lists")
    group.add_argument("--requests", type=int, default=0, help="end after so many requests (default: no end)")
    group.add_argument("--max-tokens", type=int, default=64, help="bound on each answer (default: 64)")
    group.add_argument("--prompt", default=DEFAULT_PROMPT, help="what to ask")
    group.add_argument("--prompt-file", default="", help="prompts: messages (JSONL), ShareGPT's format, CSV or lines")
    group.add_argument("--prompt-tokens", default="", help="made-up prompts so long: 500, lognormal:500,300, …")
    group.add_argument("--answer-tokens", default="", help="bounds of the answers, in the same forms")
    group.add_argument("--turns", default="", help="conversations of so many turns, with the model's own answers")
    group.add_argument("--limit-requests", type=int, help="requests a window that the key may make, if you know")
    group.add_argument("--limit-tokens", type=int, help="tokens a window that the key may use, if you know")
    group.add_argument("--limit-window", type=float, help="the limiter's window in seconds, if it is not a minute")
    group.add_argument("--limit-share", type=float, help="stay within this share of the key's limits: 0.95")
    group.add_argument("--cap-requests", type=int, help="never send more requests")
    group.add_argument("--cap-tokens", type=int, help="never use more tokens")
    group.add_argument("--cap-cost", type=float, help="never spend more, by the prices of --prices")
    group.add_argument("--prices", default="", help="what a million tokens of each model cost (a file, TOML or JSON)")
    group.add_argument("--key-env", default="", help="the environment variables of several keys, with commas")
    group.add_argument("--prometheus", default="", help="a page of metrics while a test runs, HOST:PORT")
    group.add_argument("--otlp", action="store_true", help="metrics to a collector, by the OTEL_* variables")
    group.add_argument("--retries", type=int, help="try a request that got a 429 again, so often (default: 0)")
    group.add_argument("--slo", default="", help="objectives, with semicolons: 'ttft_p95 < 800ms; error_rate < 1%%'")
    group.add_argument("--good", default="", help="what a good request is, for goodput: 'ttft < 800ms; itl < 50ms'")
    group.add_argument("--stop-on", default="", help="brakes: 'error_rate > 20%% for 10s; slo for 1m'")


def plan_of(options: Any, settings: Settings, *, users: int | None) -> LoadPlan:
    """The plan that Locust's parsed options make; `users` where they name no number. Raises SettingsError."""
    run_time = options.run_time
    return LoadPlan(
        base_url=settings.base_url,
        model=settings.model,
        users=max(1, int(getattr(options, "num_users", None) or users or 1)),
        spawn_rate=float(options.spawn_rate or 1),
        requests=options.requests or None,
        duration_s=float(run_time) if run_time else None,
        endless=not (run_time or options.requests),
        max_tokens=options.max_tokens,
        prompts=(options.prompt,),
        prompting=Prompting(
            path=options.prompt_file or None,
            prompt_tokens=read_lengths(options.prompt_tokens) if options.prompt_tokens else None,
            answer_tokens=read_lengths(options.answer_tokens) if options.answer_tokens else None,
            turns=read_lengths(options.turns) if options.turns else None,
        ),
        limits=Limits.of(
            settings.base_url,
            # What a form of the web page holds comes as text, where the option had no value yet.
            requests=_number(int, options.limit_requests),
            tokens=_number(int, options.limit_tokens),
            window_s=_number(float, options.limit_window),
        ),
        spending=_spending(options),
        watching=Watching(prometheus=options.prometheus or None, otlp=bool(options.otlp)),
        goals=Goals(objectives=_several(options.slo), good=_several(options.good), brakes=_several(options.stop_on)),
        label=f"locust -f {Path(options.locustfile).name}" if isinstance(options.locustfile, str) else None,
    )


def _spending(options: Any) -> Spending:
    return Spending(
        most_requests=_number(int, options.cap_requests),
        most_tokens=_number(int, options.cap_tokens),
        most_money=_number(float, options.cap_cost),
        prices=read_prices(options.prices) if options.prices else {},
        limit_share=_number(float, options.limit_share),
        key_variables=parse_key_variables([options.key_env or ""]),
        most_retries=_number(int, options.retries) or 0,
    )


def _several(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _number(kind: Callable[[Any], Any], value: Any) -> Any:
    try:
        return None if value in (None, "") else kind(value)
    except ValueError:
        raise SettingsError(f"{value!r} is no number: a limit is given as one") from None
