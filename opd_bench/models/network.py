"""A causal language model as this project sees it: a trunk that reads tokens, a head that scores the next one."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

Result = TypeVar("Result")


class Head(NamedTuple):
    """logits = scale · (W h + b). Without a weight the hidden states are the logits themselves."""

    weight: Tensor | None = None  # [V, H]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0

    def project(self, hidden: Tensor) -> Tensor:  # [N, V]
        """W h + b."""
        return hidden if self.weight is None else F.linear(hidden, self.weight, self.bias)

    def logits(self, projected: Tensor) -> Tensor:  # [N, V]
        """What the model says, from what `project` returned."""
        return projected if self.scale == 1 else projected * self.scale


class Network(NamedTuple):
    """A transformers model and what its logits are multiplied by: 3 makes it the same model at a third of T."""

    model: PreTrainedModel
    logit_scale: float = 1.0

    @property
    def head(self) -> Head:
        """The output layer, tied or not."""
        output: Any = self.model.get_output_embeddings()
        return Head(output.weight, output.bias, self.logit_scale)

    @property
    def vocabulary(self) -> int:
        """How many logits there are: the head's width, not the tokenizer's length."""
        return len(self.model.get_output_embeddings().weight)

    def hidden(self, ids: Tensor, mask: Tensor, cache: Any = None) -> Tensor:  # [B, T, H]
        """Hidden states after the last layer of `ids` [B, T]; `mask` [B, cached + T] is False on padding.

        Positions count the tokens that the mask keeps, so left padding moves nothing.
        """
        position = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        output = self.model.base_model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=position,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def in_head(self, function: Callable[[Tensor], Result], hidden: Tensor) -> Result:
        """`function` of hidden states, run as the output layer's own forward.

        Where the model's parameters are sharded, this is where the layer's weight is whole, forward and backward.
        """
        layer: Any = self.model.get_output_embeddings()
        layer.forward = function
        try:
            result: Result = layer(hidden)
        finally:
            del layer.forward  # the class's own again
        return result

    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:  # [B, T, V]
        """All logits at once: for small inputs."""
        return self.head.logits(self.head.project(self.hidden(ids, mask)))


def frozen(model: PreTrainedModel) -> PreTrainedModel:
    """The model in evaluation mode and without gradients."""
    model.eval()
    model.requires_grad_(False)
    return model


def right_aligned(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows of ids as one left-padded tensor [B, T] and its mask."""
    ids, mask = (
        pad_sequence(group, batch_first=True, padding_side="left")
        for group in (rows, [torch.ones_like(row, dtype=torch.bool) for row in rows])
    )
    return ids, mask
