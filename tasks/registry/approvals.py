"""Answers of reviewers, recorded on the version that they are about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from schemas.records.references import Approval
from tasks.registry.tags import APPROVAL_TAG, DECISION_SHA256_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_REASON_CHARACTERS = 1000
"""Of a comment; a tag has room for 5,000 in all."""


def note_answer(
    client: MlflowClient, name: str, version: int, answer: Approval, decision_sha256: str
) -> None:
    """Record an answer on the version, with the decision that it is about.

    Args:
        client: The store.
        name: Registered model name.
        version: Its number.
        answer: The answer, or that there was none.
        decision_sha256: Of the decision; the version may have another one by now.
    """
    noted = answer.model_dump(mode="json") | {
        "reason": answer.reason[:MAX_REASON_CHARACTERS],
        "decision_sha256": decision_sha256,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    client.set_model_version_tag(name, str(version), APPROVAL_TAG, json.dumps(noted))


def read_answer(tags: Mapping[str, str], decision_sha256: str | None = None) -> Approval | None:
    """Read the answer about a decision; None if there is none.

    Args:
        tags: Of the version.
        decision_sha256: Of the decision; None for the version's last one.

    Returns:
        The answer; one about an earlier decision does not count.
    """
    try:
        noted = json.loads(tags.get(APPROVAL_TAG, ""))
        wanted = tags.get(DECISION_SHA256_TAG, "") if decision_sha256 is None else decision_sha256
        if noted.pop("decision_sha256") != wanted:
            return None
        noted.pop("at")
        return Approval.model_validate(noted)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        return None
