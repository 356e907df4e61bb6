"""Whether the models are listed, the wanted ones among them, and what changed since the last time. Costs no tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from tensorix_api.limiters import Cost
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import ANSWERED, JSON_TYPE, is_success, judge_json_type, judge_time, said
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.result import State

__all__ = ["CHECK", "PROMISES"]

PROMISES = (
    *ANSWERED,
    Promise("body_is_a_model_list", "the body is JSON with a list under data, each model with an id", State.DOWN),
    JSON_TYPE,
    Promise("object_is_list", 'the body says "object": "list"'),
    Promise("ids_are_unique", "no model is listed twice"),
    Promise("ids_are_text", "each id is of visible characters, 200 at most"),
    Promise("model_is_listed", "the model that is probed is listed; where none is named, one at least", State.DOWN),
    Promise("wanted_models_are_listed", "so are all of wanted_models"),
    Promise("models_are_unchanged", "the list is that of the last time (a change is told and harms nothing)", State.UP),
    Promise("answer_is_quick", "the whole took at most slow.models_s"),
)

_MOST_REMEMBERED = 2_000
_LONGEST_ID = 200
_NAMED = 5
"""Models that a detail names; the others are counted."""
# Servers make these anew for each answer: vLLM does.
_VOLATILE = ("created", "permission")


def _run(context: Context) -> Finding:
    target = context.target
    judgement = Judgement(PROMISES, target)
    answer = context.ask("GET", "/models", kind="models")
    if not is_success(judgement, answer, target.slow.connect_s):
        if answer.status in (404, 405) and answer.failure is None:
            named = "" if target.model else ", and set `model`"
            why = (
                f"{said(judgement, answer)} (leave `models` out of this target's checks if the server has none{named})"
            )
            judgement.judge("status_is_200", False, f"expected 200, got {why}")
        return judgement.finding(answer)
    body = answer.json()
    models = _models_of(body)
    if models is None:
        got = judgement.quote(body if body is not None else answer.body[:2_000].decode("utf-8", "replace"))
        judgement.judge("body_is_a_model_list", False, f'expected {{"data": [{{"id": …}}]}}, got {got or "no body"}')
        return judgement.finding(answer)
    judgement.judge("body_is_a_model_list", True)
    judge_json_type(judgement, answer)
    got = judgement.quote(body.get("object"))
    judgement.judge("object_is_list", body.get("object") == "list", f'expected "object": "list", got {got}')
    ids = list(dict.fromkeys(str(model["id"]) for model in models))
    repeated = f"{len(models)} entries have {len(ids)} ids only"
    judgement.judge("ids_are_unique", len(ids) == len(models), repeated)
    odd = [name for name in ids if not _is_text(name)]
    judgement.judge("ids_are_text", not odd, f"no visible text of at most {_LONGEST_ID}: {_some(judgement, odd)}")
    _judge_listed(judgement, context, ids)
    first = next((name for name in ids if _is_text(name) and judgement.quote(name, _LONGEST_ID) == name), None)
    figures = _judge_changes(judgement, context.memory, models)
    judge_time(judgement, "answer_is_quick", answer.phases.total_ns, target.slow.models_s)
    return judgement.finding(
        answer, figures={"models_listed": len(ids), **figures}, facts={} if first is None else {"first_model": first}
    )


def _models_of(body: Any) -> list[dict[str, Any]] | None:
    """The models of a list's body; None where it is none."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        return None
    fine = all(isinstance(model, dict) and isinstance(model.get("id"), str) and model["id"] for model in data)
    return data if fine else None


def _is_text(name: str) -> bool:
    """Whether it can be asked for and shown as it is: no control characters, no halves of surrogate pairs."""
    return name.isprintable() and len(name) <= _LONGEST_ID


def _judge_listed(judgement: Judgement, context: Context, ids: list[str]) -> None:
    target = context.target
    if target.model is None:
        judgement.judge("model_is_listed", bool(ids), "no model is listed, and none is named to be asked")
    else:
        missing = (
            f"{target.model} is not among the {len(ids)} models that are listed: {_some(judgement, ids)} "
            "(if it is served all the same, accept models.model_is_listed)"
        )
        judgement.judge("model_is_listed", target.model in ids, missing)
    absent = [name for name in target.wanted_models if name not in ids]
    judgement.judge("wanted_models_are_listed", not absent, f"not listed: {_some(judgement, absent)}")


def _judge_changes(judgement: Judgement, memory: dict[str, Any], models: list[dict[str, Any]]) -> dict[str, float]:
    """What is new since the last time. Nothing is said the first time; of very long lists the end is not compared."""
    # Kept in the history: a server may repeat the key in an id.
    now = {judgement.quote(model["id"], _LONGEST_ID): _digest(model) for model in models[:_MOST_REMEMBERED]}
    before = memory.get("models")
    if not isinstance(before, dict):
        memory["models"] = now
        return {}
    changes = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "changed": [name for name, digest in now.items() if name in before and before[name] != digest],
    }
    said = [f"{what}: {_some(judgement, names)}" for what, names in changes.items() if names]
    # Only noted where it changed: the history need not write the same again.
    if said:
        memory["models"] = now
    # None, not False: a new model is news and no failure.
    judgement.judge("models_are_unchanged", None if said else True, "; ".join(said))
    return {f"models_{what}": len(names) for what, names in changes.items()}


def _digest(model: Mapping[str, Any]) -> str:
    """A few characters for all that is said of a model."""
    kept = {name: value for name, value in model.items() if name not in _VOLATILE}
    try:
        return f"{crc32(json.dumps(kept, sort_keys=True).encode()):08x}"
    except RecursionError:
        return ""


def _some(judgement: Judgement, names: list[str]) -> str:
    shown = ", ".join(judgement.quote(name, 100) for name in names[:_NAMED])
    more = len(names) - _NAMED
    return (shown or "none") + (f" and {more} more" if more > 0 else "")


CHECK = Check(name="models", run=_run, most=lambda target: Cost(1, 0), lists_only=True, decides=True)
