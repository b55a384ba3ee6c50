"""Row rules by id: meaning, severity, and how to fix a row that breaks it.

To add one: an id in `RowRule` (`schemas/rule_ids.py`), an entry of `ROW_RULES` here, and its check. A rule
on messages is a flag in `_message_frame.py` and a check in `message_schema` (`check_rows.py`), a rule on
texts is in `_text_rules.py`, on tool calls in `_tool_rules.py`, on the shape of a row in
`schemas/rows/recognition.py`. `tests/unit/schemas/rules/test_check_rows.py` requires a case for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from schemas.errors import ConfigError
from schemas.rows.row import ROLES
from schemas.rule_ids import RowRule, RuleSetting, Severity


@dataclass(frozen=True)
class RowRuleDefinition:
    """One row rule; `is_structural`: a row that breaks it has no conversation to keep."""

    meaning: str
    fix: str
    severity: Severity = Severity.BLOCK
    is_structural: bool = False


_structural = partial(RowRuleDefinition, is_structural=True)
_warning = partial(RowRuleDefinition, severity=Severity.WARN)
ROW_RULES: dict[RowRule, RowRuleDefinition] = {
    RowRule.UNPARSEABLE_LINE: _structural(
        "The line cannot be read in the file's format.",
        "write one valid JSON object per line, in UTF-8",
    ),
    RowRule.NOT_AN_OBJECT: _structural(
        "The row is not an object with named fields.",
        'write each row as an object, e.g. {"prompt": "…", "completion": "…"}',
    ),
    RowRule.UNKNOWN_FORMAT: _structural(
        "The row is in no known format.",
        "write messages or prompt and completion (see sft-flow check --schema), or map the columns, "
        "e.g. data.source.columns={prompt: question, completion: answer}",
    ),
    RowRule.PREFERENCE_ROW: _structural(
        "The row has answers to compare or steps to rate (DPO, reward models), not one answer to train on.",
        "train them with a preference trainer, or train on the chosen answers by mapping their column to "
        "completion, messages or output, as the examples show",
    ),
    RowRule.UNPAIRED_PREFERENCE: RowRuleDefinition(
        "The answer is labelled as bad (label or kto_tag is false: unpaired preference, KTO) and would "
        "be trained like a good one.",
        "drop these rows and train on the good answers, or use a KTO trainer; if the label is a class and "
        "no preference, set data.rules.unpaired_preference.severity=off",
    ),
    RowRule.MIXED_FORMAT: _warning(
        "The row has two formats with different texts, or another format than the first row of its source.",
        "write all rows in one format; of several, messages takes precedence",
    ),
    RowRule.MESSAGES_EMPTY: _structural("The list of messages is empty.", "drop these rows"),
    RowRule.MESSAGE_NOT_OBJECT: _structural(
        "A message is not an object with role and content.",
        'write each message as {"role": "user", "content": "…"}',
    ),
    RowRule.UNKNOWN_ROLE: RowRuleDefinition(
        f"The role of a message is not one of {', '.join(ROLES)}.",
        "rename the roles, e.g. human to user and gpt to assistant, or run sft-flow check --fix",
    ),
    RowRule.CONTENT_MISSING: RowRuleDefinition(
        "A message has neither content nor a tool call.", "fill in the content or drop these rows"
    ),
    RowRule.CONTENT_EMPTY: RowRuleDefinition(
        "The content of a message is empty or white space.",
        "fill in the content or drop these rows",
    ),
    RowRule.CONTENT_NOT_TEXT: RowRuleDefinition(
        "The content of a message is not text.", "write the content as a string or text parts"
    ),
    RowRule.SYSTEM_NOT_FIRST: RowRuleDefinition(
        "A system or developer message is not the first message.", "move it to the start or drop it"
    ),
    RowRule.ROLES_NOT_ALTERNATING: RowRuleDefinition(
        "User and assistant do not alternate, starting with the user.", "merge or drop these rows"
    ),
    RowRule.NO_ASSISTANT_TURN: RowRuleDefinition(
        "There is no assistant turn to train on.", "add the answer or drop these rows"
    ),
    RowRule.LAST_TURN_NOT_ASSISTANT: RowRuleDefinition(
        "The conversation does not end with an assistant turn.",
        "end the conversation after its last answer",
    ),
    RowRule.TOOL_CALL_INVALID: RowRuleDefinition(
        "A tool call is of an unknown tool, or its arguments do not match the schema of the tool.",
        "correct the call, or add the tool to the tools of the row",
    ),
    RowRule.TOOL_RESULT_UNMATCHED: RowRuleDefinition(
        "A tool result has no call, or a call has no result.",
        "add a result with the tool_call_id of the call, or drop these rows",
    ),
    RowRule.PROMPT_EMPTY: RowRuleDefinition(
        "The prompt is empty.", "fill in the prompt or drop these rows"
    ),
    RowRule.COMPLETION_EMPTY: RowRuleDefinition(
        "The completion is empty.", "fill in the completion or drop these rows"
    ),
    RowRule.WEIGHT_INVALID: RowRuleDefinition(
        "The weight or loss flag of a message is neither 0 nor 1 (for a flag also true or false), "
        "contradicts another one, or asks to train a message that is never trained.",
        "write weight 0 or 1, on assistant messages only",
    ),
    RowRule.NEEDS_MEDIA: RowRuleDefinition(
        "The row needs pictures, videos or sound, and only text is trained: the model would learn to "
        "invent what it cannot see.",
        "drop these rows, or remove both the column and the placeholders if the text is enough",
    ),
    RowRule.SYSTEM_CONFLICT: _warning(
        "The row has a system prompt in a column and another one in its messages, which counts.",
        "write the system prompt once",
    ),
    RowRule.FIELD_NOT_USED: _warning(
        "A field with content, or that other trainers use, has no effect here.",
        "remove the field, or write what it asks for as docs/data-gate.md describes",
    ),
    RowRule.CONTROL_CHARACTERS: RowRuleDefinition(
        "A text contains control characters, or characters that change the reading direction.",
        "remove these characters",
    ),
    RowRule.ENCODING_DAMAGE: RowRuleDefinition(
        "A text was decoded wrongly: U+FFFD, mojibake, a byte order mark, or bytes that are not UTF-8.",
        "export the rows again as UTF-8; sft-flow check --fix removes byte order marks",
    ),
    RowRule.SPECIAL_TOKEN_INJECTION: RowRuleDefinition(
        "A text contains a marker of a chat template, which would end or open a turn.",
        "remove the markers; the chat template adds them",
    ),
    RowRule.UNRENDERED_PLACEHOLDER: _warning(
        "A text contains a placeholder that was not filled in.",
        "fill in the placeholders or drop these rows",
    ),
    RowRule.MISSING_VALUE_TEXT: _warning(
        "A text is the name of an empty cell, such as nan, None or null, or begins, ends or has a section with it.",
        "leave the field empty, or drop the rows whose answer it is; pandas: fillna('') before to_json",
    ),
    RowRule.TOKEN_PIECES: _warning(
        "A text consists of a tokenizer's pieces, such as Ġword, ▁word or <0x0A>.",
        "decode with tokenizer.decode instead of joining convert_ids_to_tokens",
    ),
    RowRule.ESCAPED_LINE_BREAKS: _warning(
        "Line breaks are written as the two characters \\n, or others as \\u00e9, %20 or _x000D_, as texts "
        "escaped twice have them.",
        "write the rows with one JSON encoder; do not encode texts that are encoded already",
    ),
    RowRule.HTML_ENTITIES: _warning(
        "Characters are written as in HTML, such as &amp;quot; and &amp;#39;, in a text that is not HTML.",
        "convert the texts with html.unescape",
    ),
    RowRule.TEXT_RESIDUE: _warning(
        "A text contains what copying leaves: invisible characters, marks of citations, half of a marker.",
        "remove them from the text",
    ),
    RowRule.ANSWER_BOUNDARY: _warning(
        "An answer breaks off, with code or <answer> left open or nothing behind its thought, or goes on with "
        "the label of another turn.",
        "cut the answer where the next turn begins; drop answers that break off, or generate them again with a "
        "higher token limit",
    ),
    RowRule.LOOPING_ANSWER: _warning(
        "An answer ends in a loop: the same words at least five times in a row.",
        "drop these rows, or cut the answer before the loop",
    ),
    RowRule.UNCLOSED_THOUGHT: RowRuleDefinition(
        "An answer begins with a thought, such as <think>, that never ends: it contains no answer.",
        "drop these rows, or generate them again with a higher token limit",
    ),
    RowRule.UNBALANCED_THOUGHT: _warning(
        "The tags of a thought do not match: one is missing, repeated or of another name.",
        "write <think> and </think> in pairs; if the chat template opens the thought itself, so that only "
        "</think> is in the answers of all rows, set data.rules.unbalanced_thought.severity=off",
    ),
    RowRule.SECRET_OR_PII: _warning(
        "A text seems to contain a key, a password, a card number, an e-mail address or a phone number.",
        "replace them by invented ones, or drop these rows; a model can repeat what it was trained on",
    ),
}


def row_severities(settings: Mapping[RowRule, RuleSetting]) -> dict[RowRule, Severity]:
    """Add the default severities to the configured ones.

    Args:
        settings: From the configuration.

    Returns:
        A severity for every rule.

    Raises:
        ConfigError: The severity of a structural rule is not block.
    """
    severities = {rule: definition.severity for rule, definition in ROW_RULES.items()}
    for rule, setting in settings.items():
        if setting.severity is None:
            continue
        if ROW_RULES[rule].is_structural and setting.severity != Severity.BLOCK:
            raise ConfigError(
                f"rule {rule} cannot be set to {setting.severity}: such a row contains no conversation",
                where=f"data.rules.{rule}.severity",
                expected="block",
                got=setting.severity,
                fix="leave the rule at block; the rows are moved to quarantine.jsonl",
            )
        severities[rule] = setting.severity
    return severities
