"""Columns next to a conversation: what other trainers put there, converted or reported."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from schemas.rows._conversions import from_history, join_text_parts
from schemas.rows._other_tasks import describe_preference
from schemas.rows.message_fields import LOSS_FLAGS, MEDIA, REASONING, Note
from schemas.rows.row import Conversation, Conversion, RowFormat
from schemas.rows.tool_calls import canonical_tools, parse_if_json
from schemas.rows.values import as_objects, bare_name, is_blank, kind_name, shown
from schemas.rule_ids import RowRule, Violation

OPENING_ROLES = ("system", "developer")
PLACEHOLDER = re.compile(r"<(?:image|video|audio)(?:[ _-]?\d+)?>")
"""Where LLaMA-Factory, ms-swift and LLaVA put a picture, a video or sound into a text."""
MEDIA_FILE = re.compile(
    r"(?!https?://).*\.(?:jpe?g|png|gif|webp|bmp|tiff?|mp4|avi|mov|mkv|webm|wav|mp3|flac|ogg|m4a)"
    r"|data:(?:image|video|audio)/.*",
    re.IGNORECASE | re.DOTALL,
)
SINGLE_VALUES = (str, int, float, bool)
LONGEST_WORD = {True: 20, False: 8}
"""Characters of a text that only names a class or a setting, in ASCII or not."""
SYSTEM_FORMATS = (RowFormat.SHAREGPT, RowFormat.ALPACA)
"""Formats with a `system` column of their own: one that is no text is an error."""

Reader = Callable[[Conversation, dict[str, Any], str], list[Note] | None]
"""Reads one column and returns what to note; None if it is a column like any other."""


def read_columns(
    conversation: Conversation, row: dict[str, Any], used: frozenset[str], notes: list[Note]
) -> None:
    """Convert the columns that are not part of the row's format, and note what nothing reads.

    Args:
        conversation: Changed in place.
        row: The row as read.
        used: Fields of the row's format.
        notes: Gets conversions, violations and names of fields in earlier messages; names of
            columns are written into the conversation.
    """
    readers, others = _plan(tuple(row), used)
    remaining = list(others)
    for name, read in readers:
        found = read(conversation, row, name)
        if found is None:
            remaining.append(name)
        else:
            notes.extend(found)
            if any(isinstance(note, Violation) for note in found):
                _keep_column(conversation, name, row[name])
    unused = []
    for name in remaining:
        value = row[name]
        if isinstance(value, SINGLE_VALUES):
            conversation.columns[name] = value
        if not is_blank(value):
            unused.append(name)
    conversation.unused_fields = tuple(sorted(unused))


def _keep_column(conversation: Conversation, name: str, value: Any) -> None:
    if isinstance(value, SINGLE_VALUES):
        conversation.columns[name] = value


@lru_cache(maxsize=4096)
def _plan(
    names: tuple[str, ...], used: frozenset[str]
) -> tuple[tuple[tuple[str, Reader], ...], tuple[str, ...]]:
    """Divide column names into those with a reader, in the order of `READERS`, and others."""
    bare = {name: bare_name(name) for name in names if name not in used}
    read = [(name, read) for kinds, read in READERS for name in bare if bare[name] in kinds]
    known = {name for name, _ in read}
    return tuple(read), tuple(name for name in bare if name not in known)


def has_answer(conversation: Conversation) -> bool:
    """Return True if the conversation ends with an answer of the assistant."""
    last = conversation.messages[-1] if conversation.messages else None
    return (
        isinstance(last, dict)
        and last.get("role") == "assistant"
        and not (is_blank(last.get("content")) and is_blank(last.get("tool_calls")))
    )


def _read_preference(
    conversation: Conversation, row: dict[str, Any], name: str
) -> list[Note] | None:
    """Report a preference row, or the rejected answer of a row that has its answer."""
    if has_answer(conversation):
        if is_blank(row[name]) or not bare_name(name).startswith("rejected"):
            return None
        return None if name == "rejected" else [_not_used(f"{name} is for preference training")]
    preference = describe_preference(row)
    return [Violation(RowRule.PREFERENCE_ROW, preference)] if preference else None


def _read_history(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Insert earlier turns; in an Alpaca row with some every answer is trained."""
    history = parse_if_json(row[name])
    notes: list[Note] = []
    is_alpaca = conversation.format is RowFormat.ALPACA
    if is_blank(history) or not (is_alpaca or _are_turns(history)):
        return [] if is_blank(history) else None
    earlier = from_history(history, notes)
    messages = conversation.messages
    place = 1 if messages and _role(messages[0]) in OPENING_ROLES else 0
    if earlier and messages[place : place + len(earlier)] == earlier:
        return []
    messages[place:place] = earlier
    if is_alpaca:
        conversation.n_prompt_messages = None
    elif conversation.n_prompt_messages is not None:
        conversation.n_prompt_messages += len(earlier)
    return [*notes, Conversion.HISTORY] if earlier else notes


def _are_turns(history: Any) -> bool:
    """Return True for a list of `[question, answer]` or of messages."""
    return isinstance(history, list) and all(
        (isinstance(item, list) and len(item) == 2 and all(isinstance(t, str) for t in item))
        or (isinstance(item, dict) and ("role" in item or "from" in item))
        for item in history
    )


def _read_system(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Insert a system prompt before the messages, unless they begin with one."""
    value = row[name]
    content = join_text_parts(value)
    if is_blank(content):
        return []
    is_error = name == "system" and conversation.format in SYSTEM_FORMATS
    if not isinstance(content, str) and not is_error:
        return None
    messages = conversation.messages
    first = messages[0] if messages else None
    if isinstance(first, dict) and _role(first) in OPENING_ROLES:
        said = first["content"]
        if said == content or (isinstance(said, str) and said.strip() == str(content).strip()):
            return []
        detail = f"{name} is {shown(content)}, message 1 ({first['role']}) is {shown(said)}"
        return [Violation(RowRule.SYSTEM_CONFLICT, detail)]
    messages.insert(0, {"role": "system", "content": content})
    if conversation.n_prompt_messages is not None:
        conversation.n_prompt_messages += 1
    joined = [Conversion.TEXT_PARTS] if content is not value else []
    return [Conversion.SYSTEM, *joined]


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _read_functions(
    conversation: Conversation, row: dict[str, Any], name: str
) -> list[Note] | None:
    """Read `functions`, OpenAI's old name of the tools."""
    tools = canonical_tools(row[name])
    if tools is None or tools == conversation.tools:
        return []
    if conversation.tools or not as_objects(tools):
        return None
    conversation.tools = tools
    return [Conversion.TOOLS]


def _read_media(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report pictures, videos and sound, and their placeholders in the text."""
    value = parse_if_json(row[name])
    placeholder = _placeholder(conversation)
    if _is_no_media(value):
        if not placeholder:
            return []
        return [Violation(RowRule.NEEDS_MEDIA, f"{placeholder} in the text, and {name} is empty")]
    is_listed = isinstance(value, list | dict) and not _is_scalar_list(value)
    is_file = isinstance(value, str) and MEDIA_FILE.fullmatch(value.strip())
    if not (placeholder or is_listed or is_file):
        return None
    seen = f"{kind_name(value)} in {name}"
    if isinstance(value, list):
        seen = f"{len(value)} in {name}"
    return [
        Violation(RowRule.NEEDS_MEDIA, seen + (f", {placeholder} in the text" * bool(placeholder)))
    ]


def _is_no_media(value: Any) -> bool:
    """Return True for nothing, and for lists and objects of nothing."""
    items = list(value.values()) if isinstance(value, dict) else value
    return is_blank(value) or (isinstance(items, list) and all(_is_no_media(i) for i in items))


def _is_scalar_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) for item in value)


def _placeholder(conversation: Conversation) -> str:
    """Find the first placeholder of a picture, a video or sound in the texts."""
    for message in conversation.messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and "<" in content and (found := PLACEHOLDER.search(content)):
            return found.group()
    return ""


def _read_label(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report an answer that is labelled as bad; an answer of one short word is a class itself."""
    value = row[name]
    is_false = value is False or (isinstance(value, str) and value.strip().casefold() == "false")
    is_tag = bare_name(name) == "ktotag" and not isinstance(value, str) and value == 0
    if not (is_false or is_tag) or not has_answer(conversation):
        return None
    answer = conversation.messages[-1].get("content")
    if isinstance(answer, str) and bare_name(name) == "label" and _is_word(answer):
        return None
    return [Violation(RowRule.UNPAIRED_PREFERENCE, f"{name} is {shown(value)} next to an answer")]


def _is_word(text: str) -> bool:
    return len(text.split()) == 1 and len(text.strip()) <= LONGEST_WORD[text.isascii()]


def _read_flag(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Read a loss flag of the whole row, or a list with one for each message."""
    value, messages = row[name], conversation.messages
    is_weight = bare_name(name) == "weight"
    if isinstance(value, list) and bare_name(name) == "lossmask":
        return _read_mask(value, messages, name)
    if value is None or (type(value) is not bool and not (is_weight and value in (0, 1))):
        is_number = is_weight and type(value) in (int, float)
        return [_not_used(f"{name} {shown(value)} of a row")] if is_number else None
    if value:
        return []
    messages[:] = [_untrained(message) for message in messages]
    return [Conversion.LOSS_FLAGS]


def _untrained(message: Any) -> Any:
    """Return a copy with weight 0; messages of other roles are not trained anyway."""
    return {**message, "weight": 0} if _role(message) == "assistant" else message


def _read_mask(mask: list[Any], messages: list[Any], name: str) -> list[Note] | None:
    if len(mask) != len(messages) or any(value not in (0, 1) for value in mask):
        return [_not_used(f"{name} with {len(mask)} values for {len(messages)} messages")]
    pairs = zip(mask, messages, strict=True)
    messages[:] = [message if value else _untrained(message) for value, message in pairs]
    return [Conversion.LOSS_FLAGS]


def _read_reasoning(_: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report reasoning in a column; a single word is a setting."""
    value = row[name]
    if not isinstance(value, str) or is_blank(value) or _is_word(value):
        return None
    return [_not_used(f"{name} is a column; reasoning_content of the answer would be trained")]


def _read_settings(_: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report settings of a single row for the chat template."""
    return None if is_blank(row[name]) else [_not_used(f"{name} of a row")]


def _not_used(detail: str) -> Violation:
    return Violation(RowRule.FIELD_NOT_USED, detail)


PREFERENCES = ("chosen", "rejected", "rejectedresponse", "rejectedmessages", "preferred")
SYSTEMS = (
    "system", "systemprompt", "systemmessage", "sysprompt", "systeminstruction", "instructions",
)  # fmt: skip
READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset(PREFERENCES), _read_preference),
    # A mask has one value for each of the row's own messages, so it is read before any is added.
    (LOSS_FLAGS | {"weight"}, _read_flag),
    (frozenset(("history",)), _read_history),
    (frozenset(SYSTEMS), _read_system),
    (frozenset(("functions",)), _read_functions),
    (MEDIA, _read_media),
    (frozenset(("label", "ktotag")), _read_label),
    (REASONING | {"reasoningcontent"}, _read_reasoning),
    (frozenset(("chattemplatekwargs",)), _read_settings),
)
"""Column names, without their spelling, and how they are read; in the order of reading."""
