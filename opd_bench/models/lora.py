"""Low-rank additions to a model's linear layers, which learn while the model itself does not (arXiv 2106.09685)."""

import copy
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from opd_bench.models.network import learning


class LoRA(NamedTuple):
    """W + (alpha / rank) · B A, with B = 0 at the start."""

    rank: int
    alpha: float
    dropout: float
    layers: str


def adapted(model: PreTrainedModel, lora: LoRA, seed: int) -> PreTrainedModel:
    """The same model, with additions in place, in float32, that alone learn; A is drawn from the seed."""
    peft = _peft()
    layers = lora.layers if lora.layers == "all-linear" else [name.strip() for name in lora.layers.split(",")]
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=layers, task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            peft.LoraModel(model, config, "default")
        except ValueError as error:
            raise ValueError(f"student.lora_layers={lora.layers!r}: {error}") from error
    for value in learning(model):
        value.data = value.data.float()
    return model


def is_adapted(model: PreTrainedModel) -> bool:
    """Whether there are additions in it."""
    return any(name.endswith("lora_A.default.weight") for name, _ in model.named_parameters())


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """A copy without additions, whose weights have them inside; the model itself if it has none."""
    if not is_adapted(model):
        return model
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = copy.deepcopy(model)
    for name, layer in list(whole.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            changed: Any = layer
            changed.merge()
            above, _, own = name.rpartition(".")
            setattr(whole.get_submodule(above), own, changed.get_base_layer())
    return whole.requires_grad_(True)


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("student.lora_rank needs peft: pip install 'opd-bench[real]', or lora_rank=null") from error
    return peft
