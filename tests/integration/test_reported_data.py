"""Every case in `tests/data/reported`: sound data is accepted, and what spoils training is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli.main import main

pytestmark = pytest.mark.integration

CASES = Path(__file__).parents[1] / "data" / "reported"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in CASES.glob("*/case.json")))
def test_case_is_checked_rightly(name: str, tmp_path: Path) -> None:
    case: dict[str, Any] = json.loads((CASES / name / "case.json").read_text(encoding="utf-8"))
    source = str(CASES / name / case["source"])
    done = CliRunner().invoke(
        main, ["check", source, "--json", "--output", str(tmp_path / "out"), *case["options"]]
    )
    assert done.exit_code == case["exit"], done.output
    report = json.loads(done.stdout)
    assert report["n_rows"] == case["n_rows"]
    assert report["n_kept_rows"] + report["n_quarantined_rows"] == case["n_rows"]
    found = {
        rule["id"]: rule["n_rows"]
        for rule in report["rules"]
        if rule["verdict"] in ("warned", "failed")
    }
    assert found == case["rules"]
    assert case["conversions"].items() <= report["conversions"].items()
    assert report["unused_fields"] == case["unused_fields"]


def test_every_case_is_found() -> None:
    assert len(list(CASES.glob("*/case.json"))) >= 14
