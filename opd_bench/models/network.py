"""A causal language model as this project sees it: a trunk that reads tokens, a head that scores the next one."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

Result = TypeVar("Result")


class Head(NamedTuple):
    """logits = factor · cap · tanh(scale · (W h + b) / cap), of the first `width` tokens of the vocabulary.

    Without a cap there is no tanh; without a weight the hidden states are W h + b themselves.
    """

    weight: Tensor | None = None  # [V, H]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0  # the model's own
    cap: float | None = None  # the model's own
    factor: float = 1.0
    width: int | None = None  # None: all of them

    def project(self, hidden: Tensor) -> Tensor:  # [N, width]
        """W h + b."""
        if self.weight is None:
            return hidden[..., : self.width]
        return F.linear(hidden, self.weight[: self.width], None if self.bias is None else self.bias[: self.width])

    def logits(self, projected: Tensor) -> Tensor:  # [N, width]
        """What the model says, from what `project` returned."""
        logits = projected if self.scale == 1 else projected * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits if self.factor == 1 else logits * self.factor


class Network(NamedTuple):
    """A transformers model, and what is made of its logits."""

    model: PreTrainedModel
    logit_scale: float = 1.0  # 3 makes it the same model at a third of T
    width: int | None = None  # how many tokens of its vocabulary count: the first so many; None: all
    is_split: bool = True  # into trunk and head; else it is run whole, and its "hidden states" are its logits
    rests_from: torch.device | None = None  # where it is read, if its weights wait on the CPU while nobody does

    @property
    def head(self) -> Head:
        """The output layer, tied or not, and what the model's own forward does behind it."""
        if not self.is_split:
            return Head(factor=self.logit_scale, width=self.width)
        output: Any = self.model.get_output_embeddings()
        weight, bias = output.weight, getattr(output, "bias", None)
        if self.rests_from is not None:
            weight, bias = weight.to(self.rests_from), None if bias is None else bias.to(self.rests_from)
        return Head(weight, bias, *_own_scale(self.model), factor=self.logit_scale, width=self.width)

    @property
    def vocabulary(self) -> int:
        """How many logits there are."""
        return self.width or rows_of_head(self.model)

    @property
    def device(self) -> torch.device:
        """Where it is read."""
        return self.rests_from or next(self.model.parameters()).device

    def move(self, device: torch.device) -> None:
        """To where it is needed; a quantised model stays where it was read to, and a resting one where it waits."""
        if not getattr(self.model, "is_quantized", False) and self.rests_from is None:
            self.model.to(device)  # type: ignore[arg-type]

    @contextmanager
    def present(self) -> Iterator[None]:
        """Where it is read, and back to rest."""
        model: Any = self.model
        if self.rests_from is not None:
            model.to(self.rests_from)
        try:
            yield
        finally:
            if self.rests_from is not None:
                model.to("cpu")

    def hidden(self, ids: Tensor, mask: Tensor, cache: Any = None) -> Tensor:  # [B, T, H]
        """Hidden states after the last layer of `ids` [B, T]; `mask` [B, cached + T] is False on padding.

        Positions count the tokens that the mask keeps, so left padding moves nothing.
        """
        position = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        reader: Any = self.model.base_model if self.is_split else self.model
        told = {"position_ids": position} if takes_positions(self.model) else {}
        output = reader(
            input_ids=ids, attention_mask=mask.long(), past_key_values=cache, use_cache=cache is not None, **told
        )
        hidden: Tensor = output.last_hidden_state if self.is_split else output.logits
        return hidden

    def in_head(self, function: Callable[[Tensor], Result], hidden: Tensor) -> Result:
        """`function` of hidden states, run as the output layer's own forward.

        Where the model's parameters are sharded, this is where the layer's weight is whole, forward and backward.
        """
        if not self.is_split:
            return function(hidden)
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


def takes_positions(model: PreTrainedModel) -> bool:
    """Whether a model is told where tokens are; others, such as Bloom, count by the mask themselves."""
    return "position_ids" in signature(type(model).forward).parameters


def _own_scale(model: PreTrainedModel) -> tuple[float, float | None]:
    """What a model multiplies its logits by, and what it squashes them to: Cohere, Granite, Gemma 2."""
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", None) or 1)
    return scale, getattr(config, "final_logit_softcapping", None)


def rows_of_head(model: PreTrainedModel) -> int:
    """How many logits a model has: not the tokenizer's length."""
    return int(model.config.get_text_config().vocab_size)


def learning(model: nn.Module) -> list[nn.Parameter]:
    """What a gradient is taken in: all of a model, or what was added to it."""
    return [value for value in model.parameters() if value.requires_grad]


def numbers(parameters: Iterable[nn.Parameter]) -> int:
    """How many, also of a model that is sharded, where only DeepSpeed knows."""
    return sum(int(getattr(value, "ds_numel", value.numel())) for value in parameters)


def recomputing(model: PreTrainedModel) -> None:
    """From now on its layers run again on the way back, in place of keeping what they made."""
    newer: Any = getattr(model, "activation_checkpointing_enable", None)
    enable = newer or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


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
