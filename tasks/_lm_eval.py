"""Tasks of lm-evaluation-harness on one model; needs the extra `lm-eval`."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError
from schemas.evaluation_config import LmEvalConfig
from schemas.training_config import Device
from tasks._device import choose_device
from tasks._lines import write_jsonl

SCORES_FILE = "lm_eval_scores.jsonl"
PREFERRED = ("acc_norm", "acc", "exact_match", "f1", "bleu", "word_perplexity")
"""Figure of a document that counts, where a task gives several."""


def require_lm_eval() -> None:
    """Check that the extra is installed.

    Raises:
        ConfigError: It is not.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(
            "evaluation.lm_eval needs lm-evaluation-harness, which is not installed",
            where="evaluation.lm_eval",
            expected="the package lm_eval",
            got="none",
            fix="pip install 'sft-flow[lm-eval]'",
        )


def run_lm_eval(
    folders: tuple[Path, Path], settings: LmEvalConfig, seed: int, output: Path
) -> None:
    """Run the named tasks on a model, asked as it is asked in use.

    Args:
        folders: Of the model and of its tokenizer, whose chat template is applied.
        settings: Tasks, examples of each, chat template or not.
        seed: Of few-shot examples and sampling.
        output: Gets `lm_eval_scores.jsonl`: row, task and score of each document.

    Raises:
        ConfigError: The extra is missing, or there is no such task.
    """
    require_lm_eval()
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = folders
    manager = TaskManager()
    for name in settings.tasks:
        _check_task(name, manager)
    language_model = HFLM(
        pretrained=str(model),
        tokenizer=str(tokenizer),
        device=choose_device(Device.AUTO),
        dtype="auto",
        batch_size=8,
        max_batch_size=8,
    )
    found = simple_evaluate(
        model=language_model,
        tasks=[_task(name) for name in settings.tasks],
        limit=settings.limit,
        apply_chat_template=settings.apply_chat_template,
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=seed,
        numpy_random_seed=seed,
        torch_random_seed=seed,
        fewshot_random_seed=seed,
    )
    names = {_stem(name): name for name in settings.tasks}
    write_jsonl(output / SCORES_FILE, list(_scores(found["samples"], names)))


def _task(name: str) -> Any:
    """Give a task of the library by its name, or one of a file as the settings it holds."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return name
    import yaml

    settings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**settings, "task": path.stem}


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def _check_task(name: str, manager: Any) -> None:
    if name.endswith((".yaml", ".yml")):
        known, is_known = "a readable file", Path(name).is_file()
    else:
        near = difflib.get_close_matches(name, manager.all_tasks, n=3)
        known, is_known = f"such as {', '.join(near) or 'arc_easy'}", name in manager.all_tasks
    if not is_known:
        raise ConfigError(
            f"there is no task {name}",
            where="evaluation.lm_eval.tasks",
            expected=known,
            got=name,
            fix="correct the name: `lm-eval ls tasks` lists them",
        )


def _scores(samples: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Take one figure of each document; a group's tasks count under their own names."""
    for task, documents in samples.items():
        for document in documents:
            metrics = [name for name in PREFERRED if name in document] or document["metrics"]
            score = document[metrics[0]]
            name = names.get(task, task)
            yield {"row": int(document["doc_id"]), "task": name, "score": float(score)}
