"""A model whose parameters *are* the logits: row t of a table is the law of the token after t."""

from types import SimpleNamespace

import torch
from torch import nn
from transformers import LlamaConfig

from opd_bench.models.network import Network
from opd_bench.probing.subject import Subject
from opd_bench.tokens import PromptBatch
from opd_bench.training.plan import Plan

PLAN = {
    "steps": 10,
    "prompts": 1,
    "rollouts": 1,
    "micro_batches": 1,
    "response_limit": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "chunk": 64,
    "health_tokens": None,
    "learning_rate": 1e-3,
    "beta1": 0.9,
    "beta2": 0.95,
    "weight_decay": 0.0,
    "clip": None,
    "warmup": 0,
    "decay": "constant",
    "floor": 0.0,
}


class Table(nn.Module):
    """What is asked of a transformers model, and no more."""

    def __init__(self, logits, trained):
        super().__init__()
        self.logits = nn.Parameter(logits.clone(), requires_grad=trained)
        self.head = nn.Linear(*logits.shape[::-1], bias=False, dtype=logits.dtype)
        self.head.weight = nn.Parameter(torch.eye(logits.shape[-1], dtype=logits.dtype), requires_grad=False)
        self.config = LlamaConfig(num_hidden_layers=1)  # for the engine's cache, which a table leaves empty

    def base_model(self, input_ids, **_):
        return SimpleNamespace(last_hidden_state=self.logits[input_ids])

    def get_output_embeddings(self):
        return self.head


def subject(student, teacher, rows=None, seed=0, **plan):
    """Prompts of one token, every token of the vocabulary once, and responses of one token."""
    ids = torch.arange(len(student) if rows is None else rows)[:, None]
    blank = torch.zeros_like(ids)
    prompts = PromptBatch(ids, torch.ones_like(ids, dtype=torch.bool), ids[:, 0], blank, blank[:, 0] + 1)
    networks = Network(Table(student, True)), Network(Table(teacher, False))
    return Subject(*networks, prompts, end=[-1], plan=Plan(**(PLAN | plan)), seed=seed, progress=0.25)
