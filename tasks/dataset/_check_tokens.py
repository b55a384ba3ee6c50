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
from schemas.texts.secrets import secret_kinds
from tasks.dataset._token_report import make_token_report
from tasks.engine.jsonl import read_lines
from tasks.engine.progress import progress_bar
from tasks.models.prepared import special_tokens
from tasks.tokens.light_renderer import load_check_renderer
from tasks.tokens.rendering import Renderer
from tasks.tokens.view import sample_rendered
from tasks.tokens.writing import SplitTokens, TokenOutput, write_tokens
from tasks.training.plan.speed import expected_speed

SHOWN_ROWS = 3


@dataclass(frozen=True)
class TokenCheck:
    """What rows are rendered with, and the token rules."""

    renderer: Renderer
    special_tokens: tuple[str, ...]
    config: RunConfig
    settings: Mapping[SetRule, RuleSetting]

    def tokenise(self, kept: Path, n_rows: int) -> tuple[tuple[SplitTokens], dict[str, Any]]:
        """Tokenise the kept rows.

        Args:
            kept: A file of conversations, as `check_schema` writes it.
            n_rows: For the progress bar.

        Returns:
            Their tokens as one part, and the token report with three rows under `rendered_rows`, as pieces of
            text, each with whether it is trained.
        """
        config = self.config
        rows = progress_bar(_conversations(kept), total=n_rows, label="tokenise", unit="row")
        limit = self.renderer.longest_row(config.quality.max_length_tokens)
        tokens = write_tokens(rows, self.renderer, self.settings, limit, TokenOutput())
        rate, _ = expected_speed(config.training, None)
        report = make_token_report(tokens.columns, config, rate).model_dump(mode="json")
        shown = islice(filter(_is_showable, _conversations(kept)), SHOWN_ROWS)
        return (tokens,), {**report, "rendered_rows": sample_rendered(self.renderer, shown)}


def open_token_check(config: RunConfig, settings: Mapping[SetRule, RuleSetting]) -> TokenCheck:
    """Load the tokenizer and the templates of the configured model."""
    renderer = load_check_renderer(config)
    return TokenCheck(renderer, special_tokens(renderer.tokenizer), config, settings)


def _is_showable(conversation: Conversation) -> bool:
    """Keep secrets, which only warn, out of the page."""
    return not secret_kinds(json.dumps(conversation.messages, ensure_ascii=False))


def _conversations(kept: Path) -> Iterator[Conversation]:
    return (Conversation.from_json(line) for line in read_lines(kept))
