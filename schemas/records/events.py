"""Names of the events that runs send to Prefect, for automations and other programs."""

from __future__ import annotations

from enum import StrEnum


class Happening(StrEnum):
    """Each is about resource sft-flow.model.<registered name>; `reason` explains it."""

    DATA_REJECTED = "sft-flow.data.rejected"
    MODEL_PROMOTED = "sft-flow.model.promoted"
    MODEL_REFUSED = "sft-flow.model.refused"
    RETRAIN_SKIPPED = "sft-flow.retrain.skipped"


RESOURCE_PREFIX = "sft-flow.model."
REJECTED_STATE = "Rejected"
"""State of a flow run whose rows the data gate rejected; of type FAILED."""
