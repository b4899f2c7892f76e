"""A student out of a checkpoint, in one process, whatever strategy and however many processes wrote it."""

import io
import pickle
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opd_bench.models.lora import merged
from opd_bench.models.reading import StudentReading
from opd_bench.training.checkpoints import STATE

STUDENT = "student."
"""What the student's names begin with in a checkpoint."""
TAG = "checkpoint"
"""The folder in which DeepSpeed's engine puts its shards."""


def student_of(checkpoint: Path, start: str, reading: StudentReading) -> PreTrainedModel:
    """The model `start` with the checkpoint's weights in place of its own, or inside of them, in float32 on the CPU."""
    weights = weights_of(checkpoint)
    student = reading.pupil(reading.model(start, torch.float32), seed=0)
    own = student.state_dict()
    learning = {name for name, value in student.named_parameters(remove_duplicate=False) if value.requires_grad}
    complaint = _misfit({name: value for name, value in own.items() if name in learning | weights.keys()}, weights)
    if complaint:
        raise ValueError(f"{checkpoint} does not fit the model {start!r}, which its run began from: {complaint}")
    student.load_state_dict(weights, strict=False)
    student.tie_weights()
    return merged(student)


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    """The student's weights by the names that transformers gives them, in float32."""
    read = _of_shards if (checkpoint / STATE).is_dir() else _of_one_file
    try:
        found = read(checkpoint)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} can't be read: {error}") from error
    return {name.removeprefix(STUDENT): value for name, value in found.items() if name.startswith(STUDENT)}


def _of_one_file(checkpoint: Path) -> Mapping[str, Tensor]:
    """Without reading what the optimiser has."""
    content = torch.load(checkpoint / STATE, map_location="cpu", mmap=True, weights_only=True)
    return content["state_dict"]  # type: ignore[no-any-return]


def _of_shards(checkpoint: Path) -> Mapping[str, Tensor]:
    """DeepSpeed's own converter, which tells much about it."""
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError as error:
        raise ValueError(
            "its shards were written by DeepSpeed, which is not installed: pip install deepspeed"
        ) from error
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        found: Mapping[str, Tensor] = get_fp32_state_dict_from_zero_checkpoint(str(checkpoint / STATE), tag=TAG)
    return found


def _misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What is missing, unknown or of another shape, or nothing; of names that share a tensor, one is enough."""
    given = {own[name].data_ptr() for name in weights if name in own}
    missing = [name for name in own if name not in weights and own[name].data_ptr() not in given]
    unknown = [name for name in weights if name not in own]
    shapes = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    found = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
