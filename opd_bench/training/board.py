"""What TensorBoard shows beside the figures of every step, which are written by `Series`.

While a run goes on: histograms over tokens, and charts that put all runs side by side. At its end: a row of the HPARAMS
table and sample texts. docs/tensorboard.md has a line for every tag.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from opd_bench.reporting.record import Record
from opd_bench.training.module import Distillation, Seen
from opd_bench.training.ranks import gathered
from opd_bench.training.samples import samples
from opd_bench.training.table import final_figures, table_row

OUTCOME = ".outcome"
"""How the name of the file ends that has what is known at the end: a run that is tried again makes it anew."""

CHARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "Accuracy": {
        "the step's own rollouts": ["train/accuracy"],
        "validation, sampled": ["eval/sampled"],
        "validation, greedily": ["eval/greedy"],
        "test before and after, sampled": ["eval/test_sampled"],
    },
    "Divergence": {
        "reverse KL to the teacher": ["train/reverse_kl"],
        "log-ratio": ["train/log_ratio"],
        "entropy of the student and of the teacher": ["train/student_entropy", "train/teacher_entropy"],
        "top-8 tokens in common": ["train/overlap"],
    },
    "Gradient": {
        "norm before clipping": ["grad/norm"],
        "relative variance in the logits": ["grad/relative_variance"],
        "bias to the reverse KL's gradient": ["grad/bias_reverse_kl"],
        "cosine to the reverse and the forward KL's": ["grad/cosine_reverse_kl", "grad/cosine_forward_kl"],
        "variance of a step's gradient": ["grad/step_variance"],
        "noise scale, responses": ["grad/noise_scale"],
    },
    "Cost": {
        "tokens that the student wrote": ["train/tokens_student"],
        "tokens of the teacher and of the data": ["train/tokens_teacher", "train/tokens_data"],
        "length of a response": ["train/length"],
    },
}
"""Category, title and tags of every chart: few tags each, for every one is a line for every run."""


class Board(pl.Callback):
    """Charts at the start and histograms every so many steps; what a checkpoint knows is never in memory alone."""

    def __init__(self, every: int):
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """How the charts are laid out."""
        for writer in _writers(trainer):
            writer.add_custom_scalars(layout())

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Every process has a part of the tokens; the first one writes."""
        assert isinstance(module, Distillation)
        assert module.seen is not None
        if not self.every or (trainer.global_step - 1) % self.every:
            return
        found = of_tokens(module.seen)
        for writer in _writers(trainer):
            for tag, values in found.items():
                if len(values):
                    writer.add_histogram(tag, values, trainer.global_step)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """A run that is killed goes on from here: what was told so far has to be on disk."""
        for writer in _writers(trainer):
            writer.flush()


def of_tokens(seen: Seen) -> dict[str, Tensor]:
    """The log-ratio and the estimator's own values of every scored token of the global batch; finite ones alone."""
    parts = {"train/log_ratio": [scored.observed["log_ratio"] for scored in seen.scored]}
    parts |= {f"estimator/{name}": [scored.stats[name] for scored in seen.scored] for name in seen.scored[0].stats}
    whole = {f"{tag}_tokens": gathered(torch.cat(values))[0].float().cpu() for tag, values in parts.items()}
    return {tag: values[values.isfinite()] for tag, values in whole.items()}


def layout() -> dict[str, dict[str, list[Any]]]:
    """The charts as TensorBoard takes them: a tag is a pattern there that need not match to the end."""
    return {
        category: {title: ["Multiline", [f"{tag}$" for tag in tags]] for title, tags in charts.items()}
        for category, charts in CHARTS.items()
    }


def log_outcome(record: Record, shown: int) -> None:
    """Final figures, settings and `shown` sample texts, from a record; those of an earlier try are gone."""
    folder, step = Path(record["folder"]) / "tensorboard", record["budget"]["steps"]
    for earlier in folder.glob(f"*{OUTCOME}"):
        earlier.unlink()
    with SummaryWriter(folder, filename_suffix=OUTCOME) as writer:
        for tag, value in final_figures(record).items():
            writer.add_scalar(tag, value, step)
        for summary in table_row(record):
            writer.file_writer.add_summary(summary, step)
        if text := samples(record, shown):
            writer.add_text("eval/samples", text, step)


def _writers(trainer: pl.Trainer) -> Iterator[SummaryWriter]:
    """Of the first process alone."""
    if trainer.is_global_zero:
        yield from (logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
