"""Every figure of every step: to TensorBoard as it comes, and kept for the record."""

from typing import Any

import lightning.pytorch as pl
import numpy as np

from opd_bench.training.module import Distillation


class Series(pl.Callback):
    """One row a step. It is part of the checkpoint, so a resumed run has the rows from before."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Keep and log what the module and the callbacks before this one have found."""
        assert isinstance(module, Distillation)
        self.rows.append(dict(module.metrics))
        for logger in trainer.loggers:
            logger.log_metrics(module.metrics, step=trainer.global_step)

    def of(self, name: str) -> list[float]:
        """The values of one figure, from the steps that have it."""
        return [row[name] for row in self.rows if name in row]

    def columns(self) -> dict[str, list[float | None]]:
        """Every figure, one value a step."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name) for row in self.rows] for name in names}

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As saved."""
        self.rows = list(state_dict["rows"])


SPIKE = 10
"""A step is a spike if its gradient norm is over this many times the median of the steps so far."""


def norms(values: list[float]) -> dict[str, float]:
    """Median, 99th percentile, largest and number of spikes of the gradient norms before clipping."""
    if not values:
        return {}
    spikes = sum(value > SPIKE * float(np.median(values[:step])) for step, value in enumerate(values) if step)
    median, high = np.percentile(values, [50, 99])
    return {"median": float(median), "p99": float(high), "max": max(values), "spikes": float(spikes)}


def mean(values: list[float]) -> float | None:
    """Of a list that may be empty."""
    return float(np.mean(values)) if values else None
