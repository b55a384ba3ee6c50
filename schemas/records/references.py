"""Immutable records that stages pass on: references to files and counts, never the data.

Each stage writes a folder and returns one of these. `sha256` covers the content a later
stage reads, so equal content gives equal keys whatever the name of the folder.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record
from schemas.config.gates import DecisionMode
from schemas.records.decision import Decision, DecisionReport
from schemas.rule_ids import RuleResult, Verdict


class StageReference(Record):
    """The output folder of a stage."""

    stage: str
    folder: str
    """Relative to the work directory, so that the directory can be moved."""
    sha256: str


class SourceRows(Record):
    """Rows read from one of several sources."""

    name: str
    """As in `data.sources`; files of its rows are shown as name/file."""
    source: str
    n_rows: int


class DatasetReference(StageReference):
    """Output of `load_dataset`: `rows.jsonl`, one source row per line, and `row_digests.npy`."""

    source: str
    n_rows: int
    sources: tuple[SourceRows, ...] = ()
    """In the order of their rows; empty for one unnamed source."""
    conversions: dict[str, int] = {}
    """Rows by the conversion with which they were read; those of a row follow when it is checked."""


class CheckedReference(StageReference):
    """Output of `check_schema`: `kept.jsonl`, `quarantine.jsonl`, `rules.json`."""

    n_rows: int
    n_kept_rows: int
    n_quarantined_rows: int
    kept_sha256: str
    """Of the rows in `kept.jsonl`, which are split, in their order; not of their files and lines."""
    formats: dict[str, int]
    conversions: dict[str, int] = {}
    """Rows per loss-free conversion into the canonical form."""
    unused_fields: dict[str, int] = {}
    """Rows with each column, or field of a message, that nothing reads."""
    rules: tuple[RuleResult, ...]
    """Row rules that were broken at least once."""


class SplitReference(StageReference):
    """Output of `split_dataset`: `train.jsonl`, `eval.jsonl`, `validation.jsonl`, `row_features/`.

    No prompt is in two splits.
    """

    n_train_rows: int
    n_eval_rows: int
    n_validation_rows: int = 0
    """Measured during training, neither trained nor evaluated."""
    n_unused_rows: int
    """Neither trained nor evaluated: beyond max_eval_rows, or too similar to a pinned row."""
    is_pinned: bool = False
    """The evaluation rows come from a separate file and stay the same across retrains."""
    train_sha256: str
    eval_sha256: str


class TemplateReference(StageReference):
    """Output of `prepare_template`: `model/` (loadable by transformers) and `training_template.jinja`."""

    model_name: str
    """Source of the weights; models:/name/version where a registered version is trained on."""
    model_fingerprint: str
    """Commit, version or sha256 of the source model."""
    start_note: str = ""
    """Where the weights come from, in one sentence; empty unless model.continue_from is set."""
    template_sha256: str
    template_origin: str
    """model, chatml, file or clone."""
    n_parameters: int
    n_added_tokens: int
    eos_token: str
    pad_token: str
    special_tokens: tuple[str, ...] = ()
    """Special and added tokens of the tokenizer, as text."""


class SourceTokens(Record):
    """Training rows and tokens of one of several sources."""

    name: str
    weight: float
    """Times each of its training rows is seen per epoch."""
    n_rows: int
    """Training rows, each counted once."""
    n_tokens: int


class QualityReference(StageReference):
    """Output of `check_quality`: tokens per split, prompts of training and evaluation, `quality.json`."""

    verdict: Verdict
    n_train_rows: int
    n_eval_rows: int
    n_validation_rows: int = 0
    n_train_tokens: int
    n_supervised_tokens: int
    sources: tuple[SourceTokens, ...] = ()
    """Empty for one unnamed source."""
    eval_sha256: str
    """Of the rendered evaluation rows and prompts; only scores with the same one compare."""
    retention_sha256: dict[str, str] = {}
    """Of the rendered rows of each set in `evaluation.retention`, by name."""
    rules: tuple[RuleResult, ...]

    @property
    def n_epoch_rows(self) -> int:
        """Rows per epoch, each source multiplied by its weight."""
        if not self.sources:
            return self.n_train_rows
        return round(sum(source.weight * source.n_rows for source in self.sources))

    @property
    def n_epoch_tokens(self) -> int:
        """Tokens per epoch; an estimate, since the rows that a fraction draws are not known here."""
        if not self.sources:
            return self.n_train_tokens
        return round(sum(source.weight * source.n_tokens for source in self.sources))


class Role(StrEnum):
    """Which model was evaluated."""

    BASE = "base"
    CHAMPION = "champion"
    CHALLENGER = "challenger"


class EvaluationReference(StageReference):
    """Output of an evaluation: `losses`, `answers`, `row_scores` (.jsonl), `metrics`, `slices` (.json)."""

    role: Role
    model_sha256: str
    """Of the evaluated model; equal models have equal scores."""
    tokenizer_sha256: str
    """Losses per token compare only between models with the same one."""
    eval_sha256: str
    n_rows: int
    n_answers: int
    metrics: dict[str, float | None]


class ChampionReference(StageReference):
    """Output of `evaluate_champion`: as `EvaluationReference`, or nothing without a champion."""

    version: int | None = None
    """Registered version to beat; None without a champion, then only the base counts."""
    evaluation: EvaluationReference | None = None
    template_sha256: str = ""
    """Of the chat template it was trained with; empty if not known."""


class TrainedReference(StageReference):
    """Output of `train_model`: `model/` (merged), `adapter/` for LoRA, `history.json`, `training.json`."""

    device: str
    n_steps: int
    n_tokens_seen: int
    first_loss: float
    last_loss: float
    n_trainable_parameters: int


class DecisionReference(StageReference):
    """Output of `decide`: `gates.json`, the decision report."""

    report: DecisionReport

    @property
    def decision(self) -> Decision:
        """Return the decision of the report."""
        return self.report.decision

    @property
    def reason(self) -> str:
        """Return the reason in a sentence."""
        return self.report.reason

    @property
    def is_promotion(self) -> bool:
        """True when aliases may move."""
        is_enforced = self.report.mode is DecisionMode.ENFORCE
        return is_enforced and self.report.decision is Decision.PROMOTE


class Evidence(Record):
    """Outputs of all stages that a registration and a report need."""

    dataset: DatasetReference
    checked: CheckedReference
    split: SplitReference
    quality: QualityReference
    template: TemplateReference
    trained: TrainedReference
    baseline: EvaluationReference
    champion: ChampionReference
    evaluation: EvaluationReference
    decision: DecisionReference


class VersionReference(StageReference):
    """Output of `register_model`: `version.json`; the model itself is in the registry."""

    name: str
    version: int
    run_id: str
    experiment_id: str
    model_uri: str
    tracking_uri: str


class Approval(Record):
    """A reviewer's answer about a promotion."""

    is_approved: bool
    reviewer: str = ""
    reason: str


class PromotionReference(StageReference):
    """Output of `promote_model`: `promotion.json`."""

    is_promoted: bool
    reason: str
    name: str
    version: int
    alias: str
    previous_version: int | None
    """Version that had the alias before."""


class ReportReference(StageReference):
    """Output of `publish_report`: `report.html`, `report.json`, `summary.md`, `loss_curve.svg`."""

    decision: Decision
    reason: str


class RetrainReason(StrEnum):
    """Why flow `retrain` trains or skips training."""

    FIRST = "first"
    SETTINGS = "settings"
    AGE = "age"
    NEW_ROWS = "new_rows"
    DRIFT = "drift"
    NOTHING = "nothing"


class RetrainDecision(Record):
    """Whether a retrain trains, and why; compared with the last evaluated version of the name."""

    reason: RetrainReason
    detail: str
    """In a sentence, with numbers."""
    version: int | None = None
    """Version compared with; None for the first."""
    n_rows: int
    n_new_rows: int | None = None
    """Rows the version was not trained from; None if unknown."""
    n_gone_rows: int | None = None
    """Rows the version was trained from that the source no longer has."""
    age_days: float | None = None
    drift: float | None = None
    """Population stability index; None if not measured."""

    @property
    def is_needed(self) -> bool:
        """True when the run continues to train."""
        return self.reason is not RetrainReason.NOTHING
