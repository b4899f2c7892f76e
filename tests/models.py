"""Small random Llama models with a vocabulary of 48: a pair that disagrees, on prompts of different lengths."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from opd_bench.models.network import Network, frozen, right_aligned
from opd_bench.rollouts.policies import Writers
from opd_bench.tokens import Origin, PromptBatch

VOCABULARY, LIMIT, END = 48, 12, 2


def network(seed: int, scale: float = 1.0, **options: object) -> Network:
    """In float64, so that padding and batching show at 1e-12 if they matter."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    words = {"tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
    settings = {"vocab_size": VOCABULARY, "num_hidden_layers": 2, "initializer_range": 0.4, **shape, **words}
    config = LlamaConfig(**{**settings, **options})
    return Network(frozen(LlamaForCausalLM(config).double()), scale)


def writers(student: Network | None = None, teacher: Network | None = None, end: int = END, seed: int = 0) -> Writers:
    pair = {Origin.STUDENT: student or network(0), Origin.TEACHER: teacher or network(1)}
    return Writers(pair, LIMIT, [end], seed)


def prompts(count: int = 24) -> PromptBatch:
    generator = torch.Generator().manual_seed(7)
    rows = [torch.randint(3, VOCABULARY, (2 + n % 5,), generator=generator) for n in range(count)]
    ids, mask = right_aligned(rows)
    answer = torch.randint(3, VOCABULARY, (count, LIMIT + 3), generator=generator)
    length = 2 + torch.arange(count) % (LIMIT + 2)
    answer[torch.arange(count), length - 1] = END
    return PromptBatch(ids, mask, torch.arange(count), answer, length)
