"""What a template does with rows of one shape: which of their texts it writes, and which it trains."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.rows.row import Conversation
from schemas.rule_ids import SetRule
from tasks.tokens._forms import CANONICAL, Form, forms_of
from tasks.tokens._marks import THOUGHT, Leaf, LeafKind, MarkedRow, Message, mark_row

Tools = list[Any] | None
Render = Callable[[list[Message], Tools], tuple[str, list[tuple[int, int]]]]
"""Renders a conversation: its text, and the pieces that are trained."""

MAX_SHAPES = 10_000
MAX_NAMED = 5
"""Texts that are named of one row."""
OTHER_ROLES = ("system", "developer", "tool")
"""Roles that a template may write like the user's, besides those that the contract looks at."""
ANSWER_KINDS = (LeafKind.CONTENT, LeafKind.REASONING, LeafKind.CALL)


@dataclass(frozen=True, slots=True)
class Shape:
    """What happens to the texts of a row, by their number in the marked row."""

    form: Form = CANONICAL
    lost: frozenset[int] = frozenset()
    """In no part of the text."""
    unmarked: frozenset[int] = frozenset()
    """In the text, but not trained as the rest of their turn is."""
    left_out: frozenset[int] = frozenset()
    """Details, and the reasoning of earlier turns that inference leaves out too."""
    shown_turns: frozenset[int] = frozenset()
    """Assistant messages that are not to be trained: their reasoning is left out."""
    skipped_turns: frozenset[int] = frozenset()
    """Assistant messages of which the template marks nothing."""

    @property
    def is_whole(self) -> bool:
        """Return whether every text is rendered, and trained if it is an answer."""
        return not (self.lost or self.unmarked or self.left_out or self.skipped_turns)


class Shapes:
    """The shapes seen so far; each costs a few renderings, once."""

    def __init__(self, render: Render, refusals: tuple[type[Exception], ...]) -> None:
        """Keep what renders, and the errors with which it refuses a conversation."""
        self.render = render
        self.refusals = refusals
        self._known: dict[Any, Shape] = {}
        self._forms: dict[Any, Form] = {}

    def find(self, messages: list[Message], tools: Tools) -> tuple[Shape, MarkedRow | None]:
        """Find the shape of a conversation, and its marked row where it has more than plain texts."""
        key: Any = _plain_key(messages) if tools is None else None
        marked = None
        if key is None:
            marked = mark_row(messages, tools)
            key = json.dumps([marked.messages, marked.tools])
        if key not in self._known:
            if len(self._known) >= MAX_SHAPES:
                self._known.clear()
            self._known[key] = self._examine(marked or mark_row(messages, tools))
        return self._known[key], marked

    def _examine(self, marked: MarkedRow) -> Shape:
        """Render the forms until one loses nothing; rows with the same fields take the same form."""
        outline = _outline(marked)
        forms = forms_of(marked.messages)
        if outline in self._forms:
            forms = [self._forms[outline]]
        best: Shape | None = None
        for form in forms:
            try:
                shape = self._examine_form(marked, form)
            except self.refusals:
                continue
            if best is None or len(shape.lost) < len(best.lost):
                best = shape
            if not best.lost:
                break
        if best is not None:
            self._forms[outline] = best.form
        return best or Shape()

    def _examine_form(self, marked: MarkedRow, form: Form) -> Shape:
        leaves, messages = marked.leaves, form.apply(marked.messages)
        text, spans = self.render(messages, marked.tools)
        missing = {number for number, leaf in enumerate(leaves) if leaf.mark not in text}
        details = {number for number in missing if leaves[number].kind is LeafKind.DETAIL}
        history = {
            number
            for number in missing
            if leaves[number].kind is LeafKind.REASONING
            and self._is_history(messages, marked.tools, leaves[number])
        }
        trained = "\n".join(text[start:end] for start, end in spans)
        is_marked: dict[int, dict[int, bool]] = {}
        for number, leaf in enumerate(leaves):
            is_answer = leaf.kind in ANSWER_KINDS and messages[leaf.message]["role"] == "assistant"
            if is_answer and number not in missing:
                is_marked.setdefault(leaf.message, {})[number] = leaf.mark in trained
        skipped = {turn for turn, found in is_marked.items() if not any(found.values())}
        return Shape(
            form,
            lost=frozenset(missing - details - history),
            unmarked=frozenset(
                number
                for turn, found in is_marked.items()
                for number, is_found in found.items()
                if turn not in skipped and not is_found
            ),
            left_out=frozenset(details | history | self._lost_roles(messages, marked, text)),
            shown_turns=frozenset(leaves[number].message for number in history),
            skipped_turns=frozenset(skipped),
        )

    def _is_history(self, messages: list[Message], tools: Tools, leaf: Leaf) -> bool:
        """Return whether reasoning would be in the text if its turn were the last one."""
        if leaf.message == len(messages) - 1:
            return False
        try:
            text, _ = self.render(messages[: leaf.message + 1], tools)
        except self.refusals:
            return False
        return leaf.mark in text

    def _lost_roles(self, messages: list[Message], marked: MarkedRow, text: str) -> set[int]:
        """Find the roles that are written like the user's."""
        lost = set()
        for role in {message["role"] for message in messages}.intersection(OTHER_ROLES):
            swapped = [
                {**message, "role": "user"} if message["role"] == role else message
                for message in messages
            ]
            try:
                is_lost = self.render(swapped, marked.tools)[0] == text
            except self.refusals:
                continue
            if is_lost:
                lost |= {
                    number
                    for number, leaf in enumerate(marked.leaves)
                    if leaf.kind is LeafKind.ROLE and messages[leaf.message]["role"] == role
                }
        return lost


def _outline(marked: MarkedRow) -> tuple[Any, ...]:
    """Describe which fields a conversation has, whatever its tools and calls are."""
    return (
        marked.tools is None,
        *(
            (message["role"], bool(message.get("content")), *sorted(message))
            for message in marked.messages
        ),
    )


def _plain_key(messages: list[Message]) -> tuple[Any, ...] | None:
    """Describe a conversation of plain texts; None where a message has more than that."""
    key = []
    for message in messages:
        content, role = message.get("content"), message["role"]
        if len(message) != 2 + ("weight" in message) or type(content) is not str:
            return None
        if role == "assistant" and THOUGHT.search(content):
            return None
        key.append((role, not content.strip()))
    return tuple(key)


def findings(
    conversation: Conversation, text: str, shape: Shape, marked: MarkedRow | None
) -> dict[SetRule, str]:
    """Describe what a rendered row lacks.

    Args:
        conversation: The row.
        text: As rendered.
        shape: That of the row.
        marked: Its marked row; None for a row of plain texts.

    Returns:
        What was found, by rule; empty for nearly every row.
    """
    if shape.is_whole and marked is None:
        contents = [message["content"].strip() for message in conversation.messages]
        if all(content in text for content in contents):
            return {}
    leaves = (marked or mark_row(conversation.messages, conversation.tools)).leaves
    known = shape.lost | shape.left_out
    shown = {
        (leaf.message, leaf.value)
        for number, leaf in enumerate(leaves)
        if leaf.value and number not in known
    }
    missing = {n for n in shape.lost if (leaves[n].message, leaves[n].value) not in shown}
    changed = {
        number
        for number, leaf in enumerate(leaves)
        if leaf.value and number not in known and not is_in(leaf.value, text)
    }
    trained = set(_trained_turns(conversation))
    unmarked = {number for number in shape.unmarked if leaves[number].message in trained}
    lost = _named(leaves, sorted(missing | changed))
    left_out = _named(leaves, sorted(shape.left_out), lost)
    found = {
        SetRule.CONTENT_NOT_RENDERED: (
            (lost, "not in the text that the chat template renders"),
            (_named(leaves, sorted(unmarked)), "rendered, but not trained"),
        ),
        SetRule.FIELD_NOT_RENDERED: ((left_out, "not in the text that the chat template renders"),),
    }
    named = {
        rule: "; ".join(_listed(wheres, what) for wheres, what in parts if wheres)
        for rule, parts in found.items()
    }
    skipped = sorted((shape.shown_turns | shape.skipped_turns) & trained)
    if skipped:
        turns = [f"message {number + 1}" for number in skipped]
        named[SetRule.TURN_NOT_TRAINED] = _listed(turns, "shown, not trained")
    return {rule: detail for rule, detail in named.items() if detail}


def _trained_turns(conversation: Conversation) -> Iterator[int]:
    """Yield the assistant messages that are to be trained."""
    for number, message in enumerate(conversation.messages):
        is_trained = message["role"] == "assistant" and message.get("weight", 1) != 0
        if is_trained and number >= (conversation.n_prompt_messages or 0):
            yield number


def _named(leaves: Sequence[Leaf], numbers: Iterable[int], known: Sequence[str] = ()) -> list[str]:
    """List places once; a part is not listed where the whole of it is, or is known."""
    named: list[str] = []
    for number in numbers:
        where = leaves[number].where
        wholes = (*known, *named)
        if not any(where == whole or where.startswith(whole + ", ") for whole in wholes):
            named.append(where)
    return named


def _listed(wheres: list[str], what: str) -> str:
    """Describe some places: `message 2: reasoning_content is not in the text …`."""
    n_more = len(wheres) - MAX_NAMED
    listed = "; ".join(wheres[:MAX_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")
    return f"{listed} {'is' if len(wheres) == 1 else 'are'} {what}"


def is_in(value: str, text: str) -> bool:
    """Return whether a template wrote a text: as it is, escaped, or with other white space."""
    value = value.strip()
    if value in text:
        return True
    escaped = (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    if any(form in text for form in escaped) or value in html.unescape(text):
        return True
    return " ".join(value.split()) in " ".join(text.split())
