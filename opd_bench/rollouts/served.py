"""A vLLM engine in this process, with the student's weights, and the process as it was whenever vLLM is done."""

import copy
import gc
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers.core_model_loading import revert_weight_conversion

from opd_bench.models.lora import merged
from opd_bench.models.network import Network
from opd_bench.rollouts.choices import Sampling

ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # threads are the trainer's
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What vLLM is told where the user's own environment says nothing."""


OPEN: WeakSet[Any] = WeakSet()
"""The engine that is there. vLLM's groups of processes are the process's: a second one would end with the first."""


class Asked(NamedTuple):
    """How every sequence of a batch is written."""

    sampling: Sampling  # at temperature 0: the likeliest token
    limit: int
    end: Sequence[int]


class Answer(NamedTuple):
    """What was written to one prompt, its end token included."""

    token: list[int]
    logp: list[float]  # as vLLM has it


class Served:
    """The student's config and its weights as of the last `push`, on the device on which the student is read."""

    def __init__(self, network: Network, dtype: torch.dtype, options: Mapping[str, Any]):
        self._device = network.device
        self._environment = ENVIRONMENT | dict(os.environ) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"} | _place(network)
        with self._apart(), TemporaryDirectory(prefix="opd_bench-") as folder:
            import vllm

            while OPEN:
                OPEN.pop().shutdown()
            _config_of(network).save_pretrained(folder)
            self._params = vllm.SamplingParams
            self._llm = vllm.LLM(
                model=folder,
                dtype=str(dtype).removeprefix("torch."),
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",  # none of the model's own settings
                logprobs_mode="processed_logprobs",  # of the law that is written by
                enable_prefix_caching=False,  # what a prefix was under other weights is of no use
                disable_log_stats=True,
                distributed_executor_backend="external_launcher" if _processes() > 1 else None,
                **options,
            )
            OPEN.add(self._llm.llm_engine.engine_core)
            (is_foreign,) = self._llm.apply_model(_is_transformers_own)
        if is_foreign:
            raise ValueError(
                f"vLLM has no {type(network.model).__name__} of its own. It would run transformers', whose classes it "
                "changes for the whole process, so that the student could not be read: choose rollout=own"
            )
        self.positions: int = self._llm.llm_engine.model_config.max_model_len

    @property
    def is_open(self) -> bool:
        """Whether no other was made since."""
        return self._llm.llm_engine.engine_core in OPEN

    def push(self, network: Network) -> None:
        """From now on these weights write."""
        with self._apart(), torch.no_grad():
            self._llm.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": iter(checkpoint_of(network).items())}
            )
            self._llm.apply_model(_repacked)

    def write(self, prompts: list[list[int]], seeds: list[int], asked: Asked) -> list[Answer]:
        """One answer a prompt, each with the generator of its own seed."""
        temperature, top_p, top_k = asked.sampling
        common: dict[str, Any] = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "max_tokens": asked.limit}
        common |= {"stop_token_ids": list(asked.end), "ignore_eos": True, "logprobs": 0, "detokenize": False}
        with self._apart():
            params = [self._params(seed=seed, **common) for seed in seeds]
            told = self._llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
        return [_answer(each.outputs[0]) for each in told]

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """vLLM takes the process for its own: what it does to it lasts as long as its calls.

        It seeds the generators of Python, numpy and torch, takes torch.set_num_threads away (on a CPU), puts its words
        before every traceback, freezes all there is against garbage collection, and sets a dozen variables that
        children of this process would inherit, LD_PRELOAD and LOCAL_WORLD_SIZE among them. Autocast is not for it.
        """
        environment, threads, hook = dict(os.environ), (torch.set_num_threads, torch.get_num_threads()), sys.excepthook
        states = random.getstate(), np.random.get_state()  # noqa: NPY002
        devices = [self._device] if self._device.type == "cuda" else []
        _become(self._environment)
        try:
            with (
                torch.random.fork_rng(devices),
                torch.autocast(self._device.type, enabled=False),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            self._environment = dict(os.environ)
            _become(environment)
            torch.set_num_threads, sys.excepthook = threads[0], hook
            torch.set_num_threads(threads[1])
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            gc.unfreeze()


def checkpoint_of(network: Network) -> dict[str, Tensor]:
    """Weights by the names that a saved model's have, additions merged, tied ones once.

    Of the vocabulary, the tokens that count: what vLLM may not write it does not know.
    """
    model: Any = merged(network.model)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    by_token = {value.data_ptr() for layer in layers for value in layer.parameters()}
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        cut = value[: network.width] if value.data_ptr() in by_token else value
        found.setdefault(value.data_ptr(), (name, cut))
    saved: dict[str, Tensor] = revert_weight_conversion(model, dict(found.values()))
    return saved


def _config_of(network: Network) -> Any:
    config: Any = copy.deepcopy(network.model.config)
    config.architectures = [type(network.model).__name__]
    config.get_text_config().vocab_size = network.vocabulary
    return config


def _is_transformers_own(model: nn.Module) -> bool:
    return any("models.transformers" in each.__module__ for each in type(model).__mro__)


def _repacked(model: nn.Module) -> None:
    """On a CPU a head multiplies by a packed copy of its weight, which vLLM forgets to renew where that is tied."""
    head: Any = getattr(model, "lm_head", None)
    if hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)


def _answer(output: Any) -> Answer:
    token = list(output.token_ids)
    return Answer(token, [each[one].logprob for one, each in zip(token, output.logprobs, strict=True)])


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _place(network: Network) -> dict[str, str]:
    """Where several processes have an engine each, which one this is: vLLM reads it as torchrun would say it."""
    if _processes() == 1:
        return {}
    local = network.device.index or 0
    return {"RANK": str(dist.get_rank()), "LOCAL_RANK": str(local), "WORLD_SIZE": str(_processes())}


def _become(environment: Mapping[str, str]) -> None:
    """The process's environment is this one."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
