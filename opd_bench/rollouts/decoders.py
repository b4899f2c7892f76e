"""A model that reads a batch of sequences on and on, token by token: with transformers' own forward and its cache."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from opd_bench.models.network import Head, Network

WORTH_PACKING = 32
"""Tokens after which a head that is laid out anew has paid for that: 6 to 17 at V from 32k to 152k, as measured."""
LARGE_HEAD = 2**20
"""Numbers in a head below which laying it out anew gains nothing."""


class Decoder(Protocol):
    """One model, reading."""

    def read(self, ids: Tensor) -> Tensor:  # [B, V]
        """Logits of what follows: first the prompts, then one token a row."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""


class Cached:
    """Any model: its own forward, keys and values kept in a DynamicCache."""

    def __init__(self, network: Network, mask: Tensor, limit: int):
        self.network, self.mask = network, mask
        self.cache = DynamicCache(config=network.model.config)
        self.head = Projection(network.head, limit)

    def read(self, ids: Tensor) -> Tensor:  # [B, V]
        """By a forward pass over what is new."""
        new = self.cache.get_seq_length() + ids.shape[1] - self.mask.shape[1]  # the prompt, read first, has its own
        self.mask = pad(self.mask, (0, new), value=True)
        return self.head(self.network.hidden(ids, self.mask, self.cache)[:, -1])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)


class Projection:
    """A head that is asked about a few rows, many times, while its weights stay as they are."""

    def __init__(self, head: Head, times: int):
        self.head = computed = _computed(head)
        weight = computed.weight
        packed = weight is not None and times >= WORTH_PACKING and weight.numel() >= LARGE_HEAD
        self.project: Callable[[Tensor], Tensor] = (packed_product(computed) if packed else None) or computed.project

    def __call__(self, hidden: Tensor) -> Tensor:  # [B, V]
        """Logits, in float32 or float64."""
        logits = self.head.logits(self.project(hidden))
        return logits if logits.dtype == torch.float64 else logits.float()


def compute_type(weight: Tensor) -> torch.dtype:
    """In which a product with this weight is computed: its own, or autocast's."""
    kind = weight.device.type
    autocast = torch.is_autocast_enabled(kind) and weight.dtype != torch.float64
    return torch.get_autocast_dtype(kind) if autocast else weight.dtype


def _computed(head: Head) -> Head:
    """Of the counted tokens alone, and cast once where autocast would cast at every token."""
    if head.weight is None:
        return head
    weight, bias = (None if x is None else x[: head.width] for x in (head.weight, head.bias))
    assert weight is not None
    kind = compute_type(weight)
    return head._replace(weight=weight.to(kind), bias=None if bias is None else bias.to(kind), width=None)


def packed_product(head: Head) -> Callable[[Tensor], Tensor] | None:
    """W h + b with W in the order in which oneDNN reads it, in float32 on a CPU; None where there is no such thing.

    torch.compile's own way to multiply by a constant, so the operators have no promise to stay.
    """
    weight, bias = head.weight, head.bias
    if weight is None or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        product = torch.ops.mkldnn._linear_pointwise
        product(weight.new_zeros(1, weight.shape[1]), packed, bias, "none", [], "")
    except (AttributeError, RuntimeError):  # no such operator, or none for this machine
        return None
    return lambda hidden: product(hidden, packed, bias, "none", [], "")
