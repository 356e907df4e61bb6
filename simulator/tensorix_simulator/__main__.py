"""`python -m tensorix_simulator`: serve until a signal to end; one JSON line says where, as soon as it listens."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from tensorix_api.errors import CannotWriteError, SettingsError, TensorixError
from tensorix_simulator.addresses import Addresses
from tensorix_simulator.presets import PRESETS
from tensorix_simulator.settings import SimulatorSettings
from tensorix_simulator.settings_file import as_json, as_toml, gathered

_EXTRA = "pip install 'tensorix-toolkit[simulator]'"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tensorix_simulator", description=__doc__)
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    option("--port", type=int, default=0, help="port of the API; 0 for any that is free")
    option("--control-port", type=int, default=0, help="port of the control interface, on 127.0.0.1")
    option("--settings", metavar="FILE", help="settings as JSON or TOML; - for standard input")
    option("--preset", metavar="NAME", action="append", help=f"settings by name: {', '.join(PRESETS)} (repeatable)")
    option("--fault", metavar="TEXT", action="append", help="what goes wrong, as 'status 503, rate 5%%' (repeatable)")
    option("--limit", metavar="TEXT", action="append", help="a limit besides, as '2 requests/1s' (repeatable)")
    option("--set", metavar="NAME=VALUE", action="append", help="any other setting, as rpm=5 (repeatable)")
    option("--tls", metavar="KIND", help="speak HTTPS: valid, expired, wrong_name or unknown_chain")
    option("--ca-file", metavar="FILE", type=Path, help="where to write the authority's certificate (with --tls)")
    option("--truth", metavar="FILE", type=Path, help="append what was done to each request to this file")
    option(
        "--print-settings",
        choices=["json", "toml"],
        nargs="?",
        const="json",
        help="print the settings as a file, and do not serve",
    )
    option("--with-parent", action="store_true", help="end when standard input, a pipe, is closed")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> SimulatorSettings:
    return gathered(
        arguments.settings,
        presets=arguments.preset,
        options={"faults": arguments.fault, "more_limits": arguments.limit},
        assigned=arguments.set,
    )


def _announce(addresses: Addresses) -> None:
    if addresses.warning:
        sys.stderr.write(f"{addresses.warning}\n")
        sys.stderr.flush()
    sys.stdout.write(json.dumps(asdict(addresses)) + "\n")
    sys.stdout.flush()


def _run(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    if arguments.with_parent and sys.stdin is None:
        raise SettingsError("--with-parent wants a pipe as standard input, which is closed")
    if arguments.print_settings:
        sys.stdout.write((as_toml if arguments.print_settings == "toml" else as_json)(settings) + "\n")
        return
    try:
        from tensorix_simulator.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tensorix_"):
            raise
        raise SettingsError(f"{error.name} is not installed, which the simulator needs: {_EXTRA}") from None
    serve(
        settings,
        host=arguments.host,
        port=arguments.port,
        control_port=arguments.control_port,
        truth_path=arguments.truth,
        tls=arguments.tls,
        ca_path=arguments.ca_file,
        on_ready=_announce,
        until_closed=sys.stdin.fileno() if arguments.with_parent else None,
    )


def main() -> int:
    """Returns the exit status: 0 after an end in order, 1 where something cannot be written, 2 after a mistake."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process
    if sys.stdout is None:
        sys.stderr.write("error: standard output is closed: nobody would be told where it listens\n")
        return 1
    arguments = _arguments()
    try:
        _run(arguments)
    except TensorixError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1 if isinstance(error, CannotWriteError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
