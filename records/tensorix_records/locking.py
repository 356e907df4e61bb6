"""Files that one process at a time holds, for as long as it lives."""

from tensorix_records._lock import close_unlocked, try_lock_for_life

__all__ = ["close_unlocked", "try_lock_for_life"]
