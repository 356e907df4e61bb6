"""What was said, for those who ask for it: messages as attributes, each text redacted and shortened."""

from __future__ import annotations
