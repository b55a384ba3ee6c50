"""Row rules by id: what each says, how strict it is, and how to mend a row that breaks it.

How rows are held to them stands in `schemas/rules/check_rows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import ConfigError
from schemas.rows.row import ROLES
from schemas.rule_ids import RowRule, RuleSetting, Severity


@dataclass(frozen=True)
class RowRuleDefinition:
    """One row rule; `is_structural`: a row that breaks it yields no conversation to keep."""

    meaning: str
    fix: str
    severity: Severity = Severity.BLOCK
    is_structural: bool = False


ROW_RULES: dict[RowRule, RowRuleDefinition] = {
    RowRule.UNPARSEABLE_LINE: RowRuleDefinition(
        "The line cannot be read in the file's format.",
        "write one valid JSON object a line, in UTF-8",
        is_structural=True,
    ),
    RowRule.NOT_AN_OBJECT: RowRuleDefinition(
        "The row is not an object with named fields.",
        'write each row as an object, e.g. {"prompt": "…", "completion": "…"}',
        is_structural=True,
    ),
    RowRule.UNKNOWN_FORMAT: RowRuleDefinition(
        "The row is in none of the known formats.",
        "write messages or prompt and completion (sft-flow check --schema shows them), or name the "
        "columns, e.g. data.source.columns={prompt: question, completion: answer}",
        is_structural=True,
    ),
    RowRule.MIXED_FORMAT: RowRuleDefinition(
        "The row has the fields of two formats, or another format than the first row of its source.",
        "write all rows in one format; where two are present messages counts first",
        severity=Severity.WARN,
    ),
    RowRule.MESSAGES_EMPTY: RowRuleDefinition(
        "The list of messages is empty.", "drop these rows", is_structural=True
    ),
    RowRule.MESSAGE_NOT_OBJECT: RowRuleDefinition(
        "A message is not an object with role and content.",
        'write each message as {"role": "user", "content": "…"}',
        is_structural=True,
    ),
    RowRule.UNKNOWN_ROLE: RowRuleDefinition(
        f"A message's role is none of {', '.join(ROLES)}.",
        "rename the roles, e.g. human to user and gpt to assistant; sft-flow check --fix does",
    ),
    RowRule.CONTENT_MISSING: RowRuleDefinition(
        "A message has no content (and calls no tool).", "fill in the content or drop these rows"
    ),
    RowRule.CONTENT_EMPTY: RowRuleDefinition(
        "A message's content is empty or white space.", "fill in the content or drop these rows"
    ),
    RowRule.CONTENT_NOT_TEXT: RowRuleDefinition(
        "A message's content is not a text.", "write the content as a string or text parts"
    ),
    RowRule.SYSTEM_NOT_FIRST: RowRuleDefinition(
        "A system or developer message stands after the first turn.",
        "move it to the front or drop it",
    ),
    RowRule.ROLES_NOT_ALTERNATING: RowRuleDefinition(
        "User and assistant do not take turns, beginning with the user.",
        "merge or drop these rows",
    ),
    RowRule.NO_ASSISTANT_TURN: RowRuleDefinition(
        "There is no assistant turn, so nothing to learn.", "add the answer or drop these rows"
    ),
    RowRule.LAST_TURN_NOT_ASSISTANT: RowRuleDefinition(
        "The conversation goes on after the last assistant turn.",
        "cut the conversation after its last answer",
    ),
    RowRule.TOOL_CALL_INVALID: RowRuleDefinition(
        "A tool call names no known tool, or its arguments are not what the tool's schema asks for.",
        "correct the call, or add the tool to the row's tools",
    ),
    RowRule.TOOL_RESULT_UNMATCHED: RowRuleDefinition(
        "A tool's result answers no call, or a call has no result.",
        "give every call its result, with the call's tool_call_id, or drop these rows",
    ),
    RowRule.PROMPT_EMPTY: RowRuleDefinition(
        "The prompt is empty.", "fill in the prompt or drop these rows"
    ),
    RowRule.COMPLETION_EMPTY: RowRuleDefinition(
        "The completion is empty.", "fill in the completion or drop these rows"
    ),
    RowRule.WEIGHT_INVALID: RowRuleDefinition(
        "A message's weight is neither 0 nor 1, or stands on a message that is never trained.",
        "write weight 0 or 1, on assistant messages only",
    ),
    RowRule.CONTROL_CHARACTERS: RowRuleDefinition(
        "A text has control characters, or characters that change the direction of reading.",
        "take these characters out",
    ),
    RowRule.ENCODING_DAMAGE: RowRuleDefinition(
        "A text was decoded wrongly: U+FFFD, mojibake, a byte order mark, or bytes that are no UTF-8.",
        "export the rows again as UTF-8; sft-flow check --fix removes byte order marks",
    ),
    RowRule.SPECIAL_TOKEN_INJECTION: RowRuleDefinition(
        "A text holds a token that chat templates use as a marker, so it would end or open a turn.",
        "take the markers out: messages hold what is said, the template adds the markers",
    ),
    RowRule.UNRENDERED_PLACEHOLDER: RowRuleDefinition(
        "A text holds a placeholder that was never filled in.",
        "fill in the placeholders or drop these rows",
        severity=Severity.WARN,
    ),
    RowRule.SECRET_OR_PII: RowRuleDefinition(
        "A text seems to hold a key, a password, a card number, an e-mail address or a phone number.",
        "replace them by made-up ones, or drop these rows; a model repeats what it learned",
        severity=Severity.WARN,
    ),
}


def row_severities(settings: Mapping[RowRule, RuleSetting]) -> dict[RowRule, Severity]:
    """Complete the configured severities with the rules' defaults.

    Args:
        settings: What the configuration names.

    Returns:
        A severity for every rule.

    Raises:
        ConfigError: A rule without which there is no conversation was loosened.
    """
    severities = {rule: definition.severity for rule, definition in ROW_RULES.items()}
    for rule, setting in settings.items():
        if setting.severity is None:
            continue
        if ROW_RULES[rule].is_structural and setting.severity != Severity.BLOCK:
            raise ConfigError(
                f"rule {rule} cannot be set to {setting.severity}: such a row holds no conversation",
                where=f"data.rules.{rule}.severity",
                expected="block",
                got=setting.severity,
                fix="leave the rule at block; the rows are set aside in quarantine.jsonl",
            )
        severities[rule] = setting.severity
    return severities
