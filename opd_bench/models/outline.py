"""What of a model decides how much memory and time it takes: counted from its shapes, without a weight."""

from typing import Any, NamedTuple

from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from opd_bench.models.lora import is_adapted
from opd_bench.models.network import rows_of_head


class Outline(NamedTuple):
    """Counts of a model; weights that are tied count once, LoRA's additions count too."""

    parameters: int
    trained: int  # of these
    active: int  # of these, the ones that one token meets: of experts, those that are chosen
    linear: int  # of these, in linear layers other than the head: what bitsandbytes makes smaller
    is_adapted: bool  # what is trained are LoRA's additions
    head_learns: bool
    vocabulary: int
    hidden: int
    norms: int  # of the hidden size, in one layer
    inner: int  # states between the feed-forward layers of a token; of experts, of those that are chosen
    routed: int  # experts that a token is sent to, in one layer; 0: there are none
    heads: int
    queries: int  # numbers of a token's queries in one layer, all heads together
    keys: int  # and of its keys
    windows: tuple[int | None, ...]  # of each layer: how many tokens' keys and values it keeps; None: all
    attention: str  # eager keeps every weight, others none

    @property
    def layers(self) -> int:
        """How many there are."""
        return len(self.windows)

    def cached(self, tokens: int) -> int:
        """Numbers that are kept as keys and values of one sequence."""
        return sum(2 * self.keys * min(tokens, window or tokens) for window in self.windows)


def outline(model: PreTrainedModel, attention: str | None = None) -> Outline:
    """Of a model on any device, with the attention that it is going to have; None: its own."""
    config: Any = model.config.get_text_config()
    values, head = list(model.parameters()), model.get_output_embeddings()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    adapted, total = is_adapted(model), sum(value.numel() for value in values)
    return Outline(
        parameters=total,
        trained=sum(value.numel() for value in values if value.requires_grad),
        active=total - round(_idle(model, config)),
        linear=sum(layer.weight.numel() for layer in _linear(model) if layer.weight is not head.weight),
        is_adapted=adapted,
        head_learns=bool(head.weight.requires_grad),
        vocabulary=rows_of_head(model),
        hidden=config.hidden_size,
        norms=_norms(model, config),
        inner=_inner(config),
        routed=int(config.num_experts_per_tok) if _experts(config) else 0,
        heads=heads,
        queries=heads * width,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * width,
        windows=_windows(model, config.num_hidden_layers),
        attention=attention or str(config._attn_implementation),
    )


def _linear(model: PreTrainedModel) -> list[Any]:
    """Layers that multiply by a weight, without LoRA's additions."""
    kinds = (nn.Linear, Conv1D)
    return [part for name, part in model.named_modules() if isinstance(part, kinds) and "lora_" not in name]


def _experts(config: Any) -> int:
    return getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None) or 0


def _norms(model: PreTrainedModel, config: Any) -> int:
    """The one behind the last layer is not in one."""
    weights = (getattr(part, "weight", None) for part in model.modules())
    found = sum(weight is not None and weight.shape == (config.hidden_size,) for weight in weights)
    return int(found) // int(config.num_hidden_layers)


def _idle(model: PreTrainedModel, config: Any) -> float:
    """Numbers of experts that a token does not meet."""
    experts = _experts(config)
    if not experts:
        return 0.0
    inside = sum(value.numel() for name, value in model.named_parameters() if ".experts." in name)
    return float(inside * (1 - config.num_experts_per_tok / experts))


def _inner(config: Any) -> int:
    expert = getattr(config, "moe_intermediate_size", None)
    if expert:
        return int(expert * config.num_experts_per_tok)
    found = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None)
    return int(found or 4 * config.hidden_size)


def _windows(model: PreTrainedModel, layers: int) -> tuple[int | None, ...]:
    """As the rollout's own cache has them: a sliding one keeps a token less than its width."""
    made = [getattr(layer, "sliding_window", None) for layer in DynamicCache(config=model.config).layers]
    return tuple(width and width - 1 for width in made) or (None,) * layers
