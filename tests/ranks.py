"""Training in one process and in several, on CPU, with the strategies' own engines."""

import gzip
import logging
import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import Strategy
from safetensors.torch import load_file

from opd_bench.reporting.files import RESPONSES
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Policies
from opd_bench.rollouts.sources import Student
from opd_bench.scoring import learnable
from opd_bench.tokens import Origin, PromptBatch, Rollout
from opd_bench.training.anchors import Anchors
from opd_bench.training.health import StoppedError
from opd_bench.training.kept import KeptWeights, kept
from opd_bench.training.module import Distillation
from opd_bench.training.run import Run
from opd_bench.training.strategies import ZeRO
from opd_bench.training.summary import budget, flops, training
from tests.runs import small_run

SECONDS = 120
PARTITIONED = {"stage3_param_persistence_threshold": 0, "reduce_bucket_size": 10**6, "allgather_bucket_size": 10**6}


class Fit(NamedTuple):
    """What one training is made of."""

    method: str
    folder: Path
    overrides: tuple[str, ...] = ()
    tied: bool = True  # the head's weight is the embedding's


class Found(NamedTuple):
    """What one process saw of it."""

    metrics: list[dict[str, float]]  # of each step
    rows: list[list[Any]]  # of each step: number and tokens of this process's responses
    scored: list[int]  # tokens of this process that counted, at each step
    parameters: dict[str, torch.Tensor]  # whole
    kept: int  # numbers of the student's that this process holds after the last step
    shard: int  # numbers of the student's that are this process's part, where it is sharded
    totals: dict[str, Any]  # what a record says of training
    evaluation: dict[str, Any]
    responses: str  # to the test, at the end, with their verdicts
    weights: list[dict[str, torch.Tensor]]  # of the students that were kept on the way


class Witness(pl.Callback):
    """Every step's responses."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.scored: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, Distillation)
        rollout = module.rollout
        numbered = zip(rollout.row.tolist(), rollout.ids, rollout.mask, strict=True)
        self.rows.append([(row, ids[mask].tolist()) for row, ids, mask in numbered])
        self.scored.append(int(learnable(module.estimator, rollout.response, rollout.origin).sum()))


def strategy_of(name: str) -> Strategy | str:
    return ZeRO(int(name[-1]), timedelta(seconds=SECONDS), False, PARTITIONED) if name.startswith("zero") else name


class StudentThenData(Student):
    """Which of the student's tokens count as its own: those of the global batch's first half."""

    def draw(self, policies: Policies, prompts: PromptBatch, progress: float, draws: Draws) -> Rollout:
        rollout = super().draw(policies, prompts, progress, draws)
        late = rollout.row[:, None] >= draws.all_rows // 2
        return rollout._replace(origin=torch.where(late & rollout.response, Origin.DATA, rollout.origin))


class Poison(pl.Callback):
    """The last process's gradient is not a number at step 1; what became of the weights."""

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.global_step == 1 and trainer.global_rank == trainer.world_size - 1:
            next(p.grad for p in module.student.parameters() if p.grad is not None).fill_(torch.nan)


def trained(fit: Fit, strategy: str = "auto", devices: int = 1) -> Found:
    """One fit in this process, which may be one of several."""
    run, witness = small_run(fit.folder / f"{strategy}-{devices}", fit.method, *fit.overrides), Witness()
    parts = run._parts()
    module, students = parts.module, KeptWeights(run.folder / "weights", 2)
    if not fit.tied:
        module.student.lm_head.weight = torch.nn.Parameter(module.student.lm_head.weight.detach().clone())
    trainer_of(run, strategy, devices, [*parts.callbacks, students, witness]).fit(module)
    return Found(
        metrics=parts.series.rows,
        rows=witness.rows,
        scored=witness.scored,
        parameters={name: p.detach().clone() for name, p in whole(module).items()},
        kept=sum(p.numel() for p in module.student.parameters()),
        shard=sum(getattr(p, "ds_tensor", p).numel() for p in module.student.parameters()),
        totals=training(parts) | budget(parts.series) | flops(parts),
        evaluation=parts.judge.evaluation,
        responses=gzip.decompress(parts.judge.files[RESPONSES]).decode(),
        weights=[load_file(folder / "model.safetensors") for folder in kept(run.folder)],
    )


def unwritten(folder: Path) -> str:
    """What a process says of anchors that the first one can't write."""
    dist.init_process_group("gloo")
    with pytest.raises(NotADirectoryError) as error:
        Anchors(folder, {}, {"before": {"name": "student", "digest": "123456"}}).figures("before", lambda: ({}, b""))
    return str(error.value)


def poisoned(fit: Fit, strategy: str, devices: int) -> str:
    """What a fit says that meets a gradient that is not a number."""
    run = small_run(fit.folder, fit.method, *fit.overrides)
    module = run._parts().module
    with pytest.raises(StoppedError) as error:
        trainer_of(run, strategy, devices, [Poison()]).fit(module)
    assert all(p.isfinite().all() for p in whole(module).values())
    return str(error.value)


def trainer_of(run: Run, strategy: str, devices: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy_of(strategy),
        max_steps=run.plan.steps,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def whole(module: Distillation) -> dict[str, torch.Tensor]:
    """The student's parameters after the last step."""
    module.update.copy_to(module.writers.networks[0].model)
    return dict(module.writers.networks[0].model.named_parameters())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def in_processes(function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """What `function` returns in each of `count` processes that form a group; any failure of one is a failure here."""
    context = multiprocessing.get_context("forkserver")
    os.environ["DS_ACCELERATOR"] = "cpu"  # read when DeepSpeed is first imported, and the workers are forks
    context.set_forkserver_preload(["lightning.pytorch", "transformers", "deepspeed", "opd_bench.training.run"])
    port = free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    workers = [
        context.Process(target=_work, args=(pipes[rank][1], rank, count, port, function, arguments), daemon=True)
        for rank in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        results = [_received(pipe) for pipe, _ in pipes]
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return results


def _received(pipe: Any) -> Any:
    assert pipe.poll(SECONDS), f"nothing came back in {SECONDS} s"
    value, failure = pipe.recv()
    assert failure is None, failure
    return value


def _work(pipe: Any, rank: int, count: int, port: int, function: Callable[..., Any], arguments: Any) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "NODE_RANK": 0, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    warnings.simplefilter("ignore")
    warnings.filterwarnings("error", ".* was called before the ``update`` method")  # torchmetrics, of the first process
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        pipe.send((function(*arguments), None))
    except BaseException:
        pipe.send((None, traceback.format_exc()))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
