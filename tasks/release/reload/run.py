"""The reload process: load a registered version and answer evaluated prompts again.

Run as `python -m tasks.release.reload.run SPEC.json` by `tasks.release.reload.check`, so that nothing that
was loaded, patched or cached during training and evaluation can affect it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from schemas.config.training import Device
from schemas.errors import RegistryError, ReloadInterrupted, ReloadMismatch, SftFlowError
from tasks.chat_template.variants import template_sha256
from tasks.engine.home import prepare_environment
from tasks.engine.jsonl import read_jsonl
from tasks.evaluation.answers import stop_token_ids
from tasks.evaluation.losses import measure_losses
from tasks.models.device import choose_device, is_out_of_memory, use_emptiest_gpu
from tasks.models.quiet import quiet_transformers
from tasks.registry.store import store_errors
from tasks.registry.versions import find_registered
from tasks.release.reload.spec import (
    PROMPTS_FILE,
    TOKENS_FILE,
    Difference,
    Observation,
    ReloadSpec,
    stop_ids,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OUTCOME_FILE = "outcome.json"
LOAD_ERRORS = (KeyError, ValueError, RuntimeError, OSError)
"""Errors of transformers for damaged or mismatched files."""
TIE_LOGITS = 1e-3
"""Two tokens whose logits differ by less may swap in another batch; in 16-bit formats, by less than
two roundings of the larger one."""


def observe(spec: ReloadSpec) -> Observation:
    """Load the version and repeat the measurements of its evaluation."""
    import torch

    use_emptiest_gpu()
    model, tokenizer = load_version(spec)
    folder = Path(spec.folder)
    stored_dtype = str(model.dtype).removeprefix("torch.")
    device = spec.settings.device
    model = (model.float() if device == "cpu" else model).to(device).eval()  # as in the evaluation
    losses = measure_losses(model, folder / TOKENS_FILE, spec.settings.evaluation)
    answers = {row["row"]: str(row["answer"]) for row in read_jsonl(folder / "answers.jsonl")}
    prompts = [row for row in read_jsonl(folder / PROMPTS_FILE) if row["row"] in answers]
    prompts = prompts[: spec.n_prompts]
    differences = []
    for prompt in prompts:
        row, answer = prompt["row"], Answering(model, tokenizer, prompt["prompt"], spec)
        if answer.text != (expected := answers[row]):
            is_tie = answer.ties_with(expected)
            found = Difference(row=row, expected=expected, got=answer.text, is_tie=is_tie)
            differences.append(found)
    return Observation(
        template_sha256=template_sha256(str(tokenizer.chat_template)),
        stop_token_ids=stop_ids(model.generation_config.eos_token_id),
        dtype=stored_dtype,
        precision=torch.finfo(model.dtype).eps,
        n_answers=len(prompts),
        differences=tuple(differences),
        losses={row.row: row.loss_sum_nats for row in losses},
    )


def load_version(spec: ReloadSpec) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer through MLflow, from the files of the version alone.

    Args:
        spec: The version and its settings.

    Returns:
        Model and tokenizer.

    Raises:
        RegistryError: The device of its evaluation is not available, so it cannot be repeated.
        ReloadMismatch: Its files are not a model.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from safetensors import SafetensorError

    device = choose_device(Device.AUTO)
    if device != spec.settings.device:
        raise RegistryError(
            "the version was evaluated on a device that is not available",
            where=spec.address,
            expected=spec.settings.device,
            got=device,
            fix=f"promote it on a machine with {spec.settings.device}, or evaluate it on this one",
        )
    registered = find_registered(spec.address)
    is_local = urlsplit(registered.artifacts).scheme in ("", "file")
    with store_errors(), quiet_transformers():
        try:
            # Given an address of a server, load_model leaves a copy of MLmodel in a temporary folder.
            place = spec.address
            if not is_local:
                place = mlflow.artifacts.download_artifacts(spec.address, dst_path=spec.folder)
            parts = mlflow.transformers.load_model(place, return_type="components")
            return parts["model"], parts["tokenizer"]
        except (MlflowException, SafetensorError, *LOAD_ERRORS) as error:
            if isinstance(error, (ConnectionError, TimeoutError)) or is_out_of_memory(error):
                raise
            raise ReloadMismatch(
                "the registered files do not load",
                where=spec.address,
                expected="the model that was evaluated",
                got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
                fix="register it again: run the training with --refresh register_model",
            ) from error


class Answering:
    """One greedy answer, and how close the second-best tokens were."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: str,
        spec: ReloadSpec,
    ) -> None:
        """Answer the prompt, a rendered text, in evaluation mode."""
        import torch

        self._model = model
        self._tokenizer = tokenizer
        encoded = tokenizer(
            prompt, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False
        ).to(model.device)
        with torch.inference_mode():
            generated = model.generate(
                **encoded,
                max_new_tokens=spec.settings.evaluation.max_new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )
        self._prompt_ids: list[int] = encoded["input_ids"][0].tolist()
        self._ids: list[int] = generated[0, len(self._prompt_ids) :].tolist()
        self._stops = stop_token_ids(model)
        end = next((at for at, token in enumerate(self._ids) if token in self._stops), None)
        self.text = self._decode(self._ids if end is None else self._ids[:end])

    def ties_with(self, expected: str) -> bool:
        """Check whether another answer differs only where two tokens were equally likely.

        True if at some token up to the first difference, another one within `TIE_LOGITS` of the best
        leads to the other answer. The tokens after it differ as a consequence.
        """
        import torch

        ids = torch.tensor([self._prompt_ids + self._ids], device=self._model.device)
        with torch.inference_mode():
            logits = self._model(input_ids=ids).logits[0].float()
        for place in range(len(self._ids)):
            if not self._leads_to(expected, self._ids[:place]):
                return False
            scores = logits[len(self._prompt_ids) + place - 1]
            best = float(scores.max())
            margin = max(TIE_LOGITS, 2 * abs(best) * torch.finfo(self._model.dtype).eps)
            close = (scores >= best - margin).nonzero().flatten().tolist()
            others = [token for token in close if token != self._ids[place]]
            if any(self._continues(expected, self._ids[:place], token) for token in others):
                return True
        return False

    def _continues(self, expected: str, before: Sequence[int], token: int) -> bool:
        if token in self._stops:
            return self._decode(before) == expected
        return self._leads_to(expected, [*before, token])

    def _leads_to(self, expected: str, ids: Sequence[int]) -> bool:
        return expected.startswith(self._decode(ids).rstrip("\ufffd"))  # half a character

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def run(spec: ReloadSpec) -> dict[str, Any]:
    """Observe, and return `observation`, or `error` with its class and parts for the calling process."""
    try:
        return {"observation": observe(spec).model_dump(mode="json")}
    except SftFlowError as error:
        found = error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        found = ReloadInterrupted("memory ran out while the version was loaded or answered")
    parts = {name: getattr(found, name) for name in ("where", "expected", "got", "fix")}
    return {"error": type(found).__name__, "what": found.what, "parts": parts}


def main(path: Path) -> None:
    """Run a spec file and write the outcome next to it."""
    prepare_environment()
    spec = ReloadSpec.model_validate_json(path.read_text(encoding="utf-8"))
    outcome = json.dumps(run(spec), ensure_ascii=False)
    (Path(spec.folder) / OUTCOME_FILE).write_text(outcome, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
