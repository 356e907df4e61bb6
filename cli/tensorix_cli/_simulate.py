"""`tensorix simulate`: the server that keeps to the settings, and what is said of it when it listens."""

from __future__ import annotations

import shlex
from pathlib import Path

from tensorix_api.errors import SettingsError
from tensorix_cli._output import complain, say
from tensorix_simulator.addresses import Addresses
from tensorix_simulator.server import serve
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["announcement", "run_simulator"]

_CERTIFICATES = {
    "valid": "signed by the authority in",
    "expired": "over; it was signed by the authority in",
    "wrong_name": "for another server, and signed by the authority in",
    "unknown_chain": "signed by an authority that nobody knows, not by the one in",
}
_KEY = "sk-any"


def announcement(addresses: Addresses, settings: SimulatorSettings) -> str:
    """Where it listens, and commands to try that work as they are."""
    url, ca = addresses.base_url, shlex.quote(addresses.ca_path) if addresses.ca_path else None
    body = f'{{"model": "{settings.models[0]}", "messages": [{{"role": "user", "content": "Hi"}}]}}'
    lines = [
        f"Simulating a chat API at {url} (Ctrl-C ends it)",
        f"Settings and truth at    {addresses.control_url}/settings and {addresses.control_url}/truth",
    ]
    if addresses.tls:
        lines += [
            f"Its certificate is {_CERTIFICATES[addresses.tls]}",
            f"  {addresses.ca_path}",
            "which clients take by --ca-bundle FILE (tensorix load), --cacert FILE (curl), or the variables",
            "SSL_CERT_FILE=FILE (openai and httpx in Python) and NODE_EXTRA_CA_CERTS=FILE (Node.js)",
        ]
    lines += [
        "Try:",
        f"  export TENSORIX_BASE_URL={url} TENSORIX_API_KEY={_KEY}",
        f"  curl {f'--cacert {ca} ' if ca else ''}{url}/chat/completions "
        f"-H 'Authorization: Bearer {_KEY}' -d {shlex.quote(body)}",
        f"  tensorix load --base-url {url} --users 5 --requests 50{f' --ca-bundle {ca}' if ca else ''}",
    ]
    return "\n".join(lines)


def run_simulator(
    settings: SimulatorSettings,
    *,
    host: str,
    port: int,
    control_port: int,
    truth: Path | None,
    tls: str | None,
    ca_file: Path | None,
) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP. Raises SettingsError for an address that cannot be had."""
    if ca_file is not None and tls is None:
        raise SettingsError("--ca-file goes with --tls")

    def announce(addresses: Addresses) -> None:
        if addresses.warning:
            complain(addresses.warning)
        say(announcement(addresses, settings))

    serve(
        settings,
        host=host,
        port=port,
        control_port=control_port,
        truth_path=truth,
        tls=tls,
        ca_path=ca_file,
        on_ready=announce,
    )
