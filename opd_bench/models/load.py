"""Models and tokenizers by name: the ones in the package, a folder, or whatever transformers finds."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

PACKAGED = Path(__file__).parent / "embedded"


def located(name: str) -> str:
    """`embedded/NAME` is in the package; all else is for transformers to find."""
    if not name.startswith("embedded/"):
        return name
    folder = PACKAGED / name.removeprefix("embedded/")
    if not folder.is_dir():
        known = ", ".join(sorted(f"embedded/{path.name}" for path in PACKAGED.iterdir() if path.is_dir()))
        raise ValueError(f"no model {name!r} in the package; there are {known}")
    return str(folder)


def causal_lm(name: str) -> PreTrainedModel:
    """In float32, from safetensors alone and without running code that came with it."""
    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        located(name), dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    return model  # type: ignore[no-any-return]


def tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model."""
    made: Any = AutoTokenizer.from_pretrained(located(name), trust_remote_code=False)
    return made  # type: ignore[no-any-return]


def fingerprint(name: str) -> str:
    """What stands for the weights in a protocol: the file's content if the model is in the package, else the name."""
    folder = Path(located(name))
    weights = folder / "model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if folder.parent == PACKAGED else name


def digest(model: PreTrainedModel) -> str:
    """The same weights have the same digest, whatever file they came from."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]
