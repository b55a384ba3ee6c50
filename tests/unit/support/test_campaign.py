"""What the campaign of faults counts as lost, and as a wrong champion."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.campaign import Trial, compare, is_bad_champion, print_table
from tests.chaos.world import Outcome

EXPECTED = Outcome("promote", "{}", "abc", 1)


def test_every_difference_is_named() -> None:
    assert compare(EXPECTED, EXPECTED) == []
    found = replace(EXPECTED, decision="refuse", champion_sha256="", n_versions=2)
    assert [text.split()[0] for text in compare(found, EXPECTED)] == [
        "decision",
        "champion_sha256",
        "n_versions",
    ]


@pytest.mark.parametrize(
    ("aliases", "has_files", "decision", "is_bad"),
    [
        (["champion"], True, "promote", False),
        (["champion"], False, "promote", True),
        (["champion"], True, "refuse", True),
        (["previous"], False, "refuse", False),
    ],
)
def test_champion_needs_files_and_a_decision(
    aliases: list[str], has_files: bool, decision: str, is_bad: bool
) -> None:
    tags = {"sft.decision": decision}
    version = {"aliases": aliases, "has_files": has_files, "tags": tags}
    assert is_bad_champion(version) is is_bad


def test_table_counts_what_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [
        Trial(0, "disk_full", "", ()),
        Trial(1, "disk_full", "", ("exit code 3",), is_wrong_champion=True),
        Trial(2, "flow_killed", "", ()),
    ]
    sums = print_table(trials)
    assert sums == {"faults": 3, "recovered": 2, "lost": 1, "wrong_champion": 1}
    assert "| disk full | 2 | 1 | 1 |" in capsys.readouterr().out
