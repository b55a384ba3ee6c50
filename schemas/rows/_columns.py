"""Columns next to a conversation: what other trainers put there, converted or reported."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from schemas.rows._conversions import join_text_parts
from schemas.rows._earlier_turns import HISTORIES, are_turns, from_history
from schemas.rows._media import MEDIA_COLUMNS, read_media
from schemas.rows._other_tasks import describe_preference
from schemas.rows._other_texts import is_contained, read_passage, read_repeated
from schemas.rows._weight_columns import WEIGHT_COLUMNS, like_a_flag, read_weight
from schemas.rows.message_fields import REASONING, Note, join_reasoning, not_used
from schemas.rows.row import Conversation, Conversion, RowFormat
from schemas.rows.tool_calls import canonical_tools, parse_if_json
from schemas.rows.values import as_objects, bare_name, is_blank, is_nothing, kind_name, shown
from schemas.rule_ids import RowRule, Violation

OPENING_ROLES = ("system", "developer")
SINGLE_VALUES = (str, int, float, bool)
MOST_NAME_WORDS = 4
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
        notes.extend(like_a_flag(name, value))
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
        return None if name == "rejected" else [not_used(f"{name} is for preference training")]
    preference = describe_preference(row)
    return [Violation(RowRule.PREFERENCE_ROW, preference)] if preference else None


def _read_history(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Insert earlier turns; in an Alpaca row with some every answer is trained."""
    history = parse_if_json(row[name])
    if is_nothing(history):
        return []
    notes: list[Note] = []
    is_alpaca = conversation.format is RowFormat.ALPACA
    if not (are_turns(history) or (is_alpaca and name == "history")):
        if is_contained(history, conversation):
            return None
        return [not_used(f"{name} is {kind_name(history)}, not a list of pairs or messages")]
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


def _read_system(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Insert a system prompt before the messages, unless they begin with one."""
    value, bare = row[name], bare_name(name)
    role, content = _opening(parse_if_json(value))
    is_message = isinstance(content, str)
    if not is_message:
        role, content = "", join_text_parts(value)
    if is_blank(content):
        return []
    if not isinstance(content, str):
        if name != "system" or conversation.format not in SYSTEM_FORMATS:
            is_settings = isinstance(content, list | dict)
            detail = f"{name} is {kind_name(content)} without a text of the system"
            return [not_used(detail)] if is_settings else None
    elif bare == "developer" and not role and _is_name(content):
        return None
    messages = conversation.messages
    first = messages[0] if messages else None
    if isinstance(first, dict) and _role(first) in OPENING_ROLES:
        said = first["content"]
        if said == content or (isinstance(said, str) and said.strip() == str(content).strip()):
            return []
        detail = f"{name} is {shown(content)}, message 1 ({first['role']}) is {shown(said)}"
        return [Violation(RowRule.SYSTEM_CONFLICT, detail)]
    role = role or ("developer" if bare.startswith("developer") else "system")
    messages.insert(0, {"role": role, "content": content})
    if conversation.n_prompt_messages is not None:
        conversation.n_prompt_messages += 1
    is_joined = content is not value and not is_message
    return [Conversion.SYSTEM, *([Conversion.TEXT_PARTS] * is_joined)]


def _opening(value: Any) -> tuple[str, Any]:
    """Return role and text of a system prompt as a message, a list of one, or Gemini's parts."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        return "", None
    role = value.get("role", "")
    if role not in ("", None, *OPENING_ROLES, "user"):
        return "", None
    content = value.get("content", value.get("parts", value.get("text")))
    content = join_text_parts([content] if isinstance(content, dict) else content)
    return role if role in OPENING_ROLES else "", content


def _is_name(text: str) -> bool:
    """Return True for a few words that are no sentence: a company may be a developer too."""
    return len(text.split()) <= MOST_NAME_WORDS and not text.strip().endswith((".", "!", "?", "。"))


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _read_functions(
    conversation: Conversation, row: dict[str, Any], name: str
) -> list[Note] | None:
    """Read tools in a column with another name; they do not replace those of the tools."""
    tools = canonical_tools(row[name])
    if is_blank(tools) or tools == conversation.tools:
        return []
    if conversation.tools:
        return [not_used(f"{name} differs from tools")]
    if not as_objects(tools):
        is_listed = isinstance(tools, list)
        return [not_used(f"{name} is a list without definitions")] if is_listed else None
    conversation.tools = tools
    return [Conversion.TOOLS]


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


def _read_reasoning(
    conversation: Conversation, row: dict[str, Any], name: str
) -> list[Note] | None:
    """Report reasoning in a column that the answer does not contain; a single word is a setting."""
    value = join_reasoning(row[name])
    if not isinstance(value, str) or is_blank(value) or _is_word(value):
        return None
    if is_contained(value, conversation):
        return None
    return [not_used(f"{name} is a column; reasoning_content of the answer would be trained")]


def _read_settings(_: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Report settings of a single row for the chat template."""
    return None if is_blank(row[name]) else [not_used(f"{name} of a row")]


PREFERENCES = (
    *("chosen", "rejected", "rejectedresponse", "rejectedmessages", "rejectedmessage", "preferred"),
    *("rejectedanswer", "rejectedoutput", "rejectedcompletion"),
)
SYSTEMS = (
    *("system", "systemprompt", "systemmessage", "sysprompt", "systeminstruction", "instructions"),
    *("developer", "developermessage", "developerprompt", "preamble"),
)
FUNCTIONS = (
    *("functions", "availablefunctions", "functiondefinitions", "functiondeclarations"),
    *("availabletools", "tooldefinitions", "toolconfig", "toolspecs", "toolschemas"),
)
THOUGHTS = (
    *("cot", "complexcot", "longcot", "chainofthought", "rationale", "rationales"),
    *("reasoningtrace", "reasoningchain", "thoughtprocess"),
)
PASSAGES = (
    *("context", "contexts", "passage", "passages", "article", "articles"),
    *("document", "documents", "paragraph", "paragraphs", "retrieveddocuments"),
)
SETTINGS = ("chattemplatekwargs", "enablethinking", "reasoningeffort")
READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (frozenset(PREFERENCES), _read_preference),
    # A mask has one value for each of the row's own messages, so it is read before any is added.
    (WEIGHT_COLUMNS, read_weight),
    (HISTORIES, _read_history),
    (frozenset(SYSTEMS), _read_system),
    (frozenset(FUNCTIONS), _read_functions),
    (MEDIA_COLUMNS, read_media),
    (frozenset(("label", "ktotag")), _read_label),
    (REASONING.union(("reasoningcontent",), THOUGHTS), _read_reasoning),
    (frozenset(SETTINGS), _read_settings),
    (frozenset(("prompt", "completion", "instruction", "output", "input")), read_repeated),
    (frozenset(PASSAGES), read_passage),
)
"""Column names, without their spelling, and how they are read; in the order of reading."""
