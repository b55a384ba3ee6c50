"""Format the results of `measure_train.py`, with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TARGETS = {
    "full_vs_stock": ("at least", 4.0),
    "full_vs_fixed": ("at least", 1.6),
    "lora_vs_fixed": ("at least", 2.5),
    "loss_gap_full": ("at most", 0.02),
}
LABELS = {
    "stock": "(1) tutorial script, defaults",
    "fixed": "(2) the same, bf16 and checkpointing off",
    "full": "(3) ours, full",
    "lora": "(4) ours, LoRA",
    "command": "(5) trl sft",
}


@dataclass(frozen=True)
class Work:
    """Weights that a token is multiplied with."""

    n_body: int
    """All but the head's; embeddings that are no head are looked up, not multiplied."""
    n_head: int
    n_adapter: int = 0
    """0 when every weight is trained."""

    def flop_per_computed_token(self, label_fraction: float) -> float:
        """Count useful floating-point operations: 2 a weight and pass.

        Forward, gradient of the input, gradient of the weights: 6 N. Weights that are frozen under
        adapters have no gradient: 4 N + 6 adapter weights. The head counts only where there is a
        label; recomputation, attention scores and padding are no use and do not count.
        Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.

        Args:
            label_fraction: Share of computed positions that have a label.

        Returns:
            Operations per token that goes through the model.
        """
        passes = 4 if self.n_adapter else 6
        return passes * (self.n_body + label_fraction * self.n_head) + 6 * self.n_adapter


def gemm_share(run: dict[str, Any], work: Work, peak_flop_per_second: float) -> float:
    """Relate useful work to the peak of a matrix product.

    Args:
        run: `tokens_per_second` of rows, `computed_per_token` and `label_fraction`.
        work: The weights.
        peak_flop_per_second: Measured in the same run.

    Returns:
        The share; padding is taken out, a shared prefix counts once.
    """
    useful_per_token = min(1.0, run["computed_per_token"])
    labels = run["label_fraction"] * run["computed_per_token"] / useful_per_token
    flop = run["tokens_per_second"] * useful_per_token * work.flop_per_computed_token(labels)
    return float(flop / peak_flop_per_second)


def summary(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare the runs.

    Args:
        runs: `tokens_per_second` and `gemm_share` by name; `loss` of fixed and full.

    Returns:
        The promised ratios, and the runs with their speed as a multiple of fixed's.
    """
    speed = {name: run["tokens_per_second"] for name, run in runs.items()}
    return {
        "full_vs_stock": speed["full"] / speed["stock"],
        "full_vs_fixed": speed["full"] / speed["fixed"],
        "lora_vs_fixed": speed["lora"] / speed["fixed"],
        "loss_gap_full": runs["full"]["loss"] - runs["fixed"]["loss"],
        "gemm_share_full": runs["full"]["gemm_share"],
        "gemm_share_lora": runs["lora"]["gemm_share"],
        "runs": {
            name: {**runs[name], "ratio_to_fixed": speed[name] / speed["fixed"]}
            for name in LABELS
            if name in runs
        },
    }


def table(results: dict[str, Any]) -> str:
    """Format the results of `summary`: one line per run, then the values with a target."""
    lines = [f"{'':42} {'tokens/s':>9} {'x (2)':>6} {'of GEMM':>8} {'computed':>9} {'loss':>7}"]
    for name, run in results["runs"].items():
        loss = f"{run['loss']:7.3f}" if "loss" in run else ""
        lines.append(
            f"{LABELS[name]:42} {run['tokens_per_second']:9.1f} {run['ratio_to_fixed']:6.2f} "
            f"{run['gemm_share']:8.0%} {run['computed_per_token']:9.2f} {loss:>7}"
        )
    lines.append("computed: tokens through the model for each token of a row")
    for name, (word, limit) in TARGETS.items():
        is_met = results[name] >= limit if word == "at least" else results[name] <= limit
        mark = "met" if is_met else "MISSED"
        lines.append(f"{name:42} {results[name]:9.2f}   {word} {limit:g}: {mark}")
    return "\n".join(lines) + "\n"
