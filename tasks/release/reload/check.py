"""The reload check: the registry returns the model that was evaluated."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas import errors
from schemas.base import Record
from schemas.errors import RegistryError, ReloadInterrupted, ReloadMismatch, SftFlowError
from tasks.engine.home import python_path
from tasks.engine.jsonl import read_jsonl
from tasks.engine.scratch import scratch_folder
from tasks.registry.store import connect, store_errors
from tasks.registry.tags import WEIGHTS_TAG
from tasks.release.reload import run
from tasks.release.reload.run import OUTCOME_FILE
from tasks.release.reload.spec import (
    EVALUATION_FOLDER,
    SETTINGS_FILE,
    EvaluatedSettings,
    Observation,
    ReloadSpec,
)

RELOAD_SECONDS = 3600
"""Time limit for loading a version and answering some prompts."""
LOSS_TOLERANCE = 1e-4
"""Relative; sums in another order differ by less in 32-bit floats."""
LOSS_FLOOR_NATS = 1e-5
"""Per token; a smaller loss is only rounding."""
REMEDY = "register it again: run the training with --refresh register_model"


class ReloadFacts(Record):
    """Result of a passed reload check."""

    n_answers: int
    n_differing_answers: int
    """They differ where two tokens were equally likely, or where a server generated the evaluated ones,
    which rounds sums differently."""
    n_losses: int
    max_loss_difference: float
    """Largest relative difference of a row's loss."""


def check_reload(name: str, version: int, n_prompts: int) -> ReloadFacts:
    """Load a version in a new process and compare it with its evaluation.

    Args:
        name: Registered model name.
        version: Its number.
        n_prompts: Evaluated prompts to answer again, the first ones.

    Returns:
        What agreed, and how closely.

    Raises:
        RegistryError: The version has no record of its evaluation, its weights were deleted, or
            the device it was evaluated on is not available.
        ReloadMismatch: The files are not what was evaluated.
        ReloadInterrupted: The process died or did not finish.
        ServiceUnreachable: The store does not answer.
    """
    address = f"models:/{name}/{version}"
    with scratch_folder() as scratch:
        folder = fetch_evaluated(name, version, scratch)
        settings = read_settings(folder, address)
        spec = ReloadSpec(
            address=address, folder=str(folder), n_prompts=n_prompts, settings=settings
        )
        observed = run_process(spec)
        evaluated_losses = {
            int(row["row"]): (float(row["loss_sum_nats"]), int(row["n_tokens"]))
            for row in read_jsonl(folder / "losses.jsonl")
        }
    return compare(settings, evaluated_losses, observed, address)


def fetch_evaluated(name: str, version: int, scratch: Path) -> Path:
    """Download the record of a version's evaluation into `scratch`; RegistryError if there is none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    client = connect()
    address = f"models:/{name}/{version}"
    with store_errors():
        try:
            found = client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise _unusable("there is no such version", address, "a registered one") from error
        if WEIGHTS_TAG in found.tags:
            got = f"{WEIGHTS_TAG}={found.tags[WEIGHTS_TAG]}"
            raise _unusable("the version's weights were deleted", address, got)
        if not found.run_id or EVALUATION_FOLDER not in {
            file.path for file in client.list_artifacts(found.run_id)
        }:
            raise _unusable("the version has no record of its evaluation", address, "no files")
        place = mlflow.artifacts.download_artifacts(
            f"runs:/{found.run_id}/{EVALUATION_FOLDER}", dst_path=str(scratch)
        )
    return Path(place)


def _unusable(what: str, address: str, got: str) -> RegistryError:
    return RegistryError(
        what,
        where=address,
        expected="a version that the flow evaluated and registered, with its weights",
        got=got,
        fix="choose another version (sft-flow status lists them), or run the training again",
    )


def read_settings(folder: Path, address: str) -> EvaluatedSettings:
    """Read how the version was evaluated.

    Args:
        folder: From `fetch_evaluated`.
        address: The version, for the message.

    Returns:
        The settings.
    """
    try:
        text = (folder / SETTINGS_FILE).read_text(encoding="utf-8")
        return EvaluatedSettings.model_validate_json(text)
    except (OSError, ValidationError) as error:
        got = f"{SETTINGS_FILE}: {type(error).__name__}"
        raise _unusable("the version has no record of its evaluation", address, got) from error


def run_process(spec: ReloadSpec, timeout_seconds: float = RELOAD_SECONDS) -> Observation:
    """Observe a version in a new process.

    Args:
        spec: The version and the files of its evaluation.
        timeout_seconds: Time limit.

    Returns:
        What it found.
    """
    path = Path(spec.folder) / "spec.json"
    path.write_text(spec.model_dump_json(), encoding="utf-8")
    environment = dict(os.environ)
    environment["PYTHONPATH"] = python_path(environment)
    # -P: a folder `datasets` next to the user's data is not a package.
    command = [sys.executable, "-P", "-m", run.__name__, str(path)]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        got = f"none after {timeout_seconds:g} s"
        raise _interrupted(spec.address, got) from error
    outcome = Path(spec.folder) / OUTCOME_FILE
    if done.returncode or not outcome.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _interrupted(spec.address, f"exit code {done.returncode}: {last[:300]}")
    return read_outcome(json.loads(outcome.read_text(encoding="utf-8")))


def _interrupted(address: str, got: str) -> ReloadInterrupted:
    return ReloadInterrupted(
        "the reload check did not finish",
        where=address,
        expected="a result of its process",
        got=got,
        fix="check memory and time limits, then run again; no alias was moved",
    )


def read_outcome(outcome: dict[str, Any]) -> Observation:
    """Return the observation of the process, or raise its error again, of the same class."""
    if "observation" in outcome:
        return Observation.model_validate(outcome["observation"])
    kind: type[SftFlowError] = getattr(errors, outcome["error"])
    raise kind(outcome["what"], **outcome["parts"])


def compare(
    settings: EvaluatedSettings,
    evaluated_losses: dict[int, tuple[float, int]],
    observed: Observation,
    address: str,
) -> ReloadFacts:
    """Compare what was loaded with what was evaluated.

    Args:
        settings: How the version was evaluated.
        evaluated_losses: Row to the sum of its tokens' losses in nats, and the number of tokens.
        observed: What the new process found.
        address: The version, for the message.

    Returns:
        What agreed; a difference raises ReloadMismatch.
    """
    for what, where in (
        ("chat template", "template_sha256"),
        ("stop tokens", "stop_token_ids"),
        ("number format of the weights", "dtype"),
    ):
        expected, got = getattr(settings, where), getattr(observed, where)
        if expected != got:
            raise mismatch(f"the {what}", f"{address} {where}", str(expected), str(got))
    largest = 0.0
    tolerance = max(LOSS_TOLERANCE, observed.precision)
    for row, got_nats in observed.losses.items():
        expected_nats, n_tokens = evaluated_losses[row]
        floor = LOSS_FLOOR_NATS * n_tokens
        # Not "is greater": a loss that is no number must not pass.
        if not math.isclose(got_nats, expected_nats, rel_tol=tolerance, abs_tol=floor):
            where = f"{address} evaluation row {row}"
            raise mismatch("a loss", where, f"{expected_nats:.6g} nats", f"{got_nats:.6g} nats")
        if expected_nats > floor:
            largest = max(largest, abs(got_nats - expected_nats) / expected_nats)
    for one in observed.differences:
        if not one.is_tie and settings.evaluation.server is None:
            where = f"{address} evaluation row {one.row}"
            raise mismatch("an answer", where, repr(one.expected[:200]), repr(one.got[:200]))
    return ReloadFacts(
        n_answers=observed.n_answers,
        n_differing_answers=len(observed.differences),
        n_losses=len(observed.losses),
        max_loss_difference=largest,
    )


def mismatch(what: str, where: str, expected: str, got: str) -> ReloadMismatch:
    """Build the error for a part of a registered model that differs from what was evaluated."""
    return ReloadMismatch(
        f"{what} of the registered model differs from what was evaluated",
        where=where,
        expected=expected,
        got=got,
        fix=REMEDY,
    )
