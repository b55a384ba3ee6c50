from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from schemas.config.training import TrainingConfig
from schemas.errors import ConfigError
from tasks.training.plan.batching import Batching
from tasks.training.plan.choices import Choices, choose
from tasks.training.plan.machine import Machine
from tasks.training.process._arguments import (
    check_targets,
    lora_arguments,
    quantisation_arguments,
    sft_arguments,
)
from tasks.training.process.spec import TrainingSpec
from tests.support.families import make_family

CPU = Machine(device="cpu", free_memory_bytes=2**33, physical_cores=2)
GPU = Machine(device="cuda", free_memory_bytes=2**36, has_bf16_units=True, has_flash_attention=True)


def spec_of(training: TrainingConfig, choices: Choices) -> TrainingSpec:
    return TrainingSpec(
        model=Path("model"),
        train_tokens=Path("rows"),
        output=Path("out"),
        checkpoints=Path("kept"),
        fingerprint={},
        training=training,
        choices=choices,
        batching=Batching(per_device=2, accumulation=3),
        seed=11,
    )


def arguments(machine: Machine = CPU, longest: int = 40, **settings: Any) -> Any:
    training = TrainingConfig.model_validate(settings)
    choices = choose(training, machine, False, None)
    return sft_arguments(spec_of(training, choices), choices, longest)


def test_sft_arguments_on_a_processor() -> None:
    found = arguments()
    assert (found.bf16, found.fp16, found.use_cpu, found.torch_compile) == (False,) * 2 + (
        True,
        False,
    )
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (2, 3)
    assert (found.seed, found.data_seed, found.save_total_limit) == (11, 11, None)
    assert (found.packing, found.max_length) == (False, 512)  # TRL gets packed rows
    assert found.dataset_kwargs == {"skip_prepare_dataset": True}
    assert not found.gradient_checkpointing
    assert Path(found.output_dir) == Path("kept/writing")
    assert not found.ddp_find_unused_parameters


def test_sft_arguments_leave_rows_that_are_not_packed_to_trl() -> None:
    found = arguments(packing=False)
    assert not found.packing
    assert found.dataset_kwargs == {"skip_prepare_dataset": False}


def test_sft_arguments_translate_what_is_configured() -> None:
    found = arguments(
        eval_steps=7,
        neftune_noise_alpha=5,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.1},
        weight_decay=0.01,
        gradient_checkpointing=True,
    )
    assert (found.eval_strategy.value, found.eval_steps) == ("steps", 7)
    assert (found.neftune_noise_alpha, found.weight_decay) == (5.0, 0.01)
    assert found.lr_scheduler_type.value == "cosine_with_min_lr"
    assert found.lr_scheduler_kwargs == {"min_lr_rate": 0.1}
    assert found.gradient_checkpointing


@pytest.mark.parametrize(
    ("packing", "longest", "max_length"), [(True, 40, 512), (True, 700, 700), (False, 40, 40)]
)
def test_rows_are_never_cut(packing: bool, longest: int, max_length: int) -> None:
    assert arguments(longest=longest, packing=packing).max_length == max_length


def test_fsdp_recomputes_activations_itself() -> None:
    found = arguments(processes=2, distribution="fsdp", gradient_checkpointing=True)
    assert found.fsdp
    assert not found.gradient_checkpointing
    assert found.fsdp_config["activation_checkpointing"]
    assert found.fsdp_config["state_dict_type"] == "FULL_STATE_DICT"


def test_a_users_accelerate_file_says_how_processes_share() -> None:
    found = arguments(processes=2, distribution="fsdp", accelerate_config="mine.yaml")
    assert not found.fsdp


def test_flash_attention_packs_with_trl() -> None:
    """The arguments alone, with the CPU as device, since TRL looks for the GPU itself."""
    choices = choose(TrainingConfig(), GPU, False, None)
    assert (choices.precision, choices.packing) == ("bf16", "padding_free")
    on_cpu = choices.model_copy(update={"device": "cpu"})
    found = sft_arguments(spec_of(TrainingConfig(), on_cpu), on_cpu, 40)
    assert (found.packing, found.packing_strategy, found.bf16) == (True, "bfd", True)


def test_lora_arguments_translate_dora_and_rslora() -> None:
    training = TrainingConfig.model_validate(
        {"lora": {"r": 4, "alpha": 8, "use_dora": True, "use_rslora": True, "dropout": 0.1}}
    )
    found = lora_arguments(training, make_family("llama", is_tied=True), (7, 8))
    assert found is not None
    assert (found.r, found.lora_alpha, found.lora_dropout) == (4, 8, 0.1)
    assert (found.use_dora, found.use_rslora) == (True, True)
    assert found.trainable_token_indices == {"model.embed_tokens": [7, 8]}
    assert found.exclude_modules is None


def test_full_training_has_no_adapter() -> None:
    training = TrainingConfig.model_validate({"method": "full"})
    assert lora_arguments(training, make_family("llama"), (1,)) is None


def test_qlora_quantises_to_nf4_on_a_gpu_alone() -> None:
    training = TrainingConfig.model_validate({"method": "qlora"})
    machine = GPU.model_copy(update={"has_bitsandbytes": True})
    arguments = quantisation_arguments(training, choose(training, machine, False, None))
    found = arguments["quantization_config"]
    assert (found.bnb_4bit_quant_type, found.bnb_4bit_use_double_quant) == ("nf4", True)
    assert str(found.bnb_4bit_compute_dtype) == "torch.bfloat16"
    assert lora_arguments(training, make_family("llama"), ()) is not None
    plain = TrainingConfig()
    assert quantisation_arguments(plain, choose(plain, CPU, False, None)) == {}


@pytest.mark.parametrize("target", [["down"], ["0.down", "up"], r".*\.up", "all-linear"])
def test_check_targets_finds_layers_as_peft_does(target: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    check_targets(TrainingConfig.model_validate({"lora": {"target_modules": target}}), layers())
    adapted = inject_adapter_in_model(LoraConfig(target_modules=target), layers())
    assert any("lora_A" in name for name, _ in adapted.named_parameters())


@pytest.mark.parametrize("name", ["qwen3_moe", "mixtral"])
def test_check_targets_knows_the_layers_that_experts_had(name: str) -> None:
    training = TrainingConfig.model_validate({"lora": {"target_modules": ["q_proj", "up_proj"]}})
    check_targets(training, make_family(name))
    check_targets(training, make_family("llama"))
    with pytest.raises(ConfigError, match="no such layer"):
        check_targets(training, make_family("gpt2"))


@pytest.mark.parametrize("target", [["nope"], ["down", "nope"], ["own"], "up", "("])
def test_check_targets_names_the_layers_there_are(target: Any) -> None:
    training = TrainingConfig.model_validate({"lora": {"target_modules": target}})
    with pytest.raises(ConfigError, match="no such layer") as caught:
        check_targets(training, layers())
    assert caught.value.where == "training.lora.target_modules"
    assert "down, up" in caught.value.expected


def layers() -> Any:
    from torch.nn import Linear, ModuleDict, Sequential

    return Sequential(ModuleDict({"down": Linear(2, 2), "up": Linear(2, 2)}))
