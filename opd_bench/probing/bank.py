"""Rollout sets with the teacher's hidden states, drawn once and kept in files: one set in memory at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from opd_bench.maths.divergences import log_probs
from opd_bench.models.network import Network
from opd_bench.probing.subject import Subject
from opd_bench.rollouts.choices import sampled
from opd_bench.rollouts.source import Source
from opd_bench.scoring import ScoredBatch
from opd_bench.tokens import Origin, Rollout


class RolloutSet(NamedTuple):
    """One set. The scored tokens come in D versions: as written, and redrawn at the same prefixes.

    A redraw replaces all tokens of the student at once, each given the prefix as it was written.
    """

    ids: Tensor  # [B, T + 1]
    mask: Tensor  # [B, T + 1] True on prompt and response
    response: Tensor  # [B, T] True where the next token is scored
    origin: Tensor  # [B, T]
    teacher: Tensor  # [B, T, H'] hidden states
    token: Tensor  # [D, B, T]
    behaviour_logp: Tensor  # [D, B, T]
    uniform: Tensor  # [D, B, T]

    @property
    def versions(self) -> int:
        """D."""
        return len(self.token)

    def batch(self, version: int, student: Tensor, rows: slice = slice(None)) -> ScoredBatch:
        """Some rows of one version, with the student's hidden states."""
        fixed = (self.teacher[rows], self.token[version, rows], self.response[rows], self.origin[rows])
        return ScoredBatch(student, *fixed, self.behaviour_logp[version, rows], self.uniform[version, rows])

    def states(self, network: Network, rows: slice = slice(None)) -> Tensor:  # [B, T, H]
        """Hidden states where tokens are scored."""
        return network.hidden(self.ids[rows], self.mask[rows])[:, :-1]


class Bank:
    """`sets` rollout sets of one source. What is in `folder` already is not drawn again."""

    def __init__(self, folder: Path, subject: Subject, source: Source, sets: int, redraws: int):
        self.folder, self.subject, self.source, self.sets, self.redraws = folder, subject, source, sets, redraws

    def __iter__(self) -> Iterator[RolloutSet]:
        return (self[number] for number in range(self.sets))

    def __getitem__(self, number: int) -> RolloutSet:
        path = self.folder / f"set-{number:03d}.safetensors"
        try:
            kept = load_file(path)
            found = RolloutSet(**kept)
        except (OSError, SafetensorError, TypeError):  # not there, or not whole
            found = drawn(self.subject, self.source, number, self.redraws)
            _save(found, path)
        return RolloutSet(*(value.to(self.subject.device) for value in found))


@torch.no_grad()
def drawn(subject: Subject, source: Source, number: int, redraws: int) -> RolloutSet:
    """A set with its own randomness; prompts are the same in all."""
    draws = subject.draws(number)
    rollout = source.draw(subject.writers, subject.prompts, subject.progress, draws)
    uniform = draws.of_tokens("estimator", rollout, subject.plan.response_limit)[:, 1:]
    result = RolloutSet(
        ids=rollout.ids,
        mask=rollout.mask,
        response=rollout.response[:, 1:],
        origin=rollout.origin[:, 1:],
        teacher=_teacher(subject, rollout),
        token=rollout.ids[None, :, 1:],
        behaviour_logp=rollout.behaviour_logp[None, :, 1:],
        uniform=uniform[None],
    )
    return (
        _redrawn(subject, result, draws.at("redraw", rollout.row.tolist(), uniform.shape[-1], redraws, 2))
        if redraws
        else result
    )


def _teacher(subject: Subject, rollout: Rollout) -> Tensor:
    parts = [subject.teacher.hidden(rollout.ids[rows], rollout.mask[rows]) for rows in subject.pieces(len(rollout.ids))]
    return torch.cat(parts)[:, :-1]


def _redrawn(subject: Subject, one: RolloutSet, numbers: Tensor) -> RolloutSet:
    """`numbers` [B, T, M, 2]: one for the token, one for the estimator's coins."""
    numbers = numbers.to(subject.device).permute(2, 0, 1, 3)
    token, logp = (value.expand(len(numbers), -1, -1).clone() for value in (one.token, one.behaviour_logp))
    for rows in subject.pieces(len(one.ids)):
        own = one.response[rows] & (one.origin[rows] == Origin.STUDENT)
        states = one.states(subject.student, rows)[own]
        fresh, logps = _tokens(subject, states, numbers[:, rows, :, 0][:, own])
        token[:, rows][:, own], logp[:, rows][:, own] = fresh, logps
    return one._replace(
        token=torch.cat([one.token, token]),
        behaviour_logp=torch.cat([one.behaviour_logp, logp]),
        uniform=torch.cat([one.uniform, numbers[..., 1]]),
    )


def _tokens(subject: Subject, states: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """M tokens y ~ p at each of N states, and log p(y): [M, N] each, from `numbers` [M, N]."""
    head, found = subject.student.head, []
    for part, number in zip(states.split(subject.chunk), numbers.split(subject.chunk, -1), strict=True):
        law = log_probs(head.logits(head.project(part)).float())
        token = torch.stack([sampled(law, one) for one in number])
        found.append((token, law.gather(-1, token.T).T))
    tokens, logps = zip(*found, strict=True)
    return torch.cat(tokens, -1), torch.cat(logps, -1)


def _save(one: RolloutSet, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    save_file({name: value.contiguous().cpu() for name, value in one._asdict().items()}, unfinished)
    unfinished.replace(path)
