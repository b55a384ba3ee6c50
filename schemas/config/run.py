"""`RunConfig`: everything a run can be told, checked when it is built."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Section
from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import JUDGE_METRIC, GateConfig, GateDefinition
from schemas.config.registry import RegistryConfig
from schemas.config.retrain import RetrainConfig
from schemas.config.training import TrainingConfig
from schemas.metrics import TOKEN_METRICS, Direction, metric_direction
from schemas.rule_ids import GateMode, RowRule, RuleSetting, SetRule, Severity

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")


ColumnName = Literal[
    "messages",
    "prompt",
    "completion",
    "tools",
    "conversations",
    "instruction",
    "input",
    "output",
    "system",
]


class DataSource(Section):
    """Where the rows come from; the only part of the configuration `load_dataset` reads."""

    source: str = Field(default="construction-faq", min_length=1)
    """Bundled name, file, folder, hub id, or an https, s3 or other fsspec address."""
    config_name: str | None = None
    """Configuration (subset) of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Branch, tag or commit of a hub dataset."""
    columns: dict[ColumnName, str] = {}
    """Which source column holds each field, e.g. {prompt: question, completion: answer}."""


class WeightedSource(DataSource):
    """One of several sources, and how much of it is trained."""

    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    """Times each of its training rows is seen per epoch; 2 is twice, 0.5 half of the rows, by the seed."""


class DataConfig(Section):
    """The data and the rules its rows are held to."""

    source: DataSource = DataSource()
    """Where the rows come from, when it is one place."""
    sources: dict[str, WeightedSource] = {}
    """Several places by names of your own, instead of source: {faq: {source: faq.jsonl, weight: 2}, ...}."""
    rules: dict[RowRule, RuleSetting] = {}
    """Severity per row rule (block quarantines the row); what is not named keeps the rule's default."""

    @model_validator(mode="after")
    def _one_kind_of_source(self) -> DataConfig:
        # A saved configuration holds both keys, one of them with its default.
        if self.sources and self.source != DataSource():
            raise ValueError("set data.source or data.sources, not both")
        for name in self.sources:
            if not SOURCE_NAME.fullmatch(name):
                raise ValueError(
                    "names in data.sources are made of letters, digits, dash and underscore, "
                    f"at most 50; {name!r} is not"
                )
        return self

    @property
    def origin(self) -> DataSource | dict[str, DataSource]:
        """Say where the rows come from, without weights, which no row depends on."""
        if not self.sources:
            return self.source
        fields = DataSource.model_fields
        return {
            name: DataSource.model_validate({key: getattr(source, key) for key in fields})
            for name, source in sorted(self.sources.items())
        }

    @property
    def weights(self) -> dict[str, float]:
        """Give the weight of each named source; empty where there is but one source."""
        return {name: source.weight for name, source in sorted(self.sources.items())}


class SplitConfig(Section):
    """How rows are parted into training, validation and evaluation."""

    eval_fraction: float = Field(default=0.1, gt=0, lt=1, allow_inf_nan=False)
    """Share of prompt groups held out; by hash, so a row never changes sides when others are added."""
    validation_fraction: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Share of prompt groups kept to measure the loss while training; they never judge the result."""
    max_eval_rows: int = Field(default=200, ge=1)
    """Upper limit; the surplus is not used at all, so evaluation time stays bounded."""
    pinned: DataSource | None = None
    """Evaluation rows kept across retrains, e.g. the eval.jsonl of an earlier run; no others are held out."""

    @model_validator(mode="after")
    def _rows_are_left_to_train(self) -> SplitConfig:
        if self.eval_fraction + self.validation_fraction >= 1:
            raise ValueError(
                "split.eval_fraction and split.validation_fraction must add up to less than 1; "
                "the rest is trained"
            )
        return self


CONTINUE_PATTERN = r"^(models:/[^/@]+@)?[A-Za-z][A-Za-z0-9_-]*$"


class ModelConfig(Section):
    """The model to start from."""

    source: str = Field(default="smollm2-135m-instruct", min_length=1)
    """Bundled name, hub id, local folder, .gguf file, or models:/name@alias."""
    continue_from: Annotated[str, StringConstraints(pattern=CONTINUE_PATTERN)] | None = None
    """Alias of registry.name such as champion, or models:/name@alias: train on from it and beat it; or else source."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such models are refused."""
    allow_pickle: bool = False
    """Accept weights that are not safetensors. Off: such models are refused."""


class TemplateKind(StrEnum):
    """Where the chat template comes from."""

    AUTO = "auto"
    CHATML = "chatml"
    FILE = "file"
    CLONE = "clone"


class TemplateConfig(Section):
    """The chat template."""

    kind: TemplateKind = TemplateKind.AUTO
    """auto keeps the model's own and gives ChatML to a model without one; chatml, file, clone set it."""
    path: str | None = None
    """Jinja file, for kind file; with generation markers it also serves training."""
    clone_from: str | None = None
    """Tokenizer folder or hub id whose template is taken, for kind clone."""

    @model_validator(mode="after")
    def _complete(self) -> TemplateConfig:
        if (self.kind == TemplateKind.FILE) != (self.path is not None):
            raise ValueError("template.path goes with template.kind=file, and only with it")
        if (self.kind == TemplateKind.CLONE) != (self.clone_from is not None):
            raise ValueError("template.clone_from goes with template.kind=clone, and only with it")
        return self


class QualityConfig(Section):
    """The set gate."""

    mode: GateMode = GateMode.ENFORCE
    """enforce stops the run, warn only reports, off skips the set rules."""
    max_length_tokens: int = Field(default=1024, ge=8)
    """Longest row in tokens; longer ones break rule too_long and are never cut silently."""
    rules: dict[SetRule, RuleSetting] = {}
    """Severity and limit per set rule; what is not named keeps the rule's default."""
    near_duplicate_similarity: float = Field(default=0.8, ge=0.5, le=1, allow_inf_nan=False)
    """Rows whose word triples overlap at least so much (Jaccard) are near duplicates."""
    length_quantiles: dict[float, tuple[int | None, int | None]] = {0.5: (8, 100_000)}
    """Quantile of the rows' characters to the range it must lie in; null leaves an end open."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes that answers may be in, e.g. [en, sv]; none named: rule language_fraction is skipped."""
    benchmarks: tuple[str, ...] = ()
    """Data files of benchmarks whose passages must not be trained on, for rule benchmark_overlap."""
    reference: str = Field(default="champion", min_length=1)
    """Profile that drift and shrinking are measured against: champion, a profile.json file, or none."""


class RunConfig(Section):
    """One run, from data to promotion; the defaults fine-tune the bundled model on the bundled data."""

    seed: int = Field(default=42, ge=0)
    """Seed of every random act: split, data order, initial weights, bootstrap."""
    data: DataConfig = DataConfig()
    """The rows and their rules."""
    split: SplitConfig = SplitConfig()
    """Training and evaluation rows."""
    model: ModelConfig = ModelConfig()
    """The model to start from."""
    template: TemplateConfig = TemplateConfig()
    """The chat template."""
    quality: QualityConfig = QualityConfig()
    """The set gate."""
    training: TrainingConfig = TrainingConfig()
    """The training itself."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How models are judged."""
    gates: GateConfig = GateConfig()
    """What a promotion takes."""
    registry: RegistryConfig = RegistryConfig()
    """Where the model goes."""
    retrain: RetrainConfig = RetrainConfig()
    """What a scheduled retrain takes as a reason to train."""

    @model_validator(mode="after")
    def _validation_has_rows(self) -> RunConfig:
        if self.training.eval_steps and not self.split.validation_fraction:
            raise ValueError(
                "training.eval_steps measures the loss of validation rows, and "
                "split.validation_fraction is 0: set it, e.g. to 0.05"
            )
        return self

    @model_validator(mode="after")
    def _gates_have_their_metrics(self) -> RunConfig:
        for gate in self.gates.definitions:
            if gate.metric not in self.evaluation.metric_names:
                raise ValueError(
                    f"gates.checks.{gate.id} asks for metric {gate.metric!r}, which is not "
                    f"measured; there are {', '.join(sorted(self.evaluation.metric_names))}"
                )
            if metric_direction(gate.metric) is Direction.NONE:
                raise ValueError(
                    f"gates.checks.{gate.id}: neither more nor less of {gate.metric} is better, "
                    "so it cannot decide"
                )
            self._require_rows(gate)
        return self

    def _require_rows(self, gate: GateDefinition) -> None:
        """Refuse at once what would be refused after the training: a gate on too few answers."""
        if gate.metric in TOKEN_METRICS or gate.metric.startswith("lm_eval/"):
            return
        judge = self.evaluation.judge
        n_rows = self.evaluation.n_generation_rows
        if gate.metric == JUDGE_METRIC and judge:
            n_rows = min(n_rows, judge.n_rows)
        if n_rows < self.gates.min_eval_rows and gate.severity is not Severity.OFF:
            raise ValueError(
                f"gates.checks.{gate.id} compares {n_rows} answers, and gates.min_eval_rows is "
                f"{self.gates.min_eval_rows}: raise evaluation.n_generation_rows"
            )

    @property
    def start(self) -> ModelConfig:
        """Give the model section with the full address of the version to continue from."""
        alias = self.model.continue_from
        if alias is None or "@" in alias:
            return self.model
        address = f"models:/{self.registry.name}@{alias}"
        return self.model.model_copy(update={"continue_from": address})
