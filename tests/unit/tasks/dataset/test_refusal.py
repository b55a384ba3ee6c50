from __future__ import annotations

import os

from schemas.rule_ids import RuleExample, RuleResult, Severity, Verdict
from tasks.dataset.refusal import describe, keep_evidence, places, rejection
from tasks.engine.cache import OutputFolder
from tasks.engine.home import work_directory
from tasks.engine.keys import StageKey


def result(*files: str) -> RuleResult:
    return RuleResult(
        id="roles_not_alternating",
        severity=Severity.BLOCK,
        verdict=Verdict.FAILED,
        n_rows=3,
        fraction=0.1,
        examples=tuple(
            RuleExample(file=name, line=number, detail="user, user")
            for number, name in enumerate(files, start=17)
        ),
        fix="merge or drop these rows",
    )


def test_refusal_reads_as_the_house_writes_it() -> None:
    error = rejection("", [result("a", "a")], n_rows=1204, where="data/train.jsonl")
    assert str(error) == (
        "DataRejected: 3 of 1,204 rows in data/train.jsonl broke rule roles_not_alternating "
        "(limit 0).\n"
        "  lines 17, 18: user, user\n"
        "  Fix: merge or drop these rows, then run again."
    )
    assert error.exit_code == 1


def test_file_names_are_shown_when_there_are_several() -> None:
    assert places(result("a", "b")) == "  a line 17: user, user   b line 18: user, user"
    assert places(result()) == ""


def test_min_rows_is_told_from_below() -> None:
    few = result().model_copy(update={"id": "min_rows", "observed": 4.0, "limit": 10.0})
    assert describe(few, 4, "x") == "4 usable rows in x broke rule min_rows (at least 10)."


def test_evidence_outlives_the_abandoned_output() -> None:
    output = OutputFolder(StageKey("check_schema", {}))
    (output.path / "quarantine.jsonl").write_text("{}\n")
    folder = keep_evidence(output, ("quarantine.jsonl", "absent.json"))
    output.abandon()
    assert [path.name for path in folder.iterdir()] == ["quarantine.jsonl"]
    assert folder.is_relative_to(work_directory() / "rejected")


def test_evidence_against_data_rejected_again_is_not_old() -> None:
    output = OutputFolder(StageKey("check_schema", {}))
    (output.path / "quarantine.jsonl").touch()
    folder = keep_evidence(output, ("quarantine.jsonl",))
    os.utime(folder, (1.0, 1.0))
    assert keep_evidence(output, ("quarantine.jsonl",)) == folder
    assert folder.stat().st_mtime > 1.0
