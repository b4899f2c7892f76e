"""Signs of a healthy run, of tokens and of whole responses: what no method may choose, so what all are compared by."""

import warnings
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from opd_bench.scoring import Gather
from opd_bench.tokens import Origin, Rollout, TokenBatch

SAMPLER_GAP = 0.1
"""Nats by which a token's log-probability may differ between writing, with a cache, and scoring."""
OVERLAP = 8
"""How many of each model's likeliest tokens are compared."""


class StoppedError(RuntimeError):
    """A run that must not go on, and what that is in a record."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status


def finite(name: str, value: Tensor, step: int) -> None:
    """It is, or the run ends."""
    if not torch.isfinite(value):
        raise StoppedError("nan" if value.isnan() else "diverged", f"{name} is {float(value)} at step {step}")


def check_sampler(gap: float) -> None:
    """Warn if tokens that were drawn by the student's own law come from another one than is scored."""
    if not gap <= SAMPLER_GAP:
        warnings.warn(
            f"the student's tokens were drawn by a law that is {gap:.3g} nats from the one that is scored, on average: "
            "every estimator is biased by that. Half precision makes hundredths; more is a fault of the model's cache "
            "or attention: try student.attention=eager",
            stacklevel=2,
        )


def of_tokens(tokens: TokenBatch) -> Mapping[str, Tensor]:
    """The exact reverse KL, both entropies, r, how much of the two models' top tokens is common, and the sampler's gap.

    That is |log b − log p| where the student wrote: 0 if b, the law that its token came from, is p as it is here.
    """
    mine, theirs = (tokens.topk(OVERLAP, model).ids for model in ("student", "teacher"))
    common = (mine[:, :, None] == theirs[:, None, :]).any(-1)
    return {
        "reverse_kl": tokens.reverse_kl,
        "student_entropy": tokens.student_entropy,
        "teacher_entropy": tokens.teacher_entropy,
        "log_ratio": tokens.log_ratio,
        "overlap": common.double().mean(-1),
        "sampler_gap": _own(tokens) * (tokens.behaviour_logp - tokens.student_logp.detach()).abs(),
    }


def _own(tokens: TokenBatch) -> Tensor:
    return tokens.origin == Origin.STUDENT


def of_sequences(rollout: Rollout, gather: Gather) -> dict[str, float]:
    """Tokens read and by writer, mean length, share cut off, and how responses compress, of the global batch."""
    row = rollout.row[:, None].expand_as(rollout.response)
    columns = (rollout.ids, rollout.origin, row)
    tokens, written, rows = (gather(column[rollout.response])[0] for column in columns)
    lengths, truncated = (gather(column)[0].double() for column in (rollout.response.sum(-1), rollout.truncated))
    return {
        **{f"tokens_{writer.name.lower()}": float((written == writer).sum()) for writer in Origin},
        "tokens_read": float(gather(rollout.mask.sum(-1))[0].sum()),
        "length": float(lengths.mean()),
        "truncated": float(truncated.mean()),
        "repetition": repetition(tokens[rows.argsort(stable=True)]),
    }


def repetition(ids: Tensor) -> float:
    """1 − compressed size / size of the ids as bytes."""
    raw = ids.to(torch.int32).cpu().numpy().tobytes()
    return 1 - len(zlib.compress(raw)) / len(raw) if raw else 0.0
