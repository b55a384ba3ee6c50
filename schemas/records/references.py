"""Frozen records that stages hand each other: references to files and counts, never the data.

Each stage writes a folder and returns one of these. `sha256` covers the content a later
stage reads, so equal content gives equal keys whatever the folder is called.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.base import Record
from schemas.config.gates import DecisionMode
from schemas.records.decision import Decision, DecisionReport
from schemas.rule_ids import RuleResult, Verdict


class StageReference(Record):
    """Where a stage left its output."""

    stage: str
    folder: str
    """Relative to the work directory, so that the directory can be moved."""
    sha256: str
    """Of the content files, as hexadecimal digits."""


class SourceRows(Record):
    """What was read from one of several sources."""

    name: str
    """As in `data.sources`; its rows' files are called name/file."""
    source: str
    n_rows: int


class DatasetReference(StageReference):
    """Output of `load_dataset`: `rows.jsonl`, one source row a line, and `row_digests.npy`."""

    source: str
    n_rows: int
    sources: tuple[SourceRows, ...] = ()
    """In the order of their rows; empty where the rows come from one unnamed source."""


class CheckedReference(StageReference):
    """Output of `check_schema`: `kept.jsonl`, `quarantine.jsonl`, `rules.json`."""

    n_rows: int
    n_kept_rows: int
    n_quarantined_rows: int
    kept_sha256: str
    """Of `kept.jsonl`, the rows that training and evaluation are taken from."""
    formats: dict[str, int]
    """Rows per recognised format."""
    conversions: dict[str, int] = {}
    """Loss-free rewritings into the canonical form, with the number of rows."""
    rules: tuple[RuleResult, ...]
    """Row rules that were broken at least once."""


class SplitReference(StageReference):
    """Output of `split_dataset`: `train.jsonl`, `eval.jsonl`, `validation.jsonl`, `row_features/`.

    No prompt stands on two sides.
    """

    n_train_rows: int
    n_eval_rows: int
    n_validation_rows: int = 0
    """Measured while training, and neither trained nor judged."""
    n_unused_rows: int
    """Neither trained nor judged: beyond max_eval_rows, or too like a pinned evaluation row."""
    is_pinned: bool = False
    """The evaluation rows come from a file of their own and stay the same across retrains."""
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
    """Special and added tokens of the tokenizer, as they would read in a text."""


class SourceTokens(Record):
    """What one of several sources gives to the training."""

    name: str
    weight: float
    """Times each of its training rows is seen per epoch."""
    n_rows: int
    """Training rows, each counted once."""
    n_tokens: int


class QualityReference(StageReference):
    """Output of `check_quality`: tokens of each side, prompts of training and evaluation, `quality.json`."""

    verdict: Verdict
    n_train_rows: int
    n_eval_rows: int
    n_validation_rows: int = 0
    n_train_tokens: int
    n_supervised_tokens: int
    sources: tuple[SourceTokens, ...] = ()
    """Empty where the rows come from one unnamed source."""
    eval_sha256: str
    """Of the rendered evaluation rows and prompts: two scores compare only where this is equal."""
    rules: tuple[RuleResult, ...]

    @property
    def n_epoch_rows(self) -> int:
        """Rows that one epoch sees: those of each source as often as its weight says."""
        if not self.sources:
            return self.n_train_rows
        return round(sum(source.weight * source.n_rows for source in self.sources))

    @property
    def n_epoch_tokens(self) -> int:
        """Tokens that one epoch sees, about: which rows a fraction draws is not known here."""
        if not self.sources:
            return self.n_train_tokens
        return round(sum(source.weight * source.n_tokens for source in self.sources))


class Role(StrEnum):
    """Which model was judged."""

    BASE = "base"
    CHAMPION = "champion"
    CHALLENGER = "challenger"


class EvaluationReference(StageReference):
    """Output of a judging stage: `losses`, `answers`, `row_scores` (.jsonl), `metrics`, `slices` (.json)."""

    role: Role
    model_sha256: str
    """Of the model judged; two evaluations of equal models have equal scores."""
    tokenizer_sha256: str
    """Losses per token compare only between models that share it."""
    eval_sha256: str
    n_rows: int
    n_answers: int
    metrics: dict[str, float | None]


class ChampionReference(StageReference):
    """Output of `evaluate_champion`: that of `EvaluationReference`, or nothing without a champion."""

    version: int | None = None
    """Registered version the challenger has to beat; None: there is none, the base alone counts."""
    evaluation: EvaluationReference | None = None


class TrainedReference(StageReference):
    """Output of `train_model`: `model/` (merged), `adapter/` for LoRA, `history.json`, `training.json`."""

    device: str
    n_steps: int
    n_tokens_seen: int
    first_loss: float
    last_loss: float
    n_trainable_parameters: int


class DecisionReference(StageReference):
    """Output of `decide`: `gates.json`, the gate report."""

    report: DecisionReport

    @property
    def decision(self) -> Decision:
        """Give the decision."""
        return self.report.decision

    @property
    def reason(self) -> str:
        """Give the reason in a sentence."""
        return self.report.reason

    @property
    def is_promotion(self) -> bool:
        """Tell whether aliases may move."""
        is_enforced = self.report.mode is DecisionMode.ENFORCE
        return is_enforced and self.report.decision is Decision.PROMOTE


class Evidence(Record):
    """Everything a registration and a report rest on."""

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
    """Output of `register_model`: `version.json`; the model itself lies in the registry."""

    name: str
    version: int
    run_id: str
    experiment_id: str
    """Of the run; MLflow's pages of the run's files have it in their addresses."""
    model_uri: str
    tracking_uri: str


class Approval(Record):
    """What a person said of a promotion."""

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
    """Who held the alias before, if anyone."""
    n_freed_bytes: int = 0
    """Weights of old refused versions that were deleted."""


class ReportReference(StageReference):
    """Output of `publish_report`: `report.html`, `report.json`, `summary.md`, `loss_curve.svg`."""

    decision: Decision
    reason: str


class RetrainReason(StrEnum):
    """Why flow `retrain` trains, or does not."""

    FIRST = "first"
    SETTINGS = "settings"
    AGE = "age"
    NEW_ROWS = "new_rows"
    DRIFT = "drift"
    NOTHING = "nothing"
    """There is no reason to train."""


class RetrainDecision(Record):
    """Whether a retrain trains, and why; compared with the version of the name judged last."""

    reason: RetrainReason
    detail: str
    """In a sentence, with figures."""
    version: int | None = None
    """Version compared with; None for the first."""
    n_rows: int
    """Rows at the source now."""
    n_new_rows: int | None = None
    """Rows the version was not made from; None where that is not known."""
    n_gone_rows: int | None = None
    """Rows the version was made from and that are no longer there."""
    age_days: float | None = None
    drift: float | None = None
    """Population stability index; None where it was not measured."""

    @property
    def is_needed(self) -> bool:
        """Tell whether the run goes on to train."""
        return self.reason is not RetrainReason.NOTHING
