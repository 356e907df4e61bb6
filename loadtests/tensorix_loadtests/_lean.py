"""What the engine's process leaves out of what Locust would import, for its start."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

__all__ = ["without_web_page"]


def without_web_page() -> None:
    """Have Locust import its web page, and Flask with it, only where one is made. Call it before Locust is imported."""
    name = "locust.web"
    if name in sys.modules:
        return

    def web_ui(*arguments: Any, **options: Any) -> Any:
        sys.modules.pop(name, None)
        from locust.web import WebUI

        return WebUI(*arguments, **options)

    module = ModuleType(name)
    module.__dict__["WebUI"] = web_ui
    sys.modules[name] = module
