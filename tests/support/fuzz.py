"""What fuzzing feeds with any input: the row reader, the configuration loader, the template contract.

`python -m tests.support.fuzz TARGET SECONDS` runs one of them under atheris; tests/unit/support/test_fuzz.py
does with hypothesis. An input that a target does not survive is kept in tests/data/fuzz/TARGET.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from schemas.errors import SftFlowError

SEEDS = Path(__file__).parents[1] / "data" / "fuzz"
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".zip", ".parquet", ".arrow")
LONGEST_BYTES = {"rows": 4096, "config": 500, "template": 4096}
"""Of an input: hundreds of brackets take ruamel a second, and would be most of what is tried."""
SLOWEST_SECONDS = 60
"""For one input, under atheris."""
_SCRATCH = tempfile.TemporaryDirectory(prefix="sft-flow-fuzz-")  # removed when the process ends
SCRATCH = Path(_SCRATCH.name)
"""For the files that targets read."""


def read_rows_of(content: bytes) -> None:
    """Read a file of any kind, by its first byte: each row has a value or the reason it has none."""
    from schemas.config.run import DataSource
    from tasks.sources.source import read_rows

    if not content:
        return
    path = SCRATCH / f"rows{ENDINGS[content[0] % len(ENDINGS)]}"
    path.write_bytes(content[1:])
    with contextlib.suppress(SftFlowError):
        for row in read_rows(DataSource(source=str(path))):
            if not row.unparseable:
                json.dumps(row.row).encode()
    path.unlink()


def load_config_of(content: bytes) -> None:
    """Load a configuration: one that is accepted is written and read again as the same."""
    from schemas.config.file import load_config
    from schemas.config.run import RunConfig

    text = content[1:].decode("utf-8", errors="ignore")
    path = SCRATCH / ("c.toml" if content[:1] == b"t" else "c.yaml")
    path.write_text(text, encoding="utf-8")
    override, _, _ = text.partition("\n")
    for arguments in ((path, ()), (None, (override,))):
        try:
            config = load_config(*arguments)
        except SftFlowError as error:
            if len(str(error)) > 5000 + 3 * len(override):
                raise AssertionError("an error of many pages") from error
        else:
            if RunConfig.model_validate_json(config.model_dump_json()) != config:
                raise AssertionError("a configuration that does not read back")


@cache
def toy_tokenizer() -> Any:
    """Make the toy tokenizer once."""
    from transformers import AutoTokenizer

    from tests.support.toy import make_toy_model

    return AutoTokenizer.from_pretrained(make_toy_model(SCRATCH / "model"))


def check_template_of(content: bytes) -> None:
    """Set any text as the chat template of a tokenizer: it keeps the contract, or is refused."""
    from tasks.chat_template.setup import choose_variant
    from tasks.chat_template.variants import has_markers, without_markers

    text = content.decode("utf-8", errors="ignore")
    if text.count("range") > 1 or "**" in text:
        return  # what does not end is stopped by the trial, see test_trial.py
    tokenizer = toy_tokenizer()
    tokenizer.chat_template = without_markers(text)
    with contextlib.suppress(SftFlowError):
        choose_variant(tokenizer, text if has_markers(text) else None, {"thinking": True})
    with contextlib.suppress(SftFlowError):
        choose_variant(tokenizer, text if has_markers(text) else None)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "rows": read_rows_of,
    "config": load_config_of,
    "template": check_template_of,
}


def main() -> None:
    """Run one target under atheris, which keeps new inputs in build/fuzz and faults as seeds."""
    import atheris

    name, seconds = sys.argv[1:]
    found = Path("build") / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["schemas", "tasks", "ruamel", "jinja2"]):
        TARGETS[name](next(iter(sorted((SEEDS / name).iterdir()))).read_bytes())
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={SEEDS / name}/",
        f"-timeout={SLOWEST_SECONDS}",
        f"-report_slow_units={SLOWEST_SECONDS}",
        "-rss_limit_mb=4096",
        f"-max_len={LONGEST_BYTES[name]}",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(SEEDS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
