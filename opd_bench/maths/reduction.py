"""The one reduction: values per token in, one number out."""

from collections.abc import Iterable

import torch
from torch import Tensor


def weighted_sum(loss: Tensor, weight: Tensor | None) -> Tensor:
    """Σ w ℓ over tokens; w is detached."""
    return loss.sum() if weight is None else (weight.detach() * loss).sum()


def mean_of(numerators: Iterable[Tensor], denominator: Tensor | float) -> Tensor:
    """Σ numerators / denominator of the global batch, and 0, with a gradient, when nothing was scored."""
    total = torch.stack(list(numerators)).sum()
    denominator = torch.as_tensor(denominator, dtype=total.dtype, device=total.device)
    return total / torch.where(denominator > 0, denominator, torch.ones_like(denominator))
