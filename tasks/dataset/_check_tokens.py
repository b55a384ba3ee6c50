"""The token part of the data gate: rows rendered and tokenised as the model would see them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from schemas.config.run import RunConfig
from schemas.rows.row import Conversation
from schemas.rule_ids import RuleSetting, SetRule
from schemas.rules.set_rules import SET_RULES
from schemas.texts.secrets import secret_kinds
from tasks.dataset._token_report import make_token_report
from tasks.dataset.comparisons import SetColumns, example, first_true
from tasks.engine.jsonl import read_lines
from tasks.engine.progress import progress_bar
from tasks.models.prepared import special_tokens
from tasks.rows.feature_table import FeatureTable
from tasks.tokens.light_renderer import load_check_renderer
from tasks.tokens.rendering import Renderer
from tasks.tokens.view import sample_rendered
from tasks.tokens.writing import SplitTokens, TokenOutput, write_tokens
from tasks.training.plan.speed import expected_speed

SHOWN_ROWS = 3


@dataclass(frozen=True)
class TokenGate:
    """What rows are rendered with, and the rules they are held to."""

    renderer: Renderer
    special_tokens: tuple[str, ...]
    config: RunConfig
    settings: Mapping[SetRule, RuleSetting]


def open_token_gate(config: RunConfig, settings: Mapping[SetRule, RuleSetting]) -> TokenGate:
    """Load the tokenizer and the templates of the configured model.

    Args:
        config: Model, template and longest row allowed.
        settings: What `set_rule_settings` gave.

    Returns:
        What the token rules need.
    """
    renderer = load_check_renderer(config)
    return TokenGate(renderer, special_tokens(renderer.tokenizer), config, settings)


def add_tokens(
    found: SetColumns,
    table: FeatureTable,
    kept: Path,
    token_gate: TokenGate,
) -> dict[str, Any]:
    """Tokenise the kept rows and add what the token rules look at.

    Args:
        found: Gets the columns and examples.
        table: Places of the kept rows.
        kept: A file of conversations, as `check_schema` writes it.
        token_gate: Tokenizer, templates and rules.

    Returns:
        The token report, and under `rendered_rows` three rows as pieces of text, each with whether
        it is trained.
    """
    renderer, config = token_gate.renderer, token_gate.config
    rows = progress_bar(_conversations(kept), total=table.n_rows, label="tokenise", unit="row")
    limit = config.quality.max_length_tokens
    tokens = write_tokens(rows, renderer, token_gate.settings, limit, TokenOutput())
    _add_columns(found, table, tokens)
    rate, _ = expected_speed(config.training, None)
    report = make_token_report(tokens.columns, config, rate).model_dump(mode="json")
    shown = islice(filter(_is_showable, _conversations(kept)), SHOWN_ROWS)
    return {**report, "rendered_rows": sample_rendered(renderer, shown)}


def _is_showable(conversation: Conversation) -> bool:
    """Keep secrets, which only warn, out of the page."""
    return not secret_kinds(json.dumps(conversation.messages, ensure_ascii=False))


def _add_columns(found: SetColumns, table: FeatureTable, tokens: SplitTokens) -> None:
    found.columns["is_usable"] = tokens.columns["is_written"]
    for rule, definition in SET_RULES.items():
        if definition.is_token_rule:
            marks = found.columns[definition.column] = tokens.columns[definition.column]
            found.examples[rule] = tuple(
                example(table, row, tokens.detail(row)) for row in first_true(marks)
            )


def _conversations(kept: Path) -> Iterator[Conversation]:
    return (Conversation.from_json(line) for line in read_lines(kept))
