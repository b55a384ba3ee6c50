"""The model as MLflow stores and serves it: it answers chat messages as in the evaluation."""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.engine.scratch import libraries_in_scratch, scratch_folder
from tasks.registry.store import FoundVersion, model_id_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

    from schemas.config.run import RunConfig

SERVING_PACKAGES = ("mlflow", "accelerate", "torch", "transformers")
GREEDY_TEMPERATURE = 1e-9
"""Greedy in effect: two 32-bit logits of size 1 that differ at all are 60 apart after division.

A request of MLflow's chat task can set the temperature but not `do_sample`, and transformers
ignores the temperature while `do_sample` is false. So sampling is on, at this temperature.
"""
LEFT_BY_MLFLOW = "LICENSE.txt"
"""Reports only that a repository with the name of the local folder has no licence; the card has it."""


class ChatFlavor:
    """MLflow's transformers flavour, without paths of this machine; called by `Model.log`."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, config: RunConfig, folder: Path) -> None:
        """Write a model in MLflow's format.

        Args:
            path: The folder to write.
            mlflow_model: Its description; completed and written as well.
            config: With the settings of the evaluation and the name.
            folder: The merged model, loadable by transformers.
        """
        import mlflow
        from mlflow.models.model import MLMODEL_FILE_NAME

        logging.getLogger("mlflow.transformers").setLevel(logging.ERROR)
        mlflow.transformers.save_model(
            str(folder),
            path,
            mlflow_model=mlflow_model,
            task="llm/v1/chat",
            model_config=serving_settings(config),
            pip_requirements=[f"{name}=={_public_version(name)}" for name in SERVING_PACKAGES],
        )
        # Shown as the model in its answers. Not a name that exists on the Hub: MLflow would look
        # it up for the stop strings of a request.
        mlflow_model.flavors["transformers"]["source_model_name"] = (
            f"models:/{config.registry.name}"
        )
        mlflow_model.artifact_path = None
        mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))
        (Path(path) / LEFT_BY_MLFLOW).unlink(missing_ok=True)


def serving_settings(config: RunConfig) -> dict[str, Any]:
    """Return the default arguments of `generate`, as in the evaluation."""
    return {
        "do_sample": True,
        "temperature": GREEDY_TEMPERATURE,
        "num_beams": 1,
        "max_new_tokens": config.evaluation.max_new_tokens,
    }


def log_chat_model(config: RunConfig, folder: Path) -> str:
    """Log the merged model so that `mlflow.pyfunc.load_model` answers chat messages; return its address."""
    from mlflow.models import Model

    with libraries_in_scratch():  # MLflow copies the weights there
        info = Model.log(
            None,
            name="model",
            flavor=ChatFlavor,
            flavor_name="mlflow.transformers",
            config=config,
            folder=folder,
        )
    return str(info.model_uri)


def put_back_files(
    client: MlflowClient, config: RunConfig, folder: Path, version: FoundVersion
) -> None:
    """Write the files of a logged model again, as `log_chat_model` wrote them."""
    from mlflow.models import Model

    model_id = model_id_of(version.model_uri)
    description = Model(run_id=version.run_id, model_id=model_id, model_uuid=model_id)
    with scratch_folder() as scratch:
        path = scratch / "model"
        ChatFlavor.save_model(str(path), description, config, folder)
        client.log_model_artifacts(model_id, str(path))


def _public_version(package: str) -> str:
    return importlib.metadata.version(package).split("+")[0]  # a local build's label is not on PyPI
