"""`RunConfig`: all settings of a run, checked when it is created."""

from __future__ import annotations

import codecs
import json
import re
from enum import StrEnum
from keyword import iskeyword
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from schemas.base import FETCHED, LARGEST_SEED, Section
from schemas.config._gate_metrics import require_metrics
from schemas.config.evaluation import EvaluationConfig
from schemas.config.gates import GateConfig
from schemas.config.registry import RegistryConfig
from schemas.config.retrain import RetrainConfig
from schemas.config.storage import StorageConfig
from schemas.config.training import TrainingConfig
from schemas.rule_ids import DataGateMode, RowRule, RuleSetting, SetRule

SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
ColumnName = Literal[
    "messages", "prompt", "completion", "tools",
    "conversations", "instruction", "input", "output", "system",
]  # fmt: skip


class DataSource(Section):
    """Where the rows come from; the only part of the configuration `load_dataset` reads."""

    source: Annotated[str, FETCHED] = Field(default="construction-faq", min_length=1)
    """Bundled dataset, file, folder, Hub id, or an https, s3 or other fsspec address."""
    config_name: str | None = None
    """Configuration (subset) of a Hub dataset."""
    split: str = "train"
    """Split of a Hub dataset, or of a folder that its library saved with several splits."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset."""
    columns: dict[ColumnName, str] = {}
    """Source column of each field, e.g. {prompt: question, completion: answer}."""
    encoding: str = ""
    """Encoding of text files, e.g. cp1252; empty is UTF-8, or UTF-16 if the file begins with its mark."""

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        try:
            is_text = not name or codecs.lookup(name)._is_text_encoding
        except LookupError:
            is_text = False
        if not is_text:
            raise ValueError(f"{name!r} is not an encoding of texts, such as cp1252 or utf-16-le")
        return name


class WeightedSource(DataSource):
    """One of several sources, and how often its rows are trained."""

    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    """How often each training row is seen per epoch; 2 is twice, 0.5 a random half of the rows."""


class DataConfig(Section):
    """The data and the rules on its rows."""

    source: DataSource = DataSource()
    """Where the rows come from."""
    sources: dict[str, WeightedSource] = {}
    """Several named sources instead of source, e.g. {faq: {source: faq.jsonl, weight: 2}, ...}."""
    rules: dict[RowRule, RuleSetting] = {}
    """Severity per row rule (block quarantines the row); other rules keep their defaults."""

    @model_validator(mode="after")
    def _one_kind_of_source(self) -> DataConfig:
        # A saved configuration has both keys, one of them with its default.
        if self.sources and self.source != DataSource():
            raise ValueError("set data.source or data.sources, not both")
        for name in self.sources:
            if not SOURCE_NAME.fullmatch(name):
                raise ValueError(
                    f"data.sources: {name!r} is not a name of letters, digits, dash and "
                    "underscore, at most 50"
                )
        return self

    @property
    def origin(self) -> DataSource | dict[str, DataSource]:
        """Return the sources without weights, which no row depends on."""
        if not self.sources:
            return self.source
        fields = DataSource.model_fields
        return {
            name: DataSource.model_validate({key: getattr(source, key) for key in fields})
            for name, source in sorted(self.sources.items())
        }

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each named source; empty for one unnamed source."""
        return {name: source.weight for name, source in sorted(self.sources.items())}


class SplitConfig(Section):
    """How rows are split into training, validation and evaluation."""

    eval_fraction: float = Field(default=0.1, gt=0, lt=1, allow_inf_nan=False)
    """Share of prompt groups held out; by hash, so a row stays in its split when others are added."""
    validation_fraction: float = Field(default=0.0, ge=0, lt=1, allow_inf_nan=False)
    """Share of prompt groups to compute the validation loss on during training; not held out."""
    max_eval_rows: int = Field(default=200, ge=1)
    """Most held-out rows; rows beyond it are not used at all, so evaluation time stays bounded."""
    pinned: DataSource | None = None
    """Held-out rows kept across retrains, e.g. eval.jsonl of an earlier run; no others are held out."""
    seed: int | None = Field(default=None, ge=0, le=LARGEST_SEED)
    """Seed of the split; null takes the seed of the run."""

    @model_validator(mode="after")
    def _rows_are_left_to_train(self) -> SplitConfig:
        if self.eval_fraction + self.validation_fraction >= 1:
            raise ValueError(
                "split.eval_fraction and split.validation_fraction must add up to less than 1, "
                "so that rows are left to train"
            )
        return self


CONTINUE_PATTERN = r"^(models:/[^/@]+@)?[A-Za-z][A-Za-z0-9_-]*$"


class ModelConfig(Section):
    """The model to start from."""

    source: str = Field(default="smollm2-135m-instruct", min_length=1)
    """Bundled model, Hub id, local folder, .gguf file, or models:/name@alias."""
    continue_from: Annotated[str, StringConstraints(pattern=CONTINUE_PATTERN)] | None = None
    """Alias of registry.name, e.g. champion, or models:/name@alias, to continue training from; source if there is none yet."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    trust_remote_code: bool = False
    """Allow Python code that comes with the model; otherwise such models are not loaded."""
    allow_pickle: bool = False
    """Allow weights that are not safetensors; otherwise such models are not loaded."""


class TemplateKind(StrEnum):
    """Where the chat template comes from."""

    AUTO = "auto"
    CHATML = "chatml"
    FILE = "file"
    CLONE = "clone"


VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_VARIABLES = frozenset(
    (
        "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "tokenize",
        "chat_template", "conversation", "return_dict", "return_tensors", "return_assistant_tokens_mask",
        "padding", "truncation", "max_length", "tokenizer_kwargs", "additional_special_tokens",
        "raise_exception", "strftime_now", "loop", "namespace", "range", "dict", "self", "caller",
        "varargs", "kwargs",
    )
)  # fmt: skip
"""Variables of a chat template that are not settings."""


class TemplateConfig(Section):
    """The chat template."""

    kind: TemplateKind = TemplateKind.AUTO
    """auto keeps the template of the model, or ChatML if it has none; chatml, file and clone replace it."""
    path: str | None = None
    """Jinja file, for kind file; with generation markers it is also the training template."""
    clone_from: str | None = None
    """Tokenizer folder or Hub id to copy the template from, for kind clone."""
    kwargs: dict[str, JsonValue] = {}
    """Values of variables of the template in training, evaluation and the saved model, e.g. {enable_thinking: false}."""

    @model_validator(mode="after")
    def _complete(self) -> TemplateConfig:
        if (self.kind == TemplateKind.FILE) != (self.path is not None):
            raise ValueError("template.path and template.kind=file require each other")
        if (self.kind == TemplateKind.CLONE) != (self.clone_from is not None):
            raise ValueError("template.clone_from and template.kind=clone require each other")
        return self

    @model_validator(mode="after")
    def _kwargs_are_free(self) -> TemplateConfig:
        for name in self.kwargs:
            if name in RESERVED_VARIABLES or name.endswith("_token"):
                raise ValueError(
                    f"template.kwargs: {name} is set by sft-flow, so it cannot be given"
                )
            if not VARIABLE_NAME.fullmatch(name) or iskeyword(name) or iskeyword(name.title()):
                raise ValueError(f"template.kwargs: {name!r} is not the name of a variable")
        try:
            json.dumps(self.kwargs, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise ValueError(f"template.kwargs: a value is no JSON: {error}") from error
        return self


class QualityConfig(Section):
    """The data gate on the whole dataset."""

    mode: DataGateMode = DataGateMode.ENFORCE
    """enforce stops the run, warn only reports, off skips the set rules."""
    max_length_tokens: int = Field(default=1024, ge=8)
    """Longest row in tokens, at most as many as the model has positions; longer rows break rule too_long
    and are never cut silently."""
    rules: dict[SetRule, RuleSetting] = {}
    """Severity and limit per set rule; other rules keep their defaults."""
    near_duplicate_similarity: float = Field(default=0.8, ge=0.5, le=1, allow_inf_nan=False)
    """Jaccard similarity of word triples from which rows are near duplicates."""
    length_quantiles: dict[float, tuple[int | None, int | None]] = {0.5: (8, 100_000)}
    """Allowed range of characters per row at each quantile; null for no bound."""
    languages: tuple[str, ...] = ()
    """Allowed languages of answers as ISO 639-1 codes, e.g. [en, sv]; empty skips rule language_fraction."""
    benchmarks: Annotated[tuple[str, ...], FETCHED] = ()
    """Data files of benchmarks that must not be trained on, for rule benchmark_overlap."""
    reference: str = Field(default="champion", min_length=1)
    """Profile that drift and shrinking are measured against: champion, a profile.json file, or none."""


class RunConfig(Section):
    """One run, from data to promotion; the defaults fine-tune the bundled model on the bundled data."""

    seed: int = Field(default=42, ge=0, le=LARGEST_SEED)
    """Random seed of whatever has none of its own: split, training (data order, initial weights), evaluation."""
    data: DataConfig = DataConfig()
    """The rows and their rules."""
    split: SplitConfig = SplitConfig()
    """How rows are split into training, validation and evaluation."""
    model: ModelConfig = ModelConfig()
    """The model to start from."""
    template: TemplateConfig = TemplateConfig()
    """The chat template."""
    quality: QualityConfig = QualityConfig()
    """The data gate on the whole dataset."""
    training: TrainingConfig = TrainingConfig()
    """Parameters of the training."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How models are evaluated."""
    gates: GateConfig = GateConfig()
    """What the challenger must show to be promoted."""
    registry: RegistryConfig = RegistryConfig()
    """Where models are registered."""
    retrain: RetrainConfig = RetrainConfig()
    """When a scheduled retrain trains."""
    storage: StorageConfig = StorageConfig()
    """How much of SFT_HOME old outputs may take."""

    @model_validator(mode="after")
    def _validation_has_rows(self) -> RunConfig:
        if self.training.eval_steps and not self.split.validation_fraction:
            raise ValueError(
                "training.eval_steps needs validation rows: set split.validation_fraction, "
                "e.g. to 0.05"
            )
        return self

    @model_validator(mode="after")
    def _gates_have_their_metrics(self) -> RunConfig:
        require_metrics(self.gates, self.evaluation)
        return self

    @property
    def start(self) -> ModelConfig:
        """Return the model section with the full address of the version to continue from."""
        alias = self.model.continue_from
        if alias is None or "@" in alias:
            return self.model
        update = {"continue_from": f"models:/{self.registry.name}@{alias}"}
        return self.model.model_copy(update=update)


def seed_of(config: RunConfig, section: SplitConfig | TrainingConfig) -> int:
    """Return the seed of the split or of the training: its own, or that of the run."""
    return config.seed if section.seed is None else section.seed
