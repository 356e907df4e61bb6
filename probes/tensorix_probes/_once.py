"""One round of a target, or of each target of a configuration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Redactor
from tensorix_probes.exchange.exchange import Exchange
from tensorix_probes.limits.keys import Keys
from tensorix_probes.memory import Clock, TargetMemory
from tensorix_probes.result import ProbeResult, Round, State
from tensorix_probes.round import run_round
from tensorix_probes.settings import Configuration, Target

__all__ = ["maintenance_of", "probe", "run_once"]

_AT_ONCE = 16


def run_once(target: Target) -> list[ProbeResult]:
    """Run all checks of a target once and return what they found, in the order in which they ran.

    Takes no longer than the target's timeouts, and raises nothing for what the server does. Nothing is kept: for a
    schedule, a budget over several processes or a history, use `tensorix probe`. Raises SettingsError for a check that
    there is none of.
    """
    return list(probe(Configuration(targets=(target,)))[0].results)


def maintenance_of(configuration: Configuration, target: str, unix_ns: int) -> str | None:
    """The name of the maintenance window that a target is in, None outside of any."""
    return next((one.name for one in configuration.maintenance if one.covers(target, unix_ns)), None)


def probe(
    configuration: Configuration,
    *,
    targets: Sequence[Target] | None = None,
    keys: Keys | None = None,
    memories: Mapping[str, TargetMemory] | None = None,
    clock: Clock | None = None,
) -> list[Round]:
    """A round of each target (default: all of the configuration), in their order; they run at the same time.

    `memories` by name and `keys` are what is known of earlier rounds, and know of these afterwards.
    """
    chosen = configuration.targets if targets is None else tuple(targets)
    clock = clock or Clock()
    keys = keys or Keys(chosen, monotonic_ns=clock.monotonic_ns)

    under_way: list[Exchange] = []

    def one(target: Target) -> Round:
        exchange = Exchange(target)
        under_way.append(exchange)
        started_unix_ns, start_ns = clock.unix_ns(), clock.monotonic_ns()
        try:
            return run_round(
                target,
                exchange=exchange,
                key=keys.of(target),
                memory=(memories or {}).get(target.name) or TargetMemory(),
                key_alias=target.key_alias,
                location=configuration.location,
                maintenance=maintenance_of(configuration, target.name, clock.unix_ns()),
                clock=clock,
            )
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect of a round is to cost the other targets nothing
            redact = Redactor(target.api_key, *target.extra_headers.values())
            return Round(
                round_id=secrets.token_hex(16),
                target=target.name,
                location=configuration.location,
                state=State.INCONCLUSIVE,
                reason=redact(f"a defect of the probe: {type(error).__name__}: {error}"),
                started_unix_ns=started_unix_ns,
                duration_ns=clock.monotonic_ns() - start_ns,
                maintenance=maintenance_of(configuration, target.name, started_unix_ns),
            )
        finally:
            exchange.close()

    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(chosen)))) as pool:
        try:
            return list(pool.map(one, chosen))
        except BaseException:
            # Interrupted: nobody waits for what a server that stalls would still say.
            pool.shutdown(wait=False, cancel_futures=True)
            for exchange in under_way:
                exchange.close()
            raise
