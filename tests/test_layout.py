"""What `conf/trainer/` offers: composed, checked, and the same training whatever saves memory."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from opd_bench.configs import made, names
from opd_bench.models.load import causal_lm
from opd_bench.tokens import Origin
from opd_bench.training.layout import Layout, Place
from opd_bench.training.module import Distillation
from opd_bench.training.run import Run
from tests.ranks import in_processes, whole
from tests.runs import composed, small_run

SLURM = {"SLURM_NTASKS": "16", "SLURM_PROCID": "11", "SLURM_NODEID": "1", "SLURM_JOB_NAME": "opd"}


def layout(trainer: str, *overrides: str) -> Layout:
    made_one: Layout = made(composed("bench", f"trainer={trainer}", "name=opd", *overrides)["trainer"])
    return made_one


def test_every_trainer_is_a_layout(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    found = {name: layout(name) for name in names("trainer")}
    assert {name: one.processes for name, one in found.items() if one.processes > 1} == {
        **dict.fromkeys(("ddp", "zero1", "zero2", "zero3", "zero3_offload"), 8),
        **dict.fromkeys(("cpu_ddp", "cpu_zero1", "cpu_zero2", "cpu_zero3"), 2),
    }
    assert {name: one.stage for name, one in found.items() if one.stage} == {
        **{f"{cpu}zero{stage}": stage for cpu in ("", "cpu_") for stage in (1, 2, 3)},
        "zero3_offload": 3,
    }
    assert {name for name, one in found.items() if one.accelerator == "cpu"} == {
        name for name in found if name.startswith("cpu")
    }


@pytest.mark.parametrize(
    ("trainer", "override", "message"),
    [
        ("cpu", "trainer.devices=2", "trainer.strategy=one has one process, got 2 of trainer.devices"),
        ("cpu", "trainer.num_nodes=3", "trainer.strategy=one has one process, got 3 of trainer.devices"),
        ("cpu", "trainer.offload=true", "trainer.offload and trainer.zero are ZeRO's, got trainer.strategy=one"),
        ("cpu_ddp", "+trainer.zero.x=1", "trainer.offload and trainer.zero are ZeRO's, got trainer.strategy=ddp"),
        ("cpu", "trainer.strategy=fsdp", "Layout.strategy must be one of one, ddp, zero1, zero2, zero3, got 'fsdp'"),
        ("cpu", "trainer.precision=16-mixed", "Layout.precision must be one of 32-true, bf16-mixed, got '16-mixed'"),
        ("cpu", "trainer.timeout=0", "Layout.timeout must be > 0, got 0"),
        ("ddp", "trainer.accelerator=gpu", "trainer.devices=null takes every GPU, and there is none"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(trainer, override, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        _ = layout(trainer, override).processes


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, Place(0, 0, False)),
        ({"NODE_RANK": "1"}, Place(8, 1, False)),
        ({"LOCAL_RANK": "3", "NODE_RANK": "1"}, Place(11, 1, True)),
        ({"LOCAL_RANK": "3", "RANK": "11", "GROUP_RANK": "1"}, Place(11, 1, True)),
        (SLURM, Place(11, 1, True)),
        ({**SLURM, "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, Place(8, 1, False)),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, Place(8, 1, False)),
    ],
)
def test_a_process_knows_its_place(monkeypatch, given, place):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    two_nodes = ("trainer.devices=8", "trainer.num_nodes=2")
    assert layout("cpu_ddp", *two_nodes).place == place
    assert layout("cpu").place == Place(0, 0, True)  # whatever the job


# ---------------------------------------------------------------- memory and precision


class Counted:
    """How often modules run, in training and not."""

    def __init__(self, modules: list[torch.nn.Module]):
        self.training, self.writing = 0, 0
        for module in modules:
            module.register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, *_: Any) -> None:
        if module.training:
            self.training += 1
        else:
            self.writing += 1


def check_loaded(module: Distillation, start: str) -> None:
    """The student came straight into shards, with its weights; what writes and what teaches are whole."""
    import deepspeed
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    expected = dict(causal_lm(start).named_parameters())
    for name, sharded in module.student.named_parameters():
        assert sharded.numel() == 0
        assert 2 * sharded.ds_tensor.numel() - expected[name].numel() in (0, 1)
        with deepspeed.zero.GatheredParameters([sharded]):
            assert torch.equal(sharded, expected[name])
    others = (module.teacher.model, module.writers.networks[Origin.STUDENT].model)
    assert all(p.numel() and not hasattr(p, "ds_tensor") for other in others for p in other.parameters())
    assert not is_deepspeed_zero3_enabled()


def fitted(run: Run) -> tuple[Counted, list[float | None], dict[str, torch.Tensor]]:
    """How often the first layer's part ran, the losses and the weights afterwards."""
    trainer = run._trainer()
    parts = run._parts(trainer)
    if run.layout.stage == 3:
        check_loaded(parts.module, run.start)
    models = {parts.module.student, parts.module.writers.networks[Origin.STUDENT].model}
    counted = Counted([model.base_model.layers[0].self_attn for model in models])
    run._fit(trainer, parts, None)
    return counted, parts.series.of("train/loss"), {n: p.detach().clone() for n, p in whole(parts.module).items()}


FEW = (
    "plan.steps=2",
    "evaluation.every=0",
    "watch.checkpoint_every=0",
    "watch.noise_every=0",
    "plan.learning_rate=1e-4",
)


def rerun(folder: Path, *overrides: str) -> list[Any]:
    """Fits without and with layers that run again."""
    runs = [
        small_run(folder / str(again), "opd", f"trainer.gradient_checkpointing={again}", *FEW, *overrides)
        for again in ("false", "true")
    ]
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
    return [fitted(run) for run in runs]


def check_rerun(plain: Any, again: Any) -> None:
    (often, losses, weights), (twice, same_losses, same) = plain, again
    assert twice.training == 2 * often.training > 0  # on the way back too
    assert twice.writing == often.writing > 0  # but never while the student writes
    assert losses == pytest.approx(same_losses, rel=1e-6)
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, rtol=0, atol=1e-6)


def test_gpus_that_are_not_there_are_missed_by_number(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        ValueError, match=r"trainer\.devices=1, and this machine has no GPU; choose .*TRAINER=cpu.* DRY=1"
    ):
        small_run(tmp_path, "opd", "trainer=gpu").perform()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"trainer\.devices=4, and this machine has 2 GPUs"):
        small_run(tmp_path, "opd", "trainer=ddp", "trainer.devices=4").layout.trainer()


def test_layers_that_run_again_change_nothing_and_not_while_writing(tmp_path):
    check_rerun(*rerun(tmp_path))


@pytest.mark.slow
def test_layers_run_again_when_they_are_sharded_too(tmp_path):
    for found in in_processes(rerun, tmp_path, "trainer=cpu_zero3"):
        check_rerun(*found)


def halved(folder: Path) -> tuple[Any, ...]:
    """ZeRO in bfloat16 with steps smaller than bfloat16 can add: types, first and last loss, how far it came."""
    stages = {}
    for stage in (1, 3):
        options = (f"trainer=cpu_zero{stage}", "trainer.precision=bf16-mixed", "plan.steps=6", "plan.warmup=0")
        run = small_run(folder / str(stage), "opd", *FEW, *options, "plan.learning_rate=3e-5", "plan.decay=constant")
        run.folder.mkdir(parents=True, exist_ok=True)
        trainer = run._trainer()
        parts = run._parts(trainer)
        seen: dict[str, Any] = {}

        def look(seen: dict[str, Any] = seen, parts: Any = parts) -> None:
            adam = parts.module.update.adam
            masters = list(adam.state)
            seen["types"] = {value.dtype for value in masters}
            seen["student"] = {p.dtype for p in parts.module.student.parameters()}
            seen["masters"] = torch.cat([value.detach().flatten().clone() for value in masters])
            seen.setdefault("first", seen["masters"])

        parts.moments.on_train_batch_end = lambda *_: look()
        run._fit(trainer, parts, None)
        moved = (seen["masters"] - seen["first"]).abs()
        stages[stage] = (seen["types"], seen["student"], float(moved.max()), parts.series.of("grad/norm"))
    return tuple(stages.values())


@pytest.mark.slow
def test_bfloat16_under_zero_keeps_the_weights_in_float32(tmp_path):
    for stages in in_processes(halved, tmp_path):
        for masters, student, moved, norms in stages:
            assert masters == {torch.float32}
            assert student == {torch.bfloat16}
            assert 1e-4 < moved < 3e-4  # five steps of 3e-5 add up, of which bfloat16 would lose each
            assert all(0 < norm < 100 for norm in norms)
        assert stages[0][3] == pytest.approx(stages[1][3], rel=0.05)


def offloaded(folder: Path) -> list[tuple[str, Any]]:
    found = []
    for name, options in (("kept", ()), ("offloaded", ("trainer.offload=true",))):
        record = small_run(folder / name, "opd", *FEW, "trainer=cpu_zero3", *options).perform()
        found.append((record["status"] + record["reason"], record["training"]))
    return found


@pytest.mark.slow
def test_offloading_changes_nothing(tmp_path):
    for (status, kept), (other, elsewhere) in in_processes(offloaded, tmp_path):
        assert status == other == "finished"
        assert elsewhere["gradient_norm"] == pytest.approx(kept["gradient_norm"], rel=1e-6)
        assert elsewhere["reverse_kl"] == pytest.approx(kept["reverse_kl"], rel=1e-5)
