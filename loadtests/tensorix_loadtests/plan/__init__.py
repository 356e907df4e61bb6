"""What a load test is asked to do, as one value that travels from the command line to the engine.

Importing this starts no Locust and patches nothing.
"""

from tensorix_loadtests.plan._arrival_texts import arrivals_of, read_rate, read_think_time
from tensorix_loadtests.plan._arrivals import Arrivals, Replay, Stage, ThinkTime
from tensorix_loadtests.plan._checks import check_body
from tensorix_loadtests.plan._goals import Goals
from tensorix_loadtests.plan._kinds import CHAT_STREAMED, CHAT_UNSTREAMED, KINDS, MODELS, users_by_kind
from tensorix_loadtests.plan._limits import Limits
from tensorix_loadtests.plan._load_plan import DEFAULT_PROMPT, LoadPlan
from tensorix_loadtests.plan._machines import Machines
from tensorix_loadtests.plan._prices import Price, read_prices
from tensorix_loadtests.plan._prompt_texts import read_lengths, read_models
from tensorix_loadtests.plan._prompting import Lengths, Prompting
from tensorix_loadtests.plan._spending import Spending, parse_key_variables, parse_money
from tensorix_loadtests.plan._timeouts import Timeouts
from tensorix_loadtests.plan._watching import Watching, is_loopback, read_address

__all__ = [
    "CHAT_STREAMED",
    "CHAT_UNSTREAMED",
    "DEFAULT_PROMPT",
    "KINDS",
    "MODELS",
    "Arrivals",
    "Goals",
    "Lengths",
    "Limits",
    "LoadPlan",
    "Machines",
    "Price",
    "Prompting",
    "Replay",
    "Spending",
    "Stage",
    "ThinkTime",
    "Timeouts",
    "Watching",
    "arrivals_of",
    "check_body",
    "is_loopback",
    "parse_key_variables",
    "parse_money",
    "read_address",
    "read_lengths",
    "read_models",
    "read_prices",
    "read_rate",
    "read_think_time",
    "users_by_kind",
]
