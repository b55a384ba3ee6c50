"""Outputs that are kept whatever their age: those of versions with an alias or in another store, and of unfinished trainings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from schemas.records.stages import Stage
from tasks.engine.home import has_store, store_name
from tasks.registry.store import connect, store_errors
from tasks.storage.outputs import INPUT, StoredOutput

MODEL_PART = "config model_sha256"
"""Part of the key of stored scores: the model that has them."""
EVAL_PART = "config eval_sha256"
"""And the rows that it was measured on."""
VERSION_PART = f"{INPUT}version"
"""Part of the keys of the stages after `register_model`."""


def needed_outputs(outputs: Sequence[StoredOutput], trainings: Iterable[Path]) -> set[Path]:
    """Return the folders that versions with an alias and unfinished trainings were or are made of.

    Args:
        outputs: All outputs.
        trainings: Folders with the checkpoints of unfinished trainings.

    Returns:
        Folders of those to keep: everything up to a version with an alias and what was made of it,
        stored scores of these models on its rows, and what an unfinished training reads. A version
        in another store than the present one counts as one with an alias, since it is not known.

    Raises:
        ServiceUnreachable: The registry does not answer, so that it is not known what it needs.
    """
    registered = [one for one in outputs if one.stage == Stage.REGISTER_MODEL and one.result]
    foreign = [one for one in registered if one.result.get("tracking_uri") != store_name()]
    known = [one for one in registered if one not in foreign]
    holders = versions_with_alias({str(one.result.get("name")) for one in known})
    kept = foreign + [
        one for one in known if (one.result.get("name"), one.result.get("version")) in holders
    ]
    versions = {one.sha256 for one in kept}
    kept += [one for one in outputs if one.key.get(VERSION_PART) in versions]
    wanted = {sha256 for one in kept for sha256 in one.inputs} | _read_by(trainings)
    kept += _made_of(outputs, wanted)
    models = {f'"{sha256}"' for one in kept for sha256 in (one.sha256, *one.inputs)}
    held_out = {f'"{one.result.get("eval_sha256")}"' for one in kept}
    kept += [
        one
        for one in outputs
        if one.key.get(MODEL_PART) in models and one.key.get(EVAL_PART) in held_out
    ]
    return {one.path for one in kept}


def _made_of(outputs: Sequence[StoredOutput], wanted: set[str]) -> list[StoredOutput]:
    """Find the outputs whose content is wanted, and all that these were made of.

    Of equal content, such as the answers of one base model to rows that stay the same, those are
    taken that were made of what is wanted, too; without such, the one that shares most of it, and
    then the one used last.
    """
    by_content: dict[str, list[StoredOutput]] = {}
    for one in outputs:
        by_content.setdefault(one.sha256, []).append(one)
    wanted, found = set(wanted), dict[str, list[StoredOutput]]()
    while open_ones := [sha256 for sha256 in wanted & by_content.keys() if sha256 not in found]:
        # What there is only one of tells which of the others belong to it.
        clear = [sha256 for sha256 in open_ones if len(by_content[sha256]) == 1]
        for sha256 in clear or [min(open_ones)]:
            same = by_content[sha256]
            nearest = max(same, key=lambda one: (len(one.inputs & wanted), one.used_at))
            found[sha256] = [one for one in same if one.inputs <= wanted] or [nearest]
        wanted |= {sha256 for some in found.values() for one in some for sha256 in one.inputs}
    return [one for some in found.values() for one in some]


def versions_with_alias(names: Iterable[str]) -> set[tuple[str, int]]:
    """Return name and number of each version that has any alias; empty without a store."""
    from mlflow.exceptions import MlflowException

    if not has_store():
        return set()
    client = connect()
    found: set[tuple[str, int]] = set()
    for name in sorted(names):
        with store_errors():
            try:
                aliases = client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                continue
        found |= {(name, int(version)) for version in aliases.values()}
    return found


def _read_by(trainings: Iterable[Path]) -> set[str]:
    """Return the content that trainings with checkpoints read, by the parts of their keys."""
    wanted: set[str] = set()
    for folder in trainings:
        try:
            parts = dict(
                json.loads((folder / "spec.json").read_text(encoding="utf-8"))["fingerprint"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
        wanted |= {str(text) for name, text in parts.items() if name.startswith(INPUT)}
    return wanted
