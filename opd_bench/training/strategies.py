"""One optimiser step under each of Lightning's strategies: backward passes that stay local, then one reduction."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from opd_bench.models.network import learning

Check = Callable[[Tensor], None]
"""Raises if a gradient's norm is not a finite number."""


class ZeRO(DeepSpeedStrategy):
    """Lightning's strategy, on CPU too; `zero` are entries of DeepSpeed's own zero_optimization."""

    def __init__(self, stage: int, timeout: timedelta, offload: bool, zero: Mapping[str, Any]):
        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when DeepSpeed is first imported
        super().__init__(
            stage=stage,
            timeout=timeout,
            offload_optimizer=offload,
            offload_parameters=offload and stage == 3,
            exclude_frozen_parameters=True,
            logging_batch_size_per_gpu=1,
        )
        assert self.config is not None
        self.config["zero_optimization"] |= zero
        self.config["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own has to be compiled

    def setup_environment(self) -> None:
        """The parent's, without its refusal of everything but CUDA."""
        if isinstance(self.accelerator, CUDAAccelerator):
            super().setup_environment()
            return
        import deepspeed

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else it is compiled, and never used here
        assert self.parallel_devices is not None
        self.parallel_devices = [torch.device("cpu", number) for number in range(len(self.parallel_devices))]
        DDPStrategy.setup_environment(self)


class Update:
    """One process: the gradient is whole after the last backward pass."""

    factor = 1
    """What a loss is multiplied by, so that the step's gradient is the sum over processes."""

    def __init__(self, trainer: pl.Trainer, module: nn.Module):
        self.trainer, self.parameters = trainer, learning(module)

    @contextmanager
    def accumulated(self) -> Iterator[None]:
        """Gradients add up in `p.grad`, of this process alone; at the end they are reduced over all, once."""
        yield

    def step(self, optimiser: Any, clip: float | None, check: Check) -> Tensor:
        """Clip, update, forget the gradient; its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters, clip or torch.inf)
        check(norm)
        optimiser.step()
        optimiser.zero_grad()
        return norm

    def copy_to(self, other: nn.Module) -> None:
        """Nothing is sharded, so that nobody needs a copy."""

    @property
    def adam(self) -> Optimizer:
        """The optimiser that has the state."""
        return self.trainer.optimizers[0]

    @property
    def copies(self) -> int:
        """In how many processes all of the optimiser's state is."""
        return self.trainer.world_size


class Replicated(Update):
    """DDP: every process has everything, and gradients are added up by hand after the last backward pass."""

    @contextmanager
    def accumulated(self) -> Iterator[None]:
        """One sum over processes for all parameters at once."""
        wrapped: Any = self.trainer.model
        with wrapped.no_sync():
            yield
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view_as(gradient))


class Sharded(Update):
    """DeepSpeed ZeRO: the engine reduces, clips and updates; it takes the mean over processes."""

    def __init__(self, trainer: pl.Trainer, module: nn.Module):
        super().__init__(trainer, module)
        self.engine: Any = trainer.model
        self.module = module
        self.factor = trainer.world_size

    @contextmanager
    def accumulated(self) -> Iterator[None]:
        """As the engine has it."""
        with self.engine.coalesce_grad_reduction():
            yield

    def step(self, optimiser: Any, clip: float | None, check: Check) -> Tensor:
        """The norm is known afterwards; the engine leaves the weights alone if it is not finite."""
        optimiser.step()
        norm = torch.as_tensor(self.engine.get_global_grad_norm())
        check(norm)
        return norm

    @torch.no_grad()
    def copy_to(self, other: nn.Module) -> None:
        """One parameter at a time is whole; the copy gets the type and the device that the engine works with."""
        if not shards_parameters(self.trainer):
            return
        import deepspeed

        for mine, copied in zip(self.module.parameters(), other.parameters(), strict=True):
            if not mine.requires_grad and (mine.dtype, mine.device) == (copied.dtype, copied.device):
                continue  # it is the same, and stays so
            with deepspeed.zero.GatheredParameters([mine]):
                copied.data = mine.detach().clone()

    @property
    def adam(self) -> Optimizer:
        """Inside of the engine's, over this process's part of the flattened parameters."""
        inner: Optimizer = self.trainer.optimizers[0].optimizer  # type: ignore[attr-defined]
        return inner

    @property
    def copies(self) -> int:
        """All stages split it between the processes."""
        return 1


def update_of(trainer: pl.Trainer, module: nn.Module) -> Update:
    """The one that goes with the trainer's strategy."""
    match trainer.strategy:
        case DeepSpeedStrategy():
            return Sharded(trainer, module)
        case DDPStrategy():
            return Replicated(trainer, module)
        case _:
            return Update(trainer, module)


def shards_optimiser(trainer: pl.Trainer) -> bool:
    """Each process has a part of the optimiser's state, with weights of its own in float32."""
    return isinstance(trainer.strategy, DeepSpeedStrategy)


def shards_parameters(trainer: pl.Trainer) -> bool:
    """Stage 3: a parameter is whole only where it is used."""
    return isinstance(trainer.strategy, DeepSpeedStrategy) and trainer.strategy.zero_stage_3


@contextmanager
def sharded_loading(trainer: pl.Trainer) -> Iterator[None]:
    """Where the student is loaded: under stage 3 straight into shards, so that it is whole nowhere.

    Nothing else may be loaded in here: whatever transformers loads would be sharded too.
    """
    if not shards_parameters(trainer):
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    assert isinstance(trainer.strategy, DeepSpeedStrategy)
    config: Any = trainer.strategy.config
    config = {**config, "train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": "bf16" in str(trainer.precision)}}
    kept = HfDeepSpeedConfig(config)  # transformers has a weak reference to it
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del kept


def prepare(trainer: pl.Trainer, clip: float | None) -> None:
    """Before the engine is made: DeepSpeed clips by its own configuration, which is made to say what the plan says."""
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        assert trainer.strategy.config is not None
        trainer.strategy.config["gradient_clipping"] = clip or 0.0
