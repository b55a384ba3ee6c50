"""Fields of a message besides role and content: loss flags, reasoning, pictures, tools, others."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

from schemas.rows.row import Conversion
from schemas.rows.tool_calls import canonical_tools
from schemas.rows.values import bare_name, is_blank
from schemas.rule_ids import RowRule, Violation

Note = Conversion | Violation | str
"""A conversion that was made, what a row breaks, or the name of a field that nothing reads."""

MESSAGE_FIELDS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "weight", "reasoning_content")
)
"""Fields of OpenAI's format and of chat templates, in canonical form."""
LOSS_FLAGS = frozenset(
    ("loss", "train", "training", "trainable", "istrainable", "lossmask", "lossscale", "lossweight")
)
"""Names that other trainers give to `weight` (ms-swift: loss, loss_scale; Axolotl: train, training),
without their spelling."""
REASONING = frozenset(("reasoning", "reasoningtext", "thinking", "thought", "thoughts"))
"""Names that other formats give to `reasoning_content`."""
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
    flags, reasoning, media, details, others = _plan(tuple(message))
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
            notes.append(Violation(RowRule.FIELD_NOT_USED, what))
    notes.extend(f"messages[].{name}" for name in others)


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
    values = [message[name] for name in (*flags, "weight") if message.get(name) is not None]
    if any(type(value) not in (bool, int, float) or value not in (0, 1) for value in values):
        return
    is_trained = any(values)
    is_assistant = message["role"] == "assistant"
    if is_trained and not (all(values) and is_assistant):
        return
    for name in flags:
        del message[name]
    if is_assistant and not is_trained:
        message["weight"] = 0
    notes.append(Conversion.LOSS_FLAGS)


def _read_reasoning(message: dict[str, Any], name: str, notes: list[Note]) -> None:
    """Rename the reasoning of an assistant message, unless it has another one."""
    said, known = message[name], message.get("reasoning_content")
    is_text = isinstance(said, str) and message["role"] == "assistant"
    if is_text and (is_blank(known) or known == said):
        del message[name]
        if said.strip():
            message["reasoning_content"] = said
            notes.append(Conversion.REASONING)
    elif not is_blank(said):
        notes.append(f"messages[].{name}")


def take_tools(messages: list[Any]) -> list[Any] | None:
    """Remove the tools that the first message has in a field of its own; None if there are none."""
    first = messages[0] if messages else None
    if isinstance(first, dict):
        for name in TOOLS.intersection(first):
            tools = canonical_tools(first[name])
            if isinstance(tools, list):
                del first[name]
                return tools
    return None
