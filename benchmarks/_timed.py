"""One measurement in a process of its own: `python -m benchmarks._timed KIND FILE [ARGUMENT…]`.

Prints one JSON document with `seconds`, taken inside the process without its start, but with every
import that the work needs.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH_ROWS = 1000
TOKEN_REPEATS = 3
OFF = {"quality": {"rules": {"near_duplicate_fraction": {"severity": "off"}}}}


def json_loads(path: Path) -> dict[str, Any]:
    """Read every line and parse it, nothing else.

    Args:
        path: JSON lines.

    Returns:
        `seconds`.
    """
    started = time.perf_counter()
    with path.open("rb") as lines:
        for line in lines:
            json.loads(line)
    return {"seconds": time.perf_counter() - started}


def check(path: Path, depth: str) -> dict[str, Any]:
    """Run the data gate on a file.

    Args:
        path: JSON lines.
        depth: rows: row rules; set: set rules too, but no near duplicates; near: these as well.

    Returns:
        `seconds`, and what the gate found.
    """
    started = time.perf_counter()
    from schemas.config.run import RunConfig
    from tasks.dataset.check_file import CheckOptions, Scope, check_file

    config = RunConfig() if depth == "near" else RunConfig.model_validate(OFF)
    with tempfile.TemporaryDirectory() as folder:
        scope = Scope.ROWS if depth == "rows" else Scope.SET
        report = check_file(str(path), config, CheckOptions(scope, folder=Path(folder)))
        seconds = time.perf_counter() - started
    n_broken = {rule.id: rule.n_rows for rule in report.rules}
    return {
        "seconds": seconds,
        "verdict": str(report.verdict),
        "n_rows": report.n_rows,
        "n_quarantined_rows": report.n_quarantined_rows,
        "n_broken": dict(sorted(n_broken.items())),
    }


def prepare(folder: Path) -> dict[str, Any]:
    """Prepare the bundled model, as the flow does.

    Args:
        folder: Gets the model and its training template.

    Returns:
        `seconds`.
    """
    started = time.perf_counter()
    from schemas.config.run import ModelConfig, TemplateConfig
    from tasks.prepare_template import prepare_model

    folder.mkdir(parents=True)
    prepare_model(folder, ModelConfig(), TemplateConfig(), seed=42)
    return {"seconds": time.perf_counter() - started}


def tokens(path: Path, prepared: str) -> dict[str, Any]:
    """Compare the token rules with the tokenizer's own encoding of the same rendered texts.

    Args:
        path: JSON lines.
        prepared: Folder that `prepare` filled.

    Returns:
        `seconds` of both, the least of interleaved repeats, and `n_tokens`.
    """
    from benchmarks._peers import first_rows
    from schemas.rows.recognition import recognise
    from schemas.rows.row import SourceRow
    from schemas.rule_ids import DataGateMode
    from schemas.rules.set_rules import set_rule_settings
    from tasks.tokens._texts import TextRenderer
    from tasks.tokens.rendering import load_renderer
    from tasks.tokens.writing import TokenOutput, write_tokens

    model = Path(prepared)
    renderer = load_renderer(model / "model", model / "training_template.jinja")
    rows = (SourceRow(path.name, n, row) for n, row in enumerate(first_rows(path, 10**9), 1))
    conversations = [found for row in rows if (found := recognise(row)[0])]
    templates = TextRenderer(renderer.tokenizer, renderer.training_template)
    texts = [row.text for row in templates.render(conversations)]
    settings = set_rule_settings({}, DataGateMode.ENFORCE)

    def encode() -> int:
        encoded = (renderer.tokenizer(batch)["input_ids"] for batch in _batches(texts))
        return sum(len(ids) for batch in encoded for ids in batch)

    def rules() -> int:
        with tempfile.TemporaryDirectory() as folder:
            output = TokenOutput(Path(folder) / "tokens.parquet")
            side = write_tokens(conversations, renderer, settings, 1024, output)
        return int(side.columns["n_tokens"].sum())

    encode()  # the first call starts the tokenizer's threads
    runs = [(_clock(encode), _clock(rules)) for _ in range(TOKEN_REPEATS)]
    ((_, n_encoded), (_, n_ruled)) = runs[0]
    return {
        "seconds": min(seconds for _, (seconds, _) in runs),
        "encoding_seconds": min(seconds for (seconds, _), _ in runs),
        "n_rows": len(texts),
        "n_tokens": n_ruled,
        "n_encoded_tokens": n_encoded,
    }


def _batches(texts: list[str]) -> Iterator[list[str]]:
    return (texts[first : first + BATCH_ROWS] for first in range(0, len(texts), BATCH_ROWS))


def _clock(work: Callable[[], int]) -> tuple[float, int]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def peer(path: Path, name: str, n_rows: str = "0") -> dict[str, Any]:
    """Check rows as others do.

    Args:
        path: JSON lines.
        name: python_loop, pandera_row_by_row or great_expectations.
        n_rows: How many rows, for pandera_row_by_row.

    Returns:
        `seconds`, `n_rows` and what was found.
    """
    from benchmarks import _peers

    if name == "pandera_row_by_row":
        return _peers.pandera_row_by_row(path, int(n_rows))
    if name == "great_expectations":
        return _peers.raw_great_expectations(path)
    return _peers.python_loop(path)


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "json_loads": json_loads,
    "check": check,
    "prepare": prepare,
    "tokens": tokens,
    "peer": peer,
}


if __name__ == "__main__":
    found = KINDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    sys.stdout.write("\n" + json.dumps(found) + "\n")
