"""The sources, one class each: who writes the tokens."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from opd_bench.maths.schedules import cosine
from opd_bench.models.network import right_aligned
from opd_bench.rollouts.choices import NUMBERS, Alone, Choice, Corrected, Mixed
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Policies, rollout
from opd_bench.settings import Count, Settings, Share
from opd_bench.tokens import Origin, PromptBatch, Rollout, Written


@dataclass(kw_only=True, eq=False)
class Student(Settings):
    """The student writes everything, at T = 1 with nothing cut off."""

    origins: ClassVar = (Origin.STUDENT,)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """y ~ p."""
        return _written_by(Alone(Origin.STUDENT), policies, prompts, draws)


@dataclass(kw_only=True, eq=False)
class Teacher(Settings):
    """The teacher's answers, sampled once at T = 1 and kept."""

    origins: ClassVar = (Origin.TEACHER,)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """y ~ q, the same each time that a prompt comes round."""
        return _rollout(prompts, policies.answers(prompts, Origin.TEACHER), draws)


@dataclass(kw_only=True, eq=False)
class Data(Settings):
    """Reference answers."""

    origins: ClassVar = (Origin.DATA,)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """As they came with the prompts."""
        return _rollout(prompts, policies.answers(prompts, Origin.DATA), draws)


@dataclass(kw_only=True, eq=False)
class Coin(Settings):
    """GKD's λ: one coin per batch, the student's tokens with probability `student_share`, else the other's."""

    student_share: Share
    otherwise: Literal["teacher", "data"]

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The student and the other writer."""
        return Origin.STUDENT, Origin[self.otherwise.upper()]

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """One coin for the global batch, so that all processes do the same."""
        if draws.once("coin") < self.student_share:
            return _written_by(Alone(Origin.STUDENT), policies, prompts, draws)
        return _rollout(prompts, policies.answers(prompts, self.origins[1]), draws)


@dataclass(kw_only=True, eq=False)
class TeacherPrefix(Settings):
    """TrOPD's guidance: extra samples begin with the head of a teacher's answer and the student goes on from there.

    The head is ⌊α L⌋ tokens of an answer of L (ratio), or min(L, ⌊α L_max⌋) (cap), α = (1 + cos π·progress)/2; the
    teacher's end token is dropped and at least one token is left to the student.
    """

    length: Literal["ratio", "cap"]
    extra: Share  # samples with a prefix, as a share of the ordinary rollouts, in addition to them

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)

    @staticmethod
    def share(progress: float) -> float:
        """α at this progress."""
        return cosine(1.0, 0.0, progress)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """First the ordinary rollouts, the same as the plain student's, then guided ones of some prompts."""
        rows = draws.rows(len(prompts.ids))
        own = _write(Alone(Origin.STUDENT), policies, prompts, draws)
        total = len(rows) if draws.all_rows is None else draws.all_rows
        picked, extra = self._picked(rows, total, draws)
        if not extra:
            return _rollout(prompts, own, draws)
        numbers = [*rows, *(total + rows.start + number for number in picked.tolist())]
        some = PromptBatch(*(field[picked.to(prompts.ids.device)] for field in prompts))
        guided = self._guided(policies, some, progress, draws.at("guided tokens", extra, policies.limit, NUMBERS))
        ids, mask = torch.cat([prompts.ids, some.ids]), torch.cat([prompts.mask, some.mask])
        return rollout(ids, mask, _stacked(own, guided), numbers)

    def _picked(self, rows: range, total: int, draws: Draws) -> tuple[Tensor, list[int]]:
        """Which of these rows have an extra sample, and its place among all: picked however rows are shared."""
        picked = draws.at("guided", range(total)).argsort()[: round(self.extra * total)]
        mine = (picked >= rows.start) & (picked < rows.stop)
        return picked[mine] - rows.start, mine.nonzero()[:, 0].tolist()

    def _guided(self, policies: Policies, prompts: PromptBatch, progress: float, uniform: Tensor) -> Written:
        taught = policies.answers(prompts, Origin.TEACHER)
        head = self.head(taught.length - (~taught.truncated).long(), policies.limit, progress)
        width = int(head.max())
        kept = torch.arange(width, device=head.device) < head[:, None]
        opening = taught._replace(token=taught.token[:, :width] * kept, length=head)
        asked = zip(prompts.ids, prompts.mask, opening.token, opening.mask, strict=True)
        ids, mask = right_aligned([torch.cat([prompt[own], taken[used]]) for prompt, own, taken, used in asked])
        rest = policies.write(ids, mask, Alone(Origin.STUDENT), uniform)
        return _continued(opening, rest, policies.limit)

    def head(self, length: Tensor, limit: int, progress: float) -> Tensor:
        """How many of the teacher's tokens are kept, of answers of these lengths without their end token."""
        share = self.share(progress)
        longest = (share * length).floor().long() if self.length == "ratio" else length.clamp_max(int(share * limit))
        return longest.clamp_max(limit - 1)


@dataclass(kw_only=True, eq=False)
class Interleaved(Settings):
    """SKD: the student proposes; a token outside the teacher's top k is replaced by one of the teacher's.

    The paper proposes blocks of 5 and drops what follows a rejection: the tokens have the same law, one by one.
    """

    k: Count

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """`behaviour_logp` is that of the token however it came about."""
        return _written_by(Corrected(self.k), policies, prompts, draws)


@dataclass(kw_only=True, eq=False)
class Mixture(Settings):
    """MiniLLM: every token from αq + (1 − α)p; `behaviour_logp` is that mixture's."""

    alpha: Share

    origins: ClassVar = (Origin.STUDENT, Origin.TEACHER)

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        """A token's origin is the model that the mixture's coin fell on."""
        return _written_by(Mixed(self.alpha), policies, prompts, draws)


def _written_by(choice: Choice, policies: Policies, prompts: PromptBatch, draws: Draws) -> Rollout:
    return _rollout(prompts, _write(choice, policies, prompts, draws), draws)


def _rollout(prompts: PromptBatch, written: Written, draws: Draws) -> Rollout:
    """One response to each of this process's prompts."""
    return rollout(prompts.ids, prompts.mask, written, draws.rows(len(prompts.ids)))


def _write(choice: Choice, policies: Policies, prompts: PromptBatch, draws: Draws) -> Written:
    """With the same uniforms whatever the choice."""
    uniform = draws.uniform("tokens", len(prompts.ids), policies.limit, NUMBERS)
    return policies.write(prompts.ids, prompts.mask, choice, uniform)


def _continued(head: Written, rest: Written, limit: int) -> Written:
    """Row by row, the head's tokens and then the rest's, `limit` together at most."""
    length = (head.length + rest.length).clamp_max(limit)
    width = int(length.max())
    place = torch.arange(width, device=length.device).expand(len(length), -1)
    first = place < head.length[:, None]
    later = (place - head.length[:, None]).clamp(0, rest.token.shape[-1] - 1)

    def joined(one: Tensor, other: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(one, (0, max(0, width - one.shape[-1])))[:, :width]
        return torch.where(first, padded, other.gather(-1, later))

    cut = head.length + rest.length > limit
    return Written(
        token=joined(head.token, rest.token),
        origin=joined(torch.full_like(head.token, Origin.TEACHER), rest.origin),
        logp=joined(head.logp, rest.logp),
        length=length,
        truncated=rest.truncated | cut,
    )


def _stacked(one: Written, other: Written) -> Written:
    """The rows of both."""
    width = max(one.token.shape[-1], other.token.shape[-1])
    fields = []
    for pair in zip(one, other, strict=True):
        wide = [x if x.dim() == 1 else torch.nn.functional.pad(x, (0, width - x.shape[-1])) for x in pair]
        fields.append(torch.cat(wide))
    return Written(*fields)
