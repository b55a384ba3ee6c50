"""Run tasks of lm-evaluation-harness on one model; needs the extra `lm-eval`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.config.evaluation import LmEvalConfig
from schemas.config.training import Device
from schemas.errors import ConfigError
from schemas.small_files import read_small_text
from tasks.engine.jsonl import write_jsonl
from tasks.models.device import choose_device, released_memory, use_emptiest_gpu

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SCORES_FILE = "lm_eval_scores.jsonl"
PREFERRED = ("acc_norm", "acc", "exact_match", "f1")
"""Metric of a document that counts, where a task has several."""


def run_lm_eval(
    folders: tuple[Path, Path], settings: LmEvalConfig, seed: int, output: Path
) -> None:
    """Run the configured tasks on a model (`folders`: model, tokenizer), prompted as in use.

    Writes `lm_eval_scores.jsonl`: row, task and score of each document. The seed is that of
    few-shot examples and sampling.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    for name in settings.tasks:
        _check_task(name, manager)
    tasks = [_task(name) for name in settings.tasks]
    with released_memory():
        found = _evaluate(folders, tasks, settings, manager, seed)
    write_jsonl(output / SCORES_FILE, list(_scores(found, settings.tasks)))


def _evaluate(
    folders: tuple[Path, Path],
    tasks: Sequence[str | dict[str, Any]],
    settings: LmEvalConfig,
    manager: TaskManager,
    seed: int,
) -> Mapping[str, Any]:
    """Run the tasks with the model in this process, which forgets it."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = folders
    use_emptiest_gpu()
    language_model = HFLM(
        pretrained=str(model),
        tokenizer=str(tokenizer),
        device=choose_device(Device.AUTO),
        dtype="auto",
        batch_size=8,
        max_batch_size=8,
    )
    found: Mapping[str, Any] = simple_evaluate(
        model=language_model,
        tasks=tasks,
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
    return found


def _task(name: str) -> str | dict[str, Any]:
    """Return the name of a task of the library, or the settings in a task file."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        return name
    import yaml

    try:
        settings = yaml.safe_load(read_small_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(name, " ".join(str(error).split())) from error
    if not isinstance(settings, dict):
        raise _unreadable(name, type(settings).__name__)
    return {**settings, "task": path.stem}


def _unreadable(name: str, got: str) -> ConfigError:
    return ConfigError(
        "the task's file cannot be read",
        where=f"evaluation.lm_eval.tasks: {name}",
        expected="settings of one task in plain YAML, without !function",
        got=got,
        fix="write its templates and metrics as text, or use a task of the library",
    )


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def _check_task(name: str, manager: TaskManager) -> None:
    if name.endswith((".yaml", ".yml")):
        expected, exists = "a readable file", Path(name).is_file()
    else:
        near = difflib.get_close_matches(name, manager.all_tasks, n=3)
        expected = f"such as {', '.join(near) or 'arc_easy'}"
        exists = name in manager.all_tasks
    if not exists:
        raise ConfigError(
            f"there is no task {name}",
            where="evaluation.lm_eval.tasks",
            expected=expected,
            got=name,
            fix="correct the name: `lm-eval ls tasks` lists them",
        )


def _scores(found: Mapping[str, Any], tasks: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Take one metric of each document; the documents of a group's tasks are numbered through."""
    for name in tasks:
        leaves = _leaves(_stem(name), found.get("group_subtasks") or {})
        documents = [(leaf, one) for leaf in leaves for one in _documents(found, leaf)]
        for row, (leaf, document) in enumerate(documents):
            metric = _metric(name, document, found["higher_is_better"].get(leaf, {}))
            yield {"row": row, "task": name, "score": float(document[metric])}


def _leaves(name: str, groups: Mapping[str, Sequence[str]]) -> list[str]:
    """List the tasks of a group, or the task itself."""
    parts = groups.get(name) or ()
    return [leaf for part in parts for leaf in _leaves(part, groups)] if parts else [name]


def _documents(found: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """List each document once, with the task's first filter."""
    documents: list[dict[str, Any]] = found["samples"].get(task, [])
    first = documents[0].get("filter") if documents else None
    kept = [document for document in documents if document.get("filter") == first]
    return sorted(kept, key=lambda document: int(document["doc_id"]))


def _metric(name: str, document: Mapping[str, Any], directions: Mapping[str, Any]) -> str:
    """Choose the metric that counts: one number per document, and more of it is better."""
    usable = [
        metric
        for metric in (*PREFERRED, *document["metrics"])
        if isinstance(document.get(metric), (bool, int, float)) and directions.get(metric)
    ]
    if not usable:
        raise ConfigError(
            f"the task {name} has no metric per document of which more is better",
            where="evaluation.lm_eval.tasks",
            expected="a metric such as acc or exact_match",
            got=", ".join(document["metrics"]),
            fix="choose another task",
        )
    return usable[0]
