"""The renderer of a configured model for checking rows, without weights and without a flow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.config.run import ModelConfig, RunConfig
from tasks.chat_template.setup import set_up_template
from tasks.engine.scratch import scratch_folder
from tasks.models.files import check_folders, unloadable
from tasks.models.gguf import load_gguf_tokenizer
from tasks.models.prepared import PreparedFacts, write_facts
from tasks.models.quiet import quiet_transformers
from tasks.models.source import SourceKind, choose_start, find_safe_hub_model, resolve_source
from tasks.registry.versions import fetch_registered, find_registered
from tasks.sources.hub import ask_hub
from tasks.tokens.rendering import Renderer, load_renderer

if TYPE_CHECKING:
    from transformers import (
        GenerationConfig,
        PretrainedConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
    )

    Parts = tuple[PreTrainedTokenizerBase, PretrainedConfig, GenerationConfig]


def load_check_renderer(config: RunConfig) -> Renderer:
    """Set tokenizer and templates up as `prepare_template` does, without a flow."""
    with scratch_folder() as folder, quiet_transformers():
        tokenizer, model_config, generation = _load_parts(
            choose_start(config.start).model, folder / "download"
        )
        stand_in = _stand_in(model_config, generation)
        prepared = set_up_template(stand_in, tokenizer, config.template)
        # Through files, as in a run: a tokenizer that is read back may differ from its source.
        model = folder / "model"
        model_config.save_pretrained(model)
        stand_in.generation_config.save_pretrained(model)
        tokenizer.save_pretrained(model)
        write_facts(model, PreparedFacts(trust_remote_code=config.model.trust_remote_code))
        template = folder / "training_template.jinja"
        template.write_text(prepared.training_template, encoding="utf-8", newline="\n")
        return load_renderer(model, template)


def _load_parts(config: ModelConfig, scratch: Path) -> Parts:
    """Load everything of a model but its weights, after looking at what its files may do."""
    source = resolve_source(config.source)
    match source.kind:
        case SourceKind.BUNDLED | SourceKind.GGUF:
            from transformers import GenerationConfig

            tokenizer, model_config = load_gguf_tokenizer(source.path)
            return tokenizer, model_config, GenerationConfig.from_model_config(model_config)
        case SourceKind.FOLDER:
            return _load_folder(source.path, source.path, config)
        case SourceKind.HUB:
            return _load_hub(source.name, config)
        case SourceKind.REGISTRY:
            scratch.mkdir()
            model, tokenizer_folder = fetch_registered(find_registered(source.name), scratch)
            return _load_folder(model, tokenizer_folder, config)


def _load_folder(folder: Path, tokenizer_folder: Path, config: ModelConfig) -> Parts:
    check_folders(folder, tokenizer_folder, config)
    return _from_pretrained(str(folder), str(tokenizer_folder), None, config)


def _load_hub(name: str, config: ModelConfig) -> Parts:
    found = find_safe_hub_model(name, config)
    return ask_hub(lambda: _from_pretrained(name, name, found.commit, config), name)


def _from_pretrained(
    folder: str, tokenizer_folder: str, revision: str | None, config: ModelConfig
) -> Parts:
    from transformers import AutoConfig, AutoTokenizer

    trust = config.trust_remote_code
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_folder, revision=revision, trust_remote_code=trust
        )
        model_config = AutoConfig.from_pretrained(
            folder, revision=revision, trust_remote_code=trust
        )
    except (ConnectionError, MemoryError):
        raise
    except Exception as error:  # files made to harm can bring about any
        raise unloadable(folder, error) from error
    if not tokenizer.is_fast:
        raise unloadable(tokenizer_folder, ValueError("its tokenizer has no tokenizer.json form"))
    return tokenizer, model_config, _generation_config(folder, revision, model_config)


def _generation_config(
    folder: str, revision: str | None, model_config: PretrainedConfig
) -> GenerationConfig:
    """Read the settings of generation; a model without them takes its own configuration's."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(folder, revision=revision)
    except OSError:
        return GenerationConfig.from_model_config(model_config)


def _stand_in(model_config: PretrainedConfig, generation: GenerationConfig) -> PreTrainedModel:
    """Make a tiny model of the same vocabulary: setting up resizes embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    stand_in = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=model_config.get_text_config().vocab_size,
            hidden_size=2,
            intermediate_size=2,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        )
    )
    stand_in.generation_config = generation
    return stand_in
