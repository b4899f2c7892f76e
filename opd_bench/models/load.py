"""Models and tokenizers by name: the ones in the package, a folder, or whatever transformers finds."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

PACKAGED = Path(__file__).parent / "embedded"
NAMES = "embedded/NAME, a folder, or a name on the Hugging Face Hub (models.teacher, models.starts, start)"


def located(name: str) -> str:
    """`embedded/NAME` is in the package; all else is for transformers to find."""
    if not name.startswith("embedded/"):
        return name
    folder = PACKAGED / name.removeprefix("embedded/")
    if not folder.is_dir():
        known = ", ".join(sorted(f"embedded/{path.name}" for path in PACKAGED.iterdir() if path.is_dir()))
        raise ValueError(f"no model {name!r} in the package; there are {known}")
    return str(folder)


def causal_lm(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> PreTrainedModel:
    """From safetensors alone and, unless `options` say otherwise, without running code that came with it."""
    logging.disable_progress_bar()
    settings = {"dtype": dtype, "use_safetensors": True, "trust_remote_code": False, **options}
    with _told("model", name):
        loaded: Any = AutoModelForCausalLM.from_pretrained(located(name), output_loading_info=True, **settings)
        model, found = loaded
        if lacking := sorted(found["missing_keys"]):  # transformers would go on with random numbers
            raise ValueError(f"its weights lack {', '.join(lacking)}")
    return model  # type: ignore[no-any-return]


def weightless(name: str, dtype: torch.dtype, **options: Any) -> PreTrainedModel:
    """The same model on torch's meta device, where a tensor is a shape: its config.json is all that is read."""
    with _told("model", name, "config.json"):
        config: Any = AutoConfig.from_pretrained(located(name), **options)
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=options["trust_remote_code"])
    return made  # type: ignore[no-any-return]


def tokenizer(name: str, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to a model."""
    with _told("tokenizer", name):
        made: Any = AutoTokenizer.from_pretrained(located(name), **{"trust_remote_code": False, **options})
    return made  # type: ignore[no-any-return]


def fingerprint(name: str) -> str:
    """What stands for the weights in a protocol: the file's content if the model is in the package, else the name."""
    folder = Path(located(name))
    if folder.parent != PACKAGED:
        return name
    with _told("model", name):
        return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def digest(model: PreTrainedModel) -> str:
    """The same weights have the same digest, whatever file they came from."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


@contextmanager
def _told(what: str, name: str, needed: str = "config.json, safetensors and a tokenizer") -> Iterator[None]:
    """Whatever goes wrong inside is a ValueError that says which name it was, why, and what to do."""
    place = Path(located(name))
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of transformers, tokenizers, safetensors and the Hub, each with its own
        if isinstance(error, RuntimeError) and dist.is_available() and dist.is_initialized():
            raise  # of loading into shards: what it says is of the other processes
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise ValueError(f"no {what} from {name!r}: {_remedy(place, reason, needed)}") from error


def _remedy(place: Path, reason: str, needed: str) -> str:
    if place.is_dir():
        return f"{reason}. The folder {place} needs {needed}, all whole: make it again"
    if place.is_absolute() or str(place).count("/") != 1:
        return f"there is no such folder; it must be {NAMES}"
    return (
        f"no such folder, not in the cache, and the Hub did not give it: {reason}. It must be {NAMES}; for the latter "
        "look after the name, the network and, for gated models, `hf auth login`, or download it and name the folder"
    )
