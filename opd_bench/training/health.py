"""Signs of a healthy run, of tokens and of whole responses: what no method may choose, so what all are compared by."""

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from opd_bench.tokens import Origin, Rollout, TokenBatch

OVERLAP = 8
"""How many of each model's likeliest tokens are compared."""


def of_tokens(tokens: TokenBatch) -> Mapping[str, Tensor]:
    """The exact reverse KL, both entropies, r, and how much of the two models' top tokens is common."""
    mine, theirs = (tokens.topk(OVERLAP, model).ids for model in ("student", "teacher"))
    common = (mine[:, :, None] == theirs[:, None, :]).any(-1)
    return {
        "reverse_kl": tokens.reverse_kl,
        "student_entropy": tokens.student_entropy,
        "teacher_entropy": tokens.teacher_entropy,
        "log_ratio": tokens.log_ratio,
        "overlap": common.double().mean(-1),
    }


def of_sequences(rollout: Rollout) -> dict[str, float]:
    """Tokens by writer, mean length, the share cut off, and how well the responses compress."""
    written = rollout.origin[rollout.response]
    return {
        **{f"tokens_{writer.name.lower()}": float((written == writer).sum()) for writer in Origin},
        "length": float(rollout.response.sum(-1).double().mean()),
        "truncated": float(rollout.truncated.double().mean()),
        "repetition": repetition(rollout.ids[rollout.response]),
    }


def repetition(ids: Tensor) -> float:
    """1 − compressed size / size of the ids as bytes."""
    raw = ids.to(torch.int32).cpu().numpy().tobytes()
    return 1 - len(zlib.compress(raw)) / len(raw) if raw else 0.0
