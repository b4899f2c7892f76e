"""How the next token is chosen, given the next-token log-probabilities of the models that read along."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from opd_bench.tokens import Origin

NUMBERS = 2
"""Uniforms per token that a choice may use: the first chooses the token, the second whatever else there is."""


class Sampling(NamedTuple):
    """What a model's law is changed to before it writes. A policy other than p itself makes estimators biased."""

    temperature: float = 1.0
    top_p: float = 1.0  # the likeliest tokens that have this much of the mass together
    top_k: int = 0  # the k likeliest; 0: all

    def law(self, log_probs: Tensor) -> Tensor:  # [B, V]
        """log-probabilities of what is written: tempered, cut to the top k, then to the top p, and normalised."""
        found = log_probs
        if self.temperature != 1:
            found = (found / self.temperature).log_softmax(-1)
        if 0 < self.top_k < found.shape[-1]:
            least = found.topk(self.top_k, -1).values[:, -1:]
            found = found.masked_fill(found < least, -torch.inf).log_softmax(-1)
        if self.top_p < 1:
            ordered, place = found.sort(-1, descending=True)
            mass = ordered.exp().cumsum(-1) - ordered.exp()  # before each: the first is always kept
            cut = torch.zeros_like(mass, dtype=torch.bool).scatter_(-1, place, mass >= self.top_p)
            found = found.masked_fill(cut, -torch.inf).log_softmax(-1)
        return found


AS_IT_IS = Sampling()


class Chosen(NamedTuple):
    """One token per row."""

    token: Tensor  # [B]
    origin: Tensor  # [B]
    logp: Tensor  # [B] log-probability of this token under this choice


class Choice(Protocol):
    """A sampling rule."""

    @property
    def readers(self) -> tuple[Origin, ...]:
        """The models whose log-probabilities it needs, in the order in which it gets them."""

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """Choose from [B, V] each with uniforms [B, NUMBERS]."""


@dataclass(frozen=True)
class Alone:
    """One model writes: y ~ p, at T = 1 with nothing cut off."""

    writer: Origin

    @property
    def readers(self) -> tuple[Origin, ...]:
        """The writer."""
        return (self.writer,)

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """By inverse CDF."""
        token = sampled(log_probs[0], uniform[:, 0])
        return Chosen(token, torch.full_like(token, self.writer), _at(log_probs[0], token))


@dataclass(frozen=True)
class Greedy(Alone):
    """The likeliest token."""

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """Ties go to the lower id."""
        token = log_probs[0].argmax(-1)
        return Chosen(token, torch.full_like(token, self.writer), torch.zeros_like(uniform[:, 0]))


@dataclass(frozen=True)
class Corrected:
    """y ~ p while y is among the teacher's k likeliest; otherwise the teacher writes y ~ q."""

    k: int
    readers = (Origin.STUDENT, Origin.TEACHER)

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """`logp` is that of the token however it came about: 1[y ∈ K] p(y) + (1 − p(K)) q(y)."""
        student, teacher = log_probs
        support = teacher.topk(min(self.k, teacher.shape[-1]), -1).indices
        inside = torch.zeros_like(student, dtype=torch.bool).scatter_(-1, support, True)
        proposal = sampled(student, uniform[:, 0])
        kept = inside.gather(-1, proposal[:, None])[:, 0]
        token = torch.where(kept, proposal, sampled(teacher, uniform[:, 1]))
        rejected = (student.exp() * ~inside).sum(-1)
        own = torch.where(inside.gather(-1, token[:, None])[:, 0], _at(student, token).exp(), 0)
        logp = (own + rejected * _at(teacher, token).exp()).log()
        return Chosen(token, torch.where(kept, Origin.STUDENT, Origin.TEACHER), logp)


@dataclass(frozen=True)
class Mixed:
    """y ~ αq + (1 − α)p: the teacher writes with probability α, else the student."""

    alpha: float
    readers = (Origin.STUDENT, Origin.TEACHER)

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """`logp` is the mixture's."""
        student, teacher = log_probs
        taught = uniform[:, 1] < self.alpha
        token = sampled(torch.where(taught[:, None], teacher, student), uniform[:, 0])
        mixture = (1 - self.alpha) * _at(student, token).exp() + self.alpha * _at(teacher, token).exp()
        return Chosen(token, torch.where(taught, Origin.TEACHER, Origin.STUDENT), mixture.log())


@dataclass(frozen=True)
class Bent:
    """A choice among laws that are not the models' own: `sampling` says what becomes of whose."""

    choice: Choice
    sampling: Mapping[Origin, Sampling]

    @property
    def readers(self) -> tuple[Origin, ...]:
        """The choice's."""
        return self.choice.readers

    def __call__(self, log_probs: tuple[Tensor, ...], uniform: Tensor) -> Chosen:
        """`logp` is that of the token under the laws as they are bent."""
        pairs = zip(self.readers, log_probs, strict=True)
        return self.choice(tuple(self.sampling.get(who, AS_IT_IS).law(law) for who, law in pairs), uniform)


def sampled(log_probs: Tensor, uniform: Tensor) -> Tensor:  # [B]
    """The first token at which the cumulative probability passes u: common uniforms give coupled rollouts.

    In float64, so that u < 1 never reaches the end and no token of probability 0 is chosen.
    """
    cumulative = log_probs.double().exp().cumsum(-1)
    mark = uniform.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, mark, right=True)[:, 0].clamp_max(log_probs.shape[-1] - 1)


def _at(log_probs: Tensor, token: Tensor) -> Tensor:
    return log_probs.gather(-1, token[:, None])[:, 0]
