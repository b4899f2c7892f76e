"""Random prefixes for tests: logits of a student and of a teacher some way from it."""

import torch
from torch import Tensor


def prefix_pair(
    batch: int, vocabulary: int = 50, gap: float = 1.0, scale: float = 2.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Student and teacher logits [batch, vocabulary] in float64; teacher = student + gap · noise."""
    generator = torch.Generator().manual_seed(seed)
    student = scale * torch.randn(batch, vocabulary, generator=generator, dtype=torch.float64)
    return student, student + gap * torch.randn(batch, vocabulary, generator=generator, dtype=torch.float64)
