"""What a run may spend and has spent: worst cases set aside, a journal that outlives the process, several keys.

Importing this starts no Locust and patches nothing.
"""

from tensorix_loadtests.spending._gate import SpendingGate
from tensorix_loadtests.spending._journal import JOURNAL_NAME, Journal, Past, read_journal
from tensorix_loadtests.spending._keys import read_keys
from tensorix_loadtests.spending._opening import open_gate
from tensorix_loadtests.spending._resume import check_left, left_of, plan_of_run

__all__ = [
    "JOURNAL_NAME",
    "Journal",
    "Past",
    "SpendingGate",
    "check_left",
    "left_of",
    "open_gate",
    "plan_of_run",
    "read_journal",
    "read_keys",
]
