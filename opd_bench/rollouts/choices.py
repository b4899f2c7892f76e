"""How the next token is chosen, given what the models that read along say of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from opd_bench.maths.divergences import log_probs
from opd_bench.tokens import Origin

NUMBERS = 2
"""Uniforms per token that a choice may use: the first chooses the token, the second whatever else there is."""


BLOCK = 256
"""How many tokens of a large vocabulary are passed over at once on the way to the one that is drawn."""
BELOW_ONE = 1 - 2.0**-53


class Law:
    """What a model says of the next token: its logits [B, V], of which no more is made than a choice asks for."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    @cached_property
    def probs(self) -> Tensor:  # [B, V]
        """Probabilities."""
        return self.logits.softmax(-1)

    def of(self, token: Tensor) -> Tensor:  # [B]
        """The probability of one token in each row."""
        return self.probs.gather(-1, token[:, None])[:, 0]

    def drawn(self, uniform: Tensor) -> Tensor:  # [B]
        """One token a row, by inverse CDF."""
        return _drawn(self.probs, uniform)


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
        """The models whose laws it needs, in the order in which it gets them."""

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """Choose from the law of each with uniforms [B, NUMBERS]."""


@dataclass(frozen=True)
class Alone:
    """One model writes: y ~ p, at T = 1 with nothing cut off."""

    writer: Origin

    @property
    def readers(self) -> tuple[Origin, ...]:
        """The writer."""
        return (self.writer,)

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """By inverse CDF."""
        token = laws[0].drawn(uniform[:, 0])
        return Chosen(token, torch.full_like(token, self.writer), laws[0].of(token).log())


@dataclass(frozen=True)
class Greedy(Alone):
    """The likeliest token."""

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """Ties go to the lower id."""
        token = laws[0].logits.argmax(-1)
        return Chosen(token, torch.full_like(token, self.writer), torch.zeros_like(uniform[:, 0]))


@dataclass(frozen=True)
class Corrected:
    """y ~ p while y is among the teacher's k likeliest; otherwise the teacher writes y ~ q."""

    k: int
    readers = (Origin.STUDENT, Origin.TEACHER)

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """`logp` is that of the token however it came about: 1[y ∈ K] p(y) + (1 − p(K)) q(y)."""
        student, teacher = laws
        support = teacher.logits.topk(min(self.k, teacher.logits.shape[-1]), -1).indices
        proposal = student.drawn(uniform[:, 0])
        kept = (support == proposal[:, None]).any(-1)
        token = torch.where(kept, proposal, teacher.drawn(uniform[:, 1]))
        rejected = student.probs.scatter(-1, support, 0).sum(-1)
        own = torch.where((support == token[:, None]).any(-1), student.of(token), 0)
        logp = (own + rejected * teacher.of(token)).log()
        return Chosen(token, torch.where(kept, Origin.STUDENT, Origin.TEACHER), logp)


@dataclass(frozen=True)
class Mixed:
    """y ~ αq + (1 − α)p: the teacher writes with probability α, else the student."""

    alpha: float
    readers = (Origin.STUDENT, Origin.TEACHER)

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """`logp` is the mixture's."""
        student, teacher = laws
        taught = uniform[:, 1] < self.alpha
        token = _drawn(torch.where(taught[:, None], teacher.probs, student.probs), uniform[:, 0])
        mixture = (1 - self.alpha) * student.of(token) + self.alpha * teacher.of(token)
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

    def __call__(self, laws: tuple[Law, ...], uniform: Tensor) -> Chosen:
        """`logp` is that of the token under the laws as they are bent."""
        return self.choice(tuple(map(self._bent, self.readers, laws)), uniform)

    def _bent(self, who: Origin, law: Law) -> Law:
        sampling = self.sampling.get(who, AS_IT_IS)
        return law if sampling == AS_IT_IS else Law(sampling.law(log_probs(law.logits)))


def sampled(log_probs: Tensor, uniform: Tensor) -> Tensor:  # [B]
    """The first token at which the cumulative probability passes u: common uniforms give coupled rollouts.

    Sums are passed in float64, so that u < 1 never reaches the end and no token of probability 0 is chosen.
    """
    return _drawn(log_probs.exp(), uniform)


def _drawn(probs: Tensor, uniform: Tensor) -> Tensor:  # [B]
    """First the block of tokens, then the token within it: a large vocabulary is read once, and in its own type."""
    size, share = probs.shape[-1], uniform.double()[:, None]
    if size <= 4 * BLOCK:
        return _passed(*_marked(probs, share))[:, 0]
    blocks = size // BLOCK
    mass = probs[:, : blocks * BLOCK].unflatten(-1, (blocks, BLOCK)).sum(-1)
    mass = torch.cat([mass, probs[:, blocks * BLOCK :].sum(-1, keepdim=True)], -1)
    reached, mark = _marked(mass, share)
    block = _passed(reached, mark)
    rest = (1 - (reached.gather(-1, block) - mark) / mass.gather(-1, block)).clamp(0, BELOW_ONE)
    place = block * BLOCK + torch.arange(BLOCK, device=probs.device)
    inside = probs.gather(-1, place.clamp_max(size - 1)) * (place < size)
    return (block * BLOCK + _passed(*_marked(inside, rest))).clamp_max(size - 1)[:, 0]


def _marked(mass: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:  # [B, n], [B, 1]
    """The cumulative mass, in float64, and that share of all of it."""
    reached = mass.cumsum(-1, dtype=torch.float64)
    return reached, share * reached[:, -1:]


def _passed(reached: Tensor, mark: Tensor) -> Tensor:  # [B, 1]
    """The first cell at which the cumulative mass passes the mark."""
    return torch.searchsorted(reached, mark, right=True).clamp_max(reached.shape[-1] - 1)
