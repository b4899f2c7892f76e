"""Tiny random models of the families that people distil, each with what is peculiar to its head or its attention."""

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
)

VOCABULARY, WINDOW = 96, 6

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = {"sliding_window": WINDOW}
FAMILIES = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "gemma2": {**SLIDING, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SLIDING, "query_pre_attn_scalar": 8},
    "mistral": SLIDING,
    "phi3": {},
    "phi": {},
    "olmo2": {},
    "olmo3": SLIDING,
    "gpt2": {},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {**SLIDING, "logit_scale": 0.25},
    "granite": {"logits_scaling": 3.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}


def tiny(family: str, seed: int = 0, **options) -> PreTrainedModel:
    """One in float32, in evaluation mode; heads that have a bias get a random one."""
    torch.manual_seed(seed)
    shape = GPT2 if family == "gpt2" else SHAPE
    special = {name: SHAPE[name] for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = AutoConfig.for_model(family, **{**shape, **special, **FAMILIES[family], **options})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    return model


class Odd(LlamaForCausalLM):
    """A model whose logits are not its head's of its trunk's states."""

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits = output.logits + output.logits.roll(1, -1)
        return output
