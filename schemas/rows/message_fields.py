"""Fields of a message besides role and content: loss flags, reasoning, pictures, tools, others."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from schemas.rows.row import Conversion
from schemas.rows.tool_calls import canonical_tools, put_calls
from schemas.rows.values import as_objects, bare_name, is_blank, is_nothing
from schemas.rule_ids import RowRule, Violation

Note = Conversion | Violation | str
"""A conversion that was made, what a row breaks, or the name of a field that nothing reads."""


def not_used(detail: str) -> Violation:
    """Report a field that other trainers honour and this one does not."""
    return Violation(RowRule.FIELD_NOT_USED, detail)


MESSAGE_FIELDS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "weight", "reasoning_content")
)
"""Fields of OpenAI's format and of chat templates, in canonical form."""
TRAINED = frozenset(
    (
        *("loss", "lossmask", "lossscale", "lossweight", "computeloss", "includeinloss"),
        *("train", "training", "trainable", "istrainable", "istrained", "dotrain", "shouldtrain"),
        *("trainonturn", "trainturn"),
    )
)
"""Names that other trainers give to `weight` (ms-swift: loss, loss_scale; Axolotl: train, training),
without their spelling."""
NOT_TRAINED = frozenset(
    ("masked", "ismasked", "lossmasked", "maskloss", "ignoreloss", "skiploss", "noloss", "notrain")
)
"""Names of a flag that is true where a message is not trained (torchtune: masked)."""
LOSS_FLAGS = TRAINED | NOT_TRAINED
LIKE_A_FLAG = re.compile(
    r"(?i:(?:^|[\W_])(?:un)?(?:train|loss|mask|learn))|[a-z](?:Train|Loss|Mask|Learn)"
)
"""A field with true or false that may be another flag; `mask` means both, by trainer."""
REASONING = frozenset(
    (
        *("reasoning", "reasoningtext", "thinking", "thought", "thoughts"),
        *("reasoningdetails", "thinkingblocks"),
    )
)
"""Names that other formats give to `reasoning_content`."""
REASONING_TEXTS = ("thinking", "text", "reasoning", "summary")
"""Fields of a block of reasoning that contain its text (Anthropic, OpenRouter, Mistral)."""
THOUGHT = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL)
CALLS = frozenset(("functioncalls", "functioncall", "toolcalls", "toolcall"))
"""Names that other formats give to `tool_calls`."""
MEDIA = frozenset(("image", "images", "video", "videos", "audio", "audios"))
TOOLS = frozenset(("tools", "functions"))
MEDIA_PARTS = re.compile(r"(?:input_)?(?:image|video|audio)(?:_url)?")
"""Types of a content part that is not text (OpenAI, TRL, ms-swift)."""
PARTLY_TRAINED = "traindetail"
"""Axolotl: which characters of a turn are trained."""


class _Plan(NamedTuple):
    """Which of the fields of a message are read how; the same for all messages with these fields."""

    flags: tuple[str, ...]
    reasoning: tuple[str, ...]
    media: tuple[str, ...]
    details: tuple[str, ...]
    calls: tuple[str, ...]
    others: tuple[str, ...]


@lru_cache(maxsize=1024)
def _plan(names: tuple[str, ...]) -> _Plan:
    kinds: dict[str, list[str]] = {name: [] for name in _Plan._fields}
    for name in names:
        bare = bare_name(name)
        if name in MESSAGE_FIELDS:
            continue
        if bare in LOSS_FLAGS:
            kinds["flags"].append(name)
        elif bare in REASONING:
            kinds["reasoning"].append(name)
        elif bare in MEDIA:
            kinds["media"].append(name)
        elif bare == PARTLY_TRAINED:
            kinds["details"].append(name)
        elif bare in CALLS:
            kinds["calls"].append(name)
        else:
            kinds["others"].append(name)
    return _Plan(*(tuple(kinds[name]) for name in _Plan._fields))


def loss_flags(message: dict[str, Any]) -> tuple[str, ...]:
    """List the fields of a message that are named like a loss flag of another trainer."""
    return _plan(tuple(message)).flags


def other_fields(message: dict[str, Any]) -> tuple[str, ...]:
    """List the fields of a message that neither this project nor another trainer is known to read."""
    return _plan(tuple(message)).others


def read_fields(message: dict[str, Any], notes: list[Note]) -> None:
    """Convert the fields of a message in place, and note what was made and what nothing reads."""
    flags, reasoning, media, details, calls, others = _plan(tuple(message))
    if flags:
        _read_flags(message, flags, notes)
    for name in reasoning:
        _read_reasoning(message, name, notes)
    for name in media:
        if not is_blank(message[name]):
            notes.append(Violation(RowRule.NEEDS_MEDIA, f"a message has {name}"))
    for name in details:
        if not is_blank(message[name]):
            what = f"{name} of a message: a turn is trained in full or not at all"
            notes.append(not_used(what))
    for name in calls:
        _read_calls(message, name, notes)
    for name in others:
        note_other(name, message[name], notes)


def note_other(name: str, value: Any, notes: list[Note]) -> None:
    """Note a field that nothing reads, and a rule if it looks like a loss flag."""
    if type(value) is bool and LIKE_A_FLAG.search(name):
        what = f"{name} {str(value).lower()} of a message; weight 0 or 1 says what is trained"
        notes.append(not_used(what))
    notes.append(f"messages[].{name}")


def note_media(parts: list[Any], notes: list[Note]) -> None:
    """Note pictures, videos and sound among the parts of a content."""
    for part in parts:
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        names = [name for name in part if name in MEDIA and not is_blank(part[name])]
        if isinstance(kind, str) and MEDIA_PARTS.fullmatch(kind):
            names = [kind]
        if names:
            notes.append(Violation(RowRule.NEEDS_MEDIA, f"a part of type {names[0]} in a message"))


def _read_flags(message: dict[str, Any], flags: tuple[str, ...], notes: list[Note]) -> None:
    """Convert loss flags into a weight; those that are invalid or contradict each other stay."""
    is_assistant = message["role"] == "assistant"
    values = []
    for name in (*flags, "weight"):
        value = message.get(name)
        if value is None:
            continue
        if type(value) not in (bool, int, float) or value not in (0, 1):
            return
        is_inverse = bare_name(name) in NOT_TRAINED
        # Only an answer is trained, so `masked: false` of another role asks for nothing.
        values.append(value == 0 and is_assistant if is_inverse else bool(value))
    is_trained = any(values)
    if is_trained and not (all(values) and is_assistant):
        return
    for name in flags:
        del message[name]
    if is_assistant and not is_trained:
        message["weight"] = 0
    notes.append(Conversion.LOSS_FLAGS)


def _read_reasoning(message: dict[str, Any], name: str, notes: list[Note]) -> None:
    """Rename the reasoning of an assistant message, unless it has another one."""
    given, known = message[name], message.get("reasoning_content")
    said = join_reasoning(given)
    is_text = isinstance(said, str) and message["role"] == "assistant"
    if is_text and (is_blank(known) or _words(known) == _words(said)):
        del message[name]
        if said.strip():
            message.setdefault("reasoning_content", said)
            notes.append(Conversion.REASONING)
    elif not is_blank(given):
        if isinstance(given, list | dict):
            what = f"{name} of a message; only reasoning as one text is rendered"
            notes.append(not_used(what))
        notes.append(f"messages[].{name}")


def join_reasoning(value: Any) -> Any:
    """Return the text of reasoning that is written as blocks; any other value stays unchanged."""
    if isinstance(value, list) and value:
        texts = [join_reasoning(part) for part in value]
        return "\n\n".join(texts) if all(isinstance(text, str) for text in texts) else value
    if isinstance(value, dict):
        found = [value[name] for name in REASONING_TEXTS if not is_blank(value.get(name))]
        text = join_reasoning(found[0]) if len(found) == 1 else None
        return text if isinstance(text, str) else value
    return value


def settle_reasoning(message: dict[str, Any], notes: list[Note]) -> None:
    """Write `reasoning_content` as one text, and drop it where the content begins with the same."""
    given, content = message["reasoning_content"], message["content"]
    said = join_reasoning(given)
    if not isinstance(said, str):
        if not is_blank(given):
            what = "reasoning_content of a message is no text"
            notes.append(not_used(what))
        return
    if said is not given:
        message["reasoning_content"] = said
        notes.append(Conversion.REASONING)
    thought = THOUGHT.match(content) if isinstance(content, str) and "<think" in content else None
    if not thought or not said.strip() or not thought[1].strip():
        return
    if _words(thought[1]) == _words(said):
        del message["reasoning_content"]
        notes.append(Conversion.REPEATED_REASONING)
    else:
        what = "reasoning_content of a message whose content begins with another thought"
        notes.append(not_used(what))


def _words(text: Any) -> Any:
    return text.split() if isinstance(text, str) else text


def _read_calls(message: dict[str, Any], name: str, notes: list[Note]) -> None:
    """Rename the calls of a message, unless it has some or they cannot be read."""
    given = message[name]
    calls = [call for call in as_objects(given) if _names_a_function(call)]
    is_read = bool(calls) and len(calls) == len(as_objects(given))
    if is_read and is_blank(message.get("tool_calls")):
        del message[name]
        message["tool_calls"] = calls
        put_calls(message)
        notes.append(Conversion.TOOL_CALLS)
    elif not is_nothing(given):
        what = f"{name} of a message is not read as tool_calls"
        notes.append(not_used(what))
        notes.append(f"messages[].{name}")


def _names_a_function(call: dict[str, Any]) -> bool:
    function = call.get("function", call)
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def take_tools(messages: list[Any], known: list[Any] | None = None) -> list[Any] | None:
    """Remove the tools that messages have in a field of their own, if they are the same everywhere.

    Args:
        messages: Of one row; changed in place.
        known: Tools of the row, which those of the messages have to equal.

    Returns:
        The tools; `known` if no message has any, or if they differ.
    """
    found = [
        (message, name, tools)
        for message in messages
        if isinstance(message, dict)
        for name in TOOLS.intersection(message)
        if isinstance(tools := canonical_tools(message[name]), list)
    ]
    expected = known or (found[0][2] if found else None)
    if any(tools != expected for _, _, tools in found):
        return known
    for message, name, _ in found:
        del message[name]
    return expected
