"""Rows made for another kind of training: which kind, and how to train on their answers anyway."""

from __future__ import annotations

from typing import Any

from schemas.rows.values import as_objects, bare_name, is_blank, keys_shown
from schemas.rule_ids import RowRule, Violation

PREFERENCE_PAIRS = (
    ("chosen", "rejected"),
    ("chosenresponse", "rejectedresponse"),
    ("chosenmessages", "rejectedmessages"),
    ("preferred", "rejected"),
    ("preferred", "dispreferred"),
    ("accepted", "rejected"),
    ("preferredoutput", "nonpreferredoutput"),
    ("response", "rejectedresponse"),
)
"""Columns with a better and a worse answer (TRL, LLaMA-Factory, OpenAI, ms-swift), without spelling."""
STEPWISE = ("completions", "labels")
PROMPTS = ("prompt", "messages", "conversations", "instruction", "question", "query", "input")
ANSWER_KINDS = (str, list, dict)
"""An answer is no number and no boolean: `chosen: true` is only a mark."""


def preference_pair(row: dict[str, Any]) -> tuple[str, str] | None:
    """Find the columns with the better and the worse answer of a preference row."""
    names = {bare_name(name): name for name in row}
    for better, worse in PREFERENCE_PAIRS:
        if better in names and worse in names:
            pair = names[better], names[worse]
            if all(isinstance(row[n], ANSWER_KINDS) and not is_blank(row[n]) for n in pair):
                return pair
    return None


def describe_preference(row: dict[str, Any]) -> str:
    """Describe a preference row, with the mapping that trains on its chosen answers; else empty."""
    pair = preference_pair(row)
    if pair:
        columns = _mapping(row, pair[0])
        advice = f"data.source.columns={columns}" if columns else "a prompt and a completion"
        verb = "trains" if columns else "written from it train"
        return f"{pair[0]} and {pair[1]}: a preference row (DPO); {advice} {verb} on {pair[0]}"
    if all(isinstance(row.get(name), list) and row[name] for name in STEPWISE):
        return "completions and labels: steps with a label each (stepwise supervision)"
    return ""


def _mapping(row: dict[str, Any], chosen: str) -> str:
    """Return the mapping of columns that trains on the chosen answers; empty if there is none."""
    turns = as_objects(row[chosen])
    if any(turn.get("role") == "user" or turn.get("from") in ("human", "user") for turn in turns):
        return f"{{{'conversations' if 'from' in turns[0] else 'messages'}: {chosen}}}"
    prompt = next((name for name in PROMPTS if not is_blank(row.get(name))), "")
    if not prompt or isinstance(row[prompt], dict):
        return ""
    if prompt == "instruction" and isinstance(row[chosen], str):
        return f"{{output: {chosen}}}"
    return (
        f"{{completion: {chosen}}}"
        if prompt == "prompt"
        else (f"{{prompt: {prompt}, completion: {chosen}}}")
    )


def why_unknown(row: dict[str, Any]) -> Violation:
    """Describe a row that is in no known format."""
    preference = describe_preference(row)
    if preference:
        return Violation(RowRule.PREFERENCE_ROW, preference)
    columns = f"columns: {keys_shown(row)}"
    if not is_blank(row.get("prompt")):
        columns = f"a prompt without a completion; {columns}"
    elif as_objects(row.get("segments")):
        columns = f"segments of text without roles; {columns}"
    return Violation(RowRule.UNKNOWN_FORMAT, columns)
