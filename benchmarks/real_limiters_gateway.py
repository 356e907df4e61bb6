"""The LiteLLM gateway with a key of so many requests and tokens, in front of a simulated model without any limit."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

from real_limiters_servers import MissingError, free_port, serving

__all__ = ["INSTALLED", "litellm"]

INSTALLED = Path(__file__).parents[1] / ".peers" / "litellm" / "bin" / "litellm"
_READY_S = 240.0
"""It imports for half a minute, on a busy machine far longer."""

_KEYS = """from litellm.proxy._types import ProxyException, UserAPIKeyAuth


async def limits_of(request, api_key):
    if not api_key.startswith("sk-real-"):
        raise ProxyException(message="no such key", type="auth_error", param="api_key", code=401)
    return UserAPIKeyAuth(api_key=api_key, rpm_limit={rpm}, tpm_limit={tpm})
"""
_CONFIGURATION = """model_list:
  - model_name: simulated
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{port}/v1", api_key: sk-upstream}}
general_settings:
  custom_auth: keys.limits_of
"""


@contextmanager
def litellm(
    folder: Path, model_port: int, *, program: Path, model: str, rpm: int, tpm: int, window_s: int
) -> Iterator[str]:
    """The gateway with one process and no database; gives the base URL. Keys begin with `sk-real-`."""
    if not program.exists():
        raise MissingError("litellm is not installed (make .peers/litellm-installed, or --litellm PROGRAM)")
    (folder / "keys.py").write_text(_KEYS.format(rpm=rpm, tpm=tpm), encoding="utf-8")
    (folder / "gateway.yaml").write_text(_CONFIGURATION.format(model=model, port=model_port), encoding="utf-8")
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    environment |= {
        "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(24)}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_RATE_LIMIT_WINDOW_SIZE": str(window_s),
    }
    command = [str(program), "--config", "gateway.yaml", "--host", "127.0.0.1", "--port", str(port)]
    ready, base_url = f"http://127.0.0.1:{port}/health/liveliness", f"http://127.0.0.1:{port}/v1"
    with serving([*command, "--telemetry", "False"], ready, folder, ready_s=_READY_S, environment=environment):
        _warm_up(base_url)
        yield base_url


def _warm_up(base_url: str) -> None:
    """Ask once under another key: the first completion after its start takes the gateway seconds."""
    content = {"model": "simulated", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    headers = {"authorization": "Bearer sk-real-warming-up", "content-type": "application/json"}
    request = Request(f"{base_url}/chat/completions", json.dumps(content).encode(), headers)
    build_opener(ProxyHandler({})).open(request, timeout=60).close()
