"""The files that `sft-flow init` writes: a configuration, prefect.yaml and .gitignore."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

from schemas.config.plain_yaml import yaml_text
from tasks.dataset.column_mapping import Proposal, broken_rules, shown_list

CONFIGURATION, PROJECT, IGNORED = "sft-flow.yaml", "prefect.yaml", ".gitignore"
FILES = (CONFIGURATION, PROJECT, IGNORED)

CONFIGURATION_TEXT = """\
# Settings of $title. docs/configuration.md of sft-flow lists all others; they keep their defaults.
# Relative paths start in the folder where sft-flow or the Prefect worker runs: this one.
data:
  source:
    source: $source
    # Columns of the first $n_rows rows: $seen
    # $mapping
    # Row rules: $kept
${columns}model:
  source: $model  # or a Hub id, a folder, a .gguf file, models:/name@alias
training:
  num_train_epochs: 1
  # max_steps: 24  # for a first result within minutes; without it, whole epochs are trained
registry:
  name: $name
retrain:  # when the weekly deployment of $project trains
  min_new_rows: 5  # rows that are new, changed or removed
  max_age_days: 30  # a single changed row is enough once the last version is older
"""

PROJECT_TEXT = """\
# Deployments of $title. Run in this folder, after `sft-flow up` (or with your own server,
# PREFECT_API_URL set, and `prefect work-pool create --type process sft-local`):
#   prefect deploy --all        # again after each change of $configuration
#   prefect deployment run $train
# A worker runs them in an environment where sft-flow is installed, in this folder. Outputs are in
# the worker's SFT_HOME, by default .sft in this folder.

# Reads $configuration, so that deployments and `sft-flow run -c $configuration` use the same settings.
build:
- flows.services.deployment_step.read_configuration:
    id: project
    path: $configuration
push: []
pull:
- prefect.deployments.steps.set_working_directory:
    directory: "{{ project.folder }}"

definitions:
  # Each deployment runs once at a time, later runs wait. Both wait for each other too.
  one_at_a_time: &one_at_a_time
    limit: 1
    collision_strategy: ENQUEUE
  pool: &pool
    name: sft-local
    job_variables:
      stream_output: true

deployments:
- name: $train_name
  description: Train, evaluate and register a model, started manually.
  tags: [sft-flow, manual]
  entrypoint: flows.train_sft.train_sft
  parameters: {config: "{{ project.config }}", refresh: []}
  enforce_parameter_schema: true
  schedules: []
  concurrency_limit: *one_at_a_time
  work_pool: *pool

- name: $weekly_name
  description: Every Monday at 03:00 UTC. Trains if rows or settings changed; see retrain in $configuration.
  tags: [sft-flow, scheduled]
  entrypoint: flows.retrain_model.retrain_model
  parameters: {config: "{{ project.config }}", refresh: []}
  enforce_parameter_schema: true
  schedules:
  - cron: "0 3 * * 1"
    timezone: Etc/UTC
    active: true
  concurrency_limit: *one_at_a_time
  work_pool: *pool
"""

IGNORED_TEXT = """\
# Outputs of sft-flow (SFT_HOME): cached stages, models, reports, the MLflow store.
.sft/
.venv/
__pycache__/
"""


@dataclass(frozen=True)
class Project:
    """What the files say."""

    source: str
    """`data.source.source`, as it is found from the folder of the files."""
    model: str
    name: str
    proposal: Proposal
    files: tuple[str, ...] = FILES
    """Names of those that are written."""


def new_files(folder: Path) -> tuple[str, ...]:
    """List the files to write into a folder: a `.gitignore` that exists is kept, and is no error."""
    return tuple(name for name in FILES if name != IGNORED or not (folder / name).is_file())


def project_files(project: Project) -> dict[str, str]:
    """Format the text of each file, by its name."""
    proposal = project.proposal
    columns = ", ".join(f"{ours}: {yaml_text(name)}" for ours, name in proposal.columns.items())
    values = {
        "title": project.name,
        "name": yaml_text(project.name),
        "source": yaml_text(project.source),
        "model": yaml_text(project.model),
        "columns": f"    columns: {{{columns}}}\n" if columns else "",
        "n_rows": f"{proposal.outcome.n_rows:,}",
        "seen": shown_list(proposal.seen),
        "mapping": describe_mapping(proposal),
        "kept": describe_sample(proposal),
        "configuration": CONFIGURATION,
        "project": PROJECT,
        "train": shlex.quote(f"train-sft/{project.name}-train"),
        "train_name": yaml_text(f"{project.name}-train"),
        "weekly_name": yaml_text(f"{project.name}-weekly"),
    }
    texts = (CONFIGURATION_TEXT, PROJECT_TEXT, IGNORED_TEXT)
    return {
        name: Template(text).substitute(values)
        for name, text in zip(FILES, texts, strict=True)
        if name in project.files
    }


def describe_mapping(proposal: Proposal) -> str:
    """Write one line on how the columns were mapped, and which are not trained on."""
    if not proposal.columns:
        return f"Mapping: none is needed ({proposal.reason})"
    names = ", ".join(
        f"{ours} is {shown_list([theirs])}" for ours, theirs in proposal.columns.items()
    )
    unused = f"; not trained on: {shown_list(proposal.unused)}" if proposal.unused else ""
    return f"Mapping: {names} ({proposal.reason}){unused}"


def describe_sample(proposal: Proposal) -> str:
    """Write one line on what the row rules say to the sample."""
    outcome = proposal.outcome
    broken = f"; rules broken: {broken_rules(outcome)}" if outcome.n_broken else ""
    return f"{outcome.n_kept_rows:,} of {outcome.n_rows:,} rows kept{broken}"
