"""The gateway's keys: `sk-good-*` has Tensorix's limits, `sk-small-*` limits that a few requests reach."""

from fastapi import Request
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

LIMITS = {"sk-good-": (60, 2_000_000), "sk-small-": (3, 1_000)}


async def check(request: Request, api_key: str) -> UserAPIKeyAuth:
    for prefix, (rpm, tpm) in LIMITS.items():
        if api_key.startswith(prefix):
            return UserAPIKeyAuth(api_key=api_key, rpm_limit=rpm, tpm_limit=tpm)
    raise ProxyException(message="Invalid API key", type="auth_error", param="api_key", code=401)
