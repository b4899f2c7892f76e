"""How tokens are generated: keys and values kept, rows dropped as they finish, nothing but the models' own softmax.

A model's generation_config plays no part: temperature 1, no truncation, no penalty, whatever it says.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from opd_bench.maths.divergences import log_probs
from opd_bench.models.network import Network
from opd_bench.rollouts.choices import Choice
from opd_bench.settings import Settings
from opd_bench.tokens import Origin, Written

FINISHED_SHARE = 0.25
"""Rows are dropped once this share of them has finished: dropping copies the keys and values of the others."""


class Engine(Protocol):
    """What writes: one of conf/rollout/."""

    def renew(self) -> None:
        """The student's weights are others than when it last wrote."""

    def write(
        self,
        networks: Mapping[Origin, Network],
        ids: Tensor,
        mask: Tensor,
        choice: Choice,
        uniform: Tensor,
        end: Sequence[int],
    ) -> Written:
        """Continue left-padded `ids` [B, P] until an end token or for T tokens, with `uniform` [B, T, NUMBERS].

        What it says of a token's log-probability is what the run's own models say.
        """


@dataclass(kw_only=True, eq=False)
class Own(Settings):
    """Token by token with the models as they are: responses are a function of weights, prompts and uniforms."""

    def renew(self) -> None:
        """Weights are read whenever something is written."""

    def write(
        self,
        networks: Mapping[Origin, Network],
        ids: Tensor,
        mask: Tensor,
        choice: Choice,
        uniform: Tensor,
        end: Sequence[int],
    ) -> Written:
        """In the numbers of `uniform` alone is chance."""
        return write(networks, ids, mask, choice, uniform, end)


@torch.no_grad()
def write(
    networks: Mapping[Origin, Network], ids: Tensor, mask: Tensor, choice: Choice, uniform: Tensor, end: Sequence[int]
) -> Written:
    """Continue left-padded `ids` [B, P] until an end token or for T tokens, with `uniform` [B, T, NUMBERS]."""
    rows, limit = uniform.shape[:2]
    token, origin = (torch.zeros(rows, limit, dtype=torch.long, device=ids.device) for _ in range(2))
    logp = torch.zeros(rows, limit, device=ids.device)
    length = torch.full((rows,), limit, device=ids.device)
    ended = torch.zeros(rows, dtype=torch.bool, device=ids.device)
    ends, active = torch.tensor(list(end), device=ids.device), torch.arange(rows, device=ids.device)
    with evaluating([networks[reader].model for reader in choice.readers]):
        decoders = [_Decoder(networks[reader], mask) for reader in choice.readers] if rows else []
        unread = ids
        for t in range(limit if rows else 0):
            seen = tuple(decoder.read(unread) for decoder in decoders)
            chosen = choice(seen, uniform[active, t].to(ids.device))
            token[active, t], origin[active, t], logp[active, t] = chosen.token, chosen.origin, chosen.logp.float()
            ending = torch.isin(chosen.token, ends) & ~ended[active]
            length[active[ending]] = t + 1
            ended[active[ending]] = True
            unread = chosen.token[:, None]
            finished = ended[active]
            if finished.all():
                break
            if finished.float().mean() >= FINISHED_SHARE:
                going = (~finished).nonzero()[:, 0]
                active, unread = active[going], unread[going]
                for decoder in decoders:
                    decoder.keep(going)
    width = int(length.max()) if rows else 0
    written = Written(token[:, :width], origin[:, :width], logp[:, :width], length, ~ended)
    kept = (written.token * written.mask, written.origin * written.mask, written.logp * written.mask)
    return Written(*kept, written.length, written.truncated)


class _Decoder:
    """One model, reading a batch of sequences on and on."""

    def __init__(self, network: Network, mask: Tensor):
        self.network, self.mask = network, mask
        self.cache = DynamicCache(config=network.model.config)

    def read(self, ids: Tensor) -> Tensor:  # [B, V]
        """Log-probabilities of what follows."""
        new = self.cache.get_seq_length() + ids.shape[1] - self.mask.shape[1]  # the prompt, read first, has its own
        self.mask = pad(self.mask, (0, new), value=True)
        last = self.network.hidden(ids, self.mask, self.cache)[:, -1]
        head = self.network.head
        logits = head.logits(head.project(last))
        return log_probs(logits if logits.dtype == torch.float64 else logits.float())

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)


@contextmanager
def evaluating(models: Sequence[PreTrainedModel]) -> Iterator[None]:
    """No dropout, and each model back in its own mode afterwards."""
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, modes, strict=True):
            model.train(training)


def ignored_settings(model: PreTrainedModel) -> dict[str, object]:
    """What the model's own generation_config would have changed in sampling, and does not."""
    neutral: dict[str, object] = {
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repetition_penalty": 1.0,
    }
    neutral |= {"no_repeat_ngram_size": 0, "min_new_tokens": 0, "suppress_tokens": None, "forced_eos_token_id": None}
    config = model.generation_config
    given = {name: getattr(config, name, None) for name in neutral} if config is not None else {}
    return {name: value for name, value in given.items() if value is not None and value != neutral[name]}
