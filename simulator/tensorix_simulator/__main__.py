"""`python -m tensorix_simulator`: serve until SIGINT or SIGTERM; one JSON line says where, as soon as it listens."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tensorix_api.errors import SettingsError, TensorixError
from tensorix_simulator.addresses import Addresses
from tensorix_simulator.server import serve
from tensorix_simulator.settings import SimulatorSettings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tensorix_simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=0, help="port of the API; 0 for any that is free")
    parser.add_argument("--control-port", type=int, default=0, help="port of the control interface, on 127.0.0.1")
    parser.add_argument("--settings", metavar="FILE", help="settings as JSON; - for standard input")
    parser.add_argument("--truth", metavar="FILE", type=Path, help="append the truth of each request to this file")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input, a pipe, is closed")
    return parser.parse_args()


def _settings(source: str | None) -> SimulatorSettings:
    if source is None:
        return SimulatorSettings()
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        data: Any = json.loads(text)
    except OSError as error:
        raise SettingsError(f"the settings cannot be read from {source}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"the settings in {source} are not valid JSON") from None
    return SimulatorSettings.from_dict(data)


def _announce(addresses: Addresses) -> None:
    sys.stdout.write(json.dumps(asdict(addresses)) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Returns the exit status: 0 after an end in order, 2 after a caller's mistake or where the disk is full."""
    arguments = _arguments()
    try:
        settings = _settings(arguments.settings)
        serve(
            settings,
            host=arguments.host,
            port=arguments.port,
            control_port=arguments.control_port,
            truth_path=arguments.truth,
            on_ready=_announce,
            until_closed=sys.stdin.fileno() if arguments.with_parent else None,
        )
    except TensorixError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
