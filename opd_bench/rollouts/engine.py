"""How tokens are generated: keys and values kept, rows dropped as they finish, nothing but the models' own softmax.

A model's generation_config plays no part: temperature 1, no truncation, no penalty, whatever it says.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opd_bench.models.network import Network
from opd_bench.rollouts.choices import Choice, Law
from opd_bench.rollouts.decoders import Cached, Decoder
from opd_bench.rollouts.llama import Llama, fits
from opd_bench.settings import Count, Settings
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
class Transformers(Settings):
    """Token by token with each model's own forward: a response is a function of weights, prompt and uniforms."""

    look_every: Count  # tokens between looks at which rows have finished, on a GPU, which waits for that

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
        with torch.no_grad(), evaluating([networks[reader].model for reader in choice.readers]):
            limit = uniform.shape[1]
            decoders = [self.decoder(networks[who], mask, limit) for who in choice.readers] if len(ids) else []
            every = 1 if ids.device.type == "cpu" else self.look_every
            return write(decoders, ids, choice, uniform.to(ids.device), end, every)

    def decoder(self, network: Network, mask: Tensor, limit: int) -> Decoder:
        """Who reads."""
        return Cached(network, mask, limit)


class Own(Transformers):
    """The same, without transformers' work at every token for models that are laid out as Llama is."""

    def decoder(self, network: Network, mask: Tensor, limit: int) -> Decoder:
        """By what the model is made of."""
        return Llama(network, mask, limit) if fits(network) else super().decoder(network, mask, limit)


def write(
    decoders: Sequence[Decoder], ids: Tensor, choice: Choice, uniform: Tensor, end: Sequence[int], look_every: int
) -> Written:
    """Continue `ids` [B, P] until an end token or for T tokens, with `uniform` [B, T, NUMBERS].

    Rows that have finished are fed whatever they say until the next look, and none of that is kept.
    """
    rows, limit = uniform.shape[:2]
    token, origin = (torch.zeros(rows, limit, dtype=torch.long, device=ids.device) for _ in range(2))
    logp = torch.zeros(rows, limit, device=ids.device)
    ends, active = torch.tensor(list(end), device=ids.device), torch.arange(rows, device=ids.device)
    unread, seen = ids, 0
    finished = torch.zeros(rows, dtype=torch.bool, device=ids.device)  # of the active rows
    for t in range(limit if rows else 0):
        chosen = choice(tuple(Law(decoder.read(unread)) for decoder in decoders), uniform[active, t])
        token[active, t], origin[active, t], logp[active, t] = chosen.token, chosen.origin, chosen.logp.float()
        unread = chosen.token[:, None]
        if (t + 1) % look_every:
            continue
        finished |= torch.isin(token[active, seen : t + 1], ends).any(-1)
        seen, share = t + 1, float(finished.float().mean())
        if share == 1:
            break
        if share >= FINISHED_SHARE:
            going = (~finished).nonzero()[:, 0]
            active, unread, finished = active[going], unread[going], finished[going]
            for decoder in decoders:
                decoder.keep(going)
    return _cut(token, origin, logp, ends)


def _cut(token: Tensor, origin: Tensor, logp: Tensor, ends: Tensor) -> Written:
    """Each row up to its first end token."""
    rows, limit = token.shape
    ending = torch.isin(token, ends)
    truncated = ~ending.any(-1)
    length = torch.where(truncated, limit, ending.long().argmax(-1) + 1) if limit else truncated.long() * 0
    width = int(length.max()) if rows else 0
    written = Written(token[:, :width], origin[:, :width], logp[:, :width], length, truncated)
    kept = (written.token * written.mask, written.origin * written.mask, written.logp * written.mask)
    return Written(*kept, written.length, written.truncated)


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
