"""Targets between student and teacher: geometric bridges bend logits, arithmetic ones bound the log-ratio."""

import math

import torch
from torch import Tensor


def geometric(student: Tensor, teacher: Tensor, beta: float) -> Tensor:
    """log Q, Q ∝ q · sg[p]^β. Its fixed point under p → Q is q^{1/(1−β)}, not q. Logits and log-probs serve alike."""
    return (teacher + beta * student.detach()).log_softmax(-1)


def arithmetic(first: Tensor, second: Tensor, share: float) -> Tensor:
    """log(share · a + (1 − share) · b) from log a and log b, with gradient through both."""
    if share in (0, 1):
        return first if share else second
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


def blended(student: Tensor, teacher: Tensor, share: float) -> Tensor:
    """log softmax((1 − share) sg[z_p] + share z_q): TAID's path from the student (0) to the teacher (1)."""
    return ((1 - share) * student.detach() + share * teacher).log_softmax(-1)
