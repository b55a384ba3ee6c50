"""Loss flags, masks and weights of a whole row, in columns next to its conversation."""

from __future__ import annotations

from typing import Any

from schemas.rows.message_fields import LIKE_A_FLAG, LOSS_FLAGS, NOT_TRAINED, Note, not_used
from schemas.rows.row import Conversation, Conversion
from schemas.rows.tool_calls import parse_if_json
from schemas.rows.values import bare_name, is_blank, shown

WEIGHTS = frozenset(("weight", "sampleweight", "exampleweight", "lossweight", "trainingweight"))
MASKS = frozenset(("lossmask", "mask"))
WEIGHT_COLUMNS = LOSS_FLAGS | WEIGHTS | MASKS


def read_weight(conversation: Conversation, row: dict[str, Any], name: str) -> list[Note] | None:
    """Read a loss flag of the whole row, or a list with one for each message."""
    messages, bare = conversation.messages, bare_name(name)
    value = _parsed(row[name])
    is_weight = bare in WEIGHTS
    if bare == "mask" and not is_blank(value):
        return [not_used(f"{name} of a row; it does not say whether it masks or trains")]
    if isinstance(value, list) and bare in MASKS:
        return _read_mask(value, messages, name)
    is_flag = type(value) is bool or (type(value) is int and value in (0, 1) and bare != "loss")
    if value is None or not (is_flag or (is_weight and value in (0, 1))):
        is_number = is_weight and type(value) in (int, float)
        return [not_used(f"{name} {shown(value)} of a row")] if is_number else None
    if bool(value) != (bare in NOT_TRAINED):
        return []
    messages[:] = [_untrained(message) for message in messages]
    return [Conversion.LOSS_FLAGS]


def _parsed(value: Any) -> Any:
    """Read a flag or a list of them that a table wrote as text."""
    flags = {"true": True, "false": False, "0": 0, "1": 1}
    is_text = isinstance(value, str)
    return flags.get(value.strip().casefold(), parse_if_json(value)) if is_text else value


def like_a_flag(name: str, value: Any) -> list[Note]:
    """Report a column that may be a loss flag under another name."""
    if type(value) is bool and LIKE_A_FLAG.search(name):
        return [not_used(f"{name} {str(value).lower()} of a row")]
    return []


def _untrained(message: Any) -> Any:
    """Return a copy with weight 0; messages of other roles are not trained anyway."""
    is_answer = isinstance(message, dict) and message.get("role") == "assistant"
    return {**message, "weight": 0} if is_answer else message


def _read_mask(mask: list[Any], messages: list[Any], name: str) -> list[Note] | None:
    if len(mask) != len(messages) or any(value not in (0, 1) for value in mask):
        return [not_used(f"{name} with {len(mask)} values for {len(messages)} messages")]
    pairs = zip(mask, messages, strict=True)
    messages[:] = [message if value else _untrained(message) for value, message in pairs]
    return [Conversion.LOSS_FLAGS]
