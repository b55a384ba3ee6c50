"""Stage `prepare_template`: a model folder whose chat template, stop and pad token are in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger

from schemas.config.run import ModelConfig, TemplateConfig
from schemas.errors import TemplateError
from schemas.records.references import TemplateReference
from tasks.chat_template.setup import set_up_template
from tasks.chat_template.sources import read_user_template
from tasks.chat_template.variants import ASSETS, reads_clock, template_sha256
from tasks.engine.cache import OutputFolder
from tasks.engine.stage import stage_task
from tasks.models.causal import check_causal
from tasks.models.files import folder_sha256
from tasks.models.prepared import PreparedFacts, special_tokens, write_facts
from tasks.models.quiet import quiet_transformers
from tasks.models.source import (
    SourceKind,
    choose_start,
    load_model,
    model_fingerprint,
    resolve_source,
)
from tasks.sources.hub import hub_commit


def source_fingerprint(arguments: Mapping[str, Any]) -> str:
    """Fingerprint the model and the template, which are outside the work directory."""
    template: TemplateConfig = arguments["template"]
    parts = [model_fingerprint(choose_start(arguments["model"]).model)]
    if template.path is not None:
        parts.append(template_sha256(read_user_template(template.path)))
    if template.clone_from is not None:
        parts.append(_tokenizer_fingerprint(template.clone_from))
    return " ".join(parts)


def _tokenizer_fingerprint(name: str) -> str:
    source = resolve_source(name)
    if source.kind == SourceKind.FOLDER:
        return folder_sha256(source.path)
    if source.kind == SourceKind.HUB:
        return hub_commit(name, None)
    raise TemplateError(
        "a template can only be cloned from a tokenizer folder or a Hub id",
        where=f"template.clone_from={name}",
        expected="a folder or owner/name",
        got=source.kind.value,
        fix="correct template.clone_from",
    )


def prepare_model(
    folder: Path, model_config: ModelConfig, template: TemplateConfig, seed: int
) -> dict[str, Any]:
    """Load a model, set its template up, and save both for transformers.

    Args:
        folder: Gets `model/` and `training_template.jinja`.
        model_config: The model to start from.
        template: The chat template.
        seed: Of the initial values of new embeddings.

    Returns:
        Fields of `TemplateReference`.
    """
    import torch

    with quiet_transformers():
        model, tokenizer = load_model(model_config)
        check_causal(model, model_config.source)
        torch.manual_seed(seed)
        prepared = set_up_template(model, tokenizer, template)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
    trust = model_config.trust_remote_code
    facts = PreparedFacts(
        added_token_ids=prepared.added_token_ids,
        trust_remote_code=trust,
        clock=date.today().isoformat() if reads_clock(prepared.training_template) else "",
    )
    write_facts(folder / "model", facts)
    path = folder / "training_template.jinja"
    path.write_text(prepared.training_template, encoding="utf-8", newline="\n")
    return {
        "model_name": model_config.source,
        "model_fingerprint": model_fingerprint(model_config),
        "template_sha256": template_sha256(str(tokenizer.chat_template)),
        "template_origin": prepared.origin.value,
        "n_parameters": int(model.num_parameters()),
        "n_added_tokens": prepared.n_added_tokens,
        "eos_token": prepared.stop_token,
        "pad_token": str(tokenizer.pad_token),
        "special_tokens": special_tokens(tokenizer),
    }


@stage_task(
    timeout_seconds=2 * 3600,
    assets=ASSETS,
    fingerprint=source_fingerprint,
)
def prepare_template(
    output: OutputFolder, model: ModelConfig, template: TemplateConfig, seed: int
) -> TemplateReference:
    """Set up the chat template, and save model and tokenizer once for all later stages.

    Where training continues from a registered version, that version is also the base that the
    result is compared with: it is the one to beat.

    Args:
        output: Gets `model/` and `training_template.jinja`.
        model: The model to start from; `continue_from` as `RunConfig.start` gives it.
        template: The chat template.
        seed: Of the initial values of new embeddings.

    Returns:
        Reference to the folder, with what was set up.
    """
    start = choose_start(model)
    if start.note:
        get_run_logger().info("%s", start.note)
    facts = prepare_model(output.path, start.model, template, seed)
    return output.commit(
        TemplateReference,
        content=("model", "training_template.jinja"),
        start_note=start.note,
        **facts,
    )
