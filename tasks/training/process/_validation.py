"""The loss of validation rows: each counts once, whatever the batches and processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.tokens.token_file import NOT_TRAINED

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor, nn
    from transformers.trainer_utils import EvalLoopOutput


class RowValidation:
    """The part of the trainer that takes the mean over labels; goes before the class of TRL."""

    args: Any
    accelerator: Any
    scored: Tensor
    """Summed loss, and number of labels."""

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **options: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Add the loss of a batch."""
        import torch

        parent: Any = super()
        result: tuple[Tensor, Any, Any] = parent.prediction_step(model, inputs, *args, **options)
        n_labels = (inputs["labels"][..., 1:] != NOT_TRAINED).sum().to(self.scored)
        self.scored += torch.stack([result[0].to(self.scored) * n_labels, n_labels])
        return result

    def evaluation_loop(self, *args: Any, **options: Any) -> EvalLoopOutput:
        """Replace the mean over batches of transformers, which depends on their size."""
        import torch

        device = self.args.device
        wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's have no more
        self.scored = torch.zeros(2, dtype=wide, device=device)
        parent: Any = super()
        output: EvalLoopOutput = parent.evaluation_loop(*args, **options)
        loss_sum, n_labels = self.accelerator.reduce(self.scored).tolist()
        output.metrics["eval_loss"] = loss_sum / max(n_labels, 1)
        return output


def fill_up(rows: Dataset, multiple: int) -> Dataset:
    """Add rows without labels until all batches of all processes are full.

    accelerate repeats rows from the beginning instead, and each would count twice in the loss.

    Args:
        rows: Validation rows as the collator takes them.
        multiple: Rows in a batch of all processes together.

    Returns:
        The rows, then copies of the first one with no label.
    """
    from datasets import Dataset, concatenate_datasets

    n_missing = -len(rows) % multiple
    if not n_missing:
        return rows
    plain = rows.with_format(None)
    filler = {**plain[0], "labels": [NOT_TRAINED] * len(plain[0]["labels"])}
    added = Dataset.from_list([filler] * n_missing, features=plain.features)
    return concatenate_datasets([plain, added])
