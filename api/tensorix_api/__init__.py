"""What Tensorix promises: settings, secrets, errors, rate-limit headers, server-sent events, limiters."""

from tensorix_api.errors import TensorixError
from tensorix_api.secret import Secret
from tensorix_api.settings import Settings

__all__ = ["Secret", "Settings", "TensorixError"]
