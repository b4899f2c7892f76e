"""Over which processes a run is spread, on what and in which precision: all of it configuration."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from opd_bench.settings import Count, Positive, Settings
from opd_bench.training.checkpoints import CheckpointFile
from opd_bench.training.strategies import ZeRO


class Place(NamedTuple):
    """Which process this is."""

    rank: int
    node: int
    is_started: bool  # by whoever starts all processes, so that this one need not


@dataclass(kw_only=True, eq=False)
class Layout(Settings):
    """What `conf/trainer/` offers."""

    accelerator: Literal["cpu", "gpu"]
    devices: Count | None  # processes on each node; null: one for each GPU
    num_nodes: Count
    strategy: Literal["one", "ddp", "zero1", "zero2", "zero3"]
    offload: bool  # ZeRO: the optimiser's state, and in stage 3 the weights, wait in the CPU's memory
    zero: Mapping[str, Any]  # more entries of DeepSpeed's own zero_optimization
    precision: Literal["32-true", "bf16-mixed"]
    gradient_checkpointing: bool  # the student's layers run again on the way back, in place of keeping what they made
    threads: Count  # of each process
    timeout: Positive  # seconds that a process waits for the others in one exchange
    grace: Positive  # seconds that the others have to end by themselves once a process is gone

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strategy == "one" and self.processes > 1:
            raise ValueError(
                f"trainer.strategy=one has one process, got {self.processes} of trainer.devices and trainer.num_nodes; "
                "choose trainer=ddp, zero1, zero2 or zero3, or cpu_ddp, cpu_zero1, cpu_zero2 or cpu_zero3"
            )
        if (self.offload or self.zero) and not self.stage:
            raise ValueError(f"trainer.offload and trainer.zero are ZeRO's, got trainer.strategy={self.strategy}")

    @cached_property
    def local(self) -> int:
        """Processes on each node."""
        if self.devices is not None:
            return self.devices
        if self.strategy == "one":
            return 1
        if found := torch.cuda.device_count() if self.accelerator == "gpu" else 1:
            return found
        raise ValueError(
            "trainer.devices=null takes every GPU, and there is none; choose one of trainer=cpu…, or say for how many "
            "a dry run is with trainer.devices=NUMBER"
        )

    @property
    def processes(self) -> int:
        """In all."""
        return self.local * self.num_nodes

    @property
    def stage(self) -> int:
        """Of ZeRO; 0 for none."""
        return int(self.strategy[-1]) if self.strategy.startswith("zero") else 0

    @property
    def dtype(self) -> torch.dtype:
        """What an engine computes in."""
        return torch.bfloat16 if self.precision == "bf16-mixed" else torch.float32

    @property
    def place(self) -> Place:
        """As torchrun, SLURM's srun or this project's own launcher has told; else the first of this node."""
        if self.strategy == "one":
            return Place(0, 0, True)
        if "LOCAL_RANK" in os.environ:
            node = int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0)))
            return Place(int(os.environ.get("RANK", node * self.local + int(os.environ["LOCAL_RANK"]))), node, True)
        if SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) == self.processes:
            return Place(int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NODEID"]), True)
        node = int(os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID", 0) if self.num_nodes > 1 else 0))
        return Place(node * self.local, node, False)

    def trainer(self, **options: Any) -> pl.Trainer:
        """Lightning's, with this layout's strategy and nothing of its own beside, joined with the other processes."""
        found = torch.cuda.device_count()
        if self.accelerator == "gpu" and found < self.local and not torch.backends.mps.is_available():
            raise ValueError(
                f"trainer.accelerator=gpu with trainer.devices={self.local}, and this machine has {found or 'no'} GPU"
                f"{'s' * (found > 1)}; choose one of TRAINER=cpu…, or say DRY=1 for what a GPU would take"
            )
        plugins: list[Any] = [CheckpointFile()]
        if self.place.is_started and "LOCAL_RANK" not in os.environ and self.processes > 1:
            plugins.append(SLURMEnvironment(auto_requeue=False))
        elif not TorchElasticEnvironment.detect():  # a job of a cluster's is not asked how many tasks it has
            plugins.append(LightningEnvironment())
        trainer = pl.Trainer(
            accelerator=self.accelerator,
            devices=self.local,
            num_nodes=self.num_nodes,
            strategy=self._strategy(),
            precision=self.precision,
            plugins=plugins,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            **options,
        )
        trainer.strategy.setup_environment()  # what is decided by one process alone can be told the others from here on
        return trainer

    def _strategy(self) -> Strategy | str:
        timeout = timedelta(seconds=self.timeout)
        if self.stage:
            return ZeRO(self.stage, timeout, self.offload, self.zero)
        return DDPStrategy(timeout=timeout) if self.strategy == "ddp" else "auto"
