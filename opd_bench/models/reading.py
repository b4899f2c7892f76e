"""How a model is read: which version, in which type, with what attention, and which of its numbers learn."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_bench.models import load
from opd_bench.models.lora import LoRA, adapted
from opd_bench.settings import Count, Positive, Settings, Share


@dataclass(kw_only=True, eq=False)
class Reading(Settings):
    """What student and teacher have in common."""

    revision: str | None  # on the Hub: a commit, tag or branch; null: the newest
    dtype: Literal["float32", "bfloat16"]
    attention: str | None  # eager, sdpa, flash_attention_2, …; null: what transformers takes for the model
    trust: str | None  # the name of the model whose own code may run; null: none's may

    def model(self, name: str, dtype: torch.dtype | None = None, **options: Any) -> PreTrainedModel:
        """The weights as they are."""
        return load.causal_lm(name, dtype or getattr(torch, self.dtype), **self._options(name), **options)

    def weightless(self, name: str) -> PreTrainedModel:
        """Its shapes alone. What runs its attention need not be installed here."""
        return load.weightless(name, getattr(torch, self.dtype), **self._origin(name))

    def tokenizer(self, name: str, **options: Any) -> PreTrainedTokenizerBase:
        """The one that belongs to the model."""
        return load.tokenizer(name, **self._origin(name), **options)

    def _origin(self, name: str) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": name == self.trust}

    def _options(self, name: str) -> dict[str, Any]:
        attention = {"attn_implementation": self.attention} if self.attention else {}
        return self._origin(name) | attention


@dataclass(kw_only=True, eq=False)
class StudentReading(Reading):
    """The student's: all of its weights learn, or low-rank additions to some."""

    lora_rank: Count | None  # null: no LoRA, all weights learn
    lora_alpha: Positive
    lora_dropout: Share
    lora_layers: str  # all-linear, or names with commas, as in q_proj,v_proj

    def pupil(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model, with what learns added to it if that is not the model itself."""
        if self.lora_rank is None:
            return model
        return adapted(model, LoRA(self.lora_rank, self.lora_alpha, self.lora_dropout, self.lora_layers), seed)


@dataclass(kw_only=True, eq=False)
class TeacherReading(Reading):
    """The teacher's, which never learns."""

    quantised: Literal["4bit", "8bit"] | None  # by bitsandbytes; null: not
    rests_on_cpu: bool  # while the student learns, the teacher's weights are in the CPU's memory

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quantised and self.rests_on_cpu:
            raise ValueError(
                "teacher.quantised and teacher.rests_on_cpu exclude each other: bitsandbytes stays where it is"
            )

    def teacher(self, name: str, device: torch.device) -> PreTrainedModel:
        """On the CPU, or, where it is quantised, on its device."""
        if self.quantised is None:
            return self.model(name)
        from transformers import BitsAndBytesConfig

        compute = {"bnb_4bit_compute_dtype": torch.bfloat16, "bnb_4bit_quant_type": "nf4"}
        config = BitsAndBytesConfig(**{f"load_in_{self.quantised}": True}, **compute)
        return self.model(name, quantization_config=config, device_map={"": device})
