"""Checkpoints are whole or not there, and a run goes on from one as if it had never stopped, whatever saved it."""

import os
import shutil
import warnings
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from opd_bench.reporting.record import RecordError, find_records, outcome
from opd_bench.training.checkpoints import MANIFEST, STATE, damage, manifest, newest
from opd_bench.training.lock import locked
from opd_bench.training.run import Run
from tests.ranks import in_processes
from tests.runs import series_of, small_run

STRATEGIES = ("ddp", "zero1", "zero2")
CUT = ("watch.time_limit=1e-9", "watch.checkpoint_every=5", "evaluation.every=5")
WHOLE = ("watch.time_limit=null", *CUT[1:])


def cut_and_whole(folder: Path, *overrides: str) -> list[tuple[str, dict[str, Any]]]:
    """Of a run stopped by its time, of the same one that went on, and of one that never stopped: folder and record."""
    stopped = small_run(folder / "cut", "tropd", *overrides, *CUT).perform()
    runs = [small_run(folder / name, "tropd", *overrides, *WHOLE) for name in ("cut", "whole")]
    return [(folder, stopped), *((run.folder, run.perform()) for run in runs)]


def tensors(place: Path) -> dict[str, torch.Tensor]:
    """Every tensor that a checkpoint has, by file and place in it."""
    found: dict[str, torch.Tensor] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(f"{name}/{key}", item)
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value):
                walk(f"{name}/{number}", item)

    for file in manifest(place)["files"]:
        if file.endswith((".pt", ".ckpt")):
            walk(file, torch.load(place / file, weights_only=False, map_location="cpu"))
    return found


def check_same(found: list[list[tuple[Any, dict[str, Any]]]]) -> None:
    (_, stopped), (cut, resumed), (whole, uncut) = found[0]
    assert (stopped["status"], stopped["budget"]["steps"]) == ("timeout", 1)
    assert resumed["status"] == uncut["status"] == "finished"
    resumed, uncut = outcome(resumed), outcome(uncut)
    for record in (resumed, uncut):
        del record["config"]["results"]
    assert resumed == uncut
    last = [tensors(newest(folder / "checkpoints")[0]) for folder in (cut, whole)]
    assert last[0].keys() == last[1].keys()
    assert len(last[0]) > 10
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_one_process_goes_on_to_the_bit(tmp_path):
    check_same([cut_and_whole(tmp_path)])


@pytest.mark.parametrize("strategy", [*(pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES), "zero3"])
def test_several_processes_go_on_to_the_bit(tmp_path, strategy):
    check_same(in_processes(cut_and_whole, tmp_path, f"trainer=cpu_{strategy}"))


def performed(folder: Path, *overrides: str) -> str:
    """What becomes of a run, in words."""
    try:
        record = small_run(folder, "opd", *overrides).perform()
    except (ValueError, RecordError) as error:
        return str(error)
    return f"{record['status']} after step {record['budget']['steps']}"


def changed_world(folder: Path) -> list[str]:
    small = ("plan.steps=2", "watch.checkpoint_every=1", "evaluation.every=0")
    two = performed(folder, "trainer=cpu_zero1", *small, "watch.time_limit=1e-9")
    return [two, performed(folder, "trainer=cpu_zero2", *small)]


def test_another_number_of_processes_or_another_strategy_is_an_error_with_the_way_out(tmp_path):
    for stopped, other in in_processes(changed_world, tmp_path):
        assert stopped == "timeout after step 1"
        assert "was saved by trainer.strategy=zero1 over 2 processes, and this run has zero2 over 2" in other
    small = ("plan.steps=2", "watch.checkpoint_every=1", "evaluation.every=0")
    alone = performed(tmp_path, *small)
    assert "checkpoints/step000001 was saved by" in alone
    assert "this run has one over 1" in alone
    for way in ("again=true", "python -m opd_bench.export", "start=OUT"):
        assert way in alone
    assert performed(tmp_path, *small, "again=true") == "finished after step 2"


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory) -> Run:
    """A finished run with the newest two of its three checkpoints."""
    run = small_run(tmp_path_factory.mktemp("run"), "opd", "evaluation.every=0")
    run.perform()
    return run


def test_the_newest_are_kept_and_the_last_step_is_among_them(two_checkpoints, tmp_path):
    names = sorted(path.name for path in (two_checkpoints.folder / "checkpoints").iterdir())
    assert names == ["step000004", "step000006"]
    run = small_run(tmp_path, "opd", "plan.steps=3", "watch.checkpoints_kept=1", "evaluation.every=0")
    run.perform()
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step000003"]
    assert newest(tmp_path / "nowhere") == (None, [])


def truncated(place: Path) -> None:
    os.truncate(place / STATE, 1000)


def flipped(place: Path) -> None:
    with (place / STATE).open("r+b") as file:
        file.seek(200_000)
        byte = file.read(1)
        file.seek(200_000)
        file.write(bytes([byte[0] ^ 1]))


def without_manifest(place: Path) -> None:
    (place / MANIFEST).unlink()


def without_file(place: Path) -> None:
    (place / STATE).unlink()


def odd_manifest(place: Path) -> None:
    (place / MANIFEST).write_text("[]")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (truncated, "state.ckpt has 1,000 bytes of "),
        (flipped, "is not what was written"),
        (without_manifest, "manifest.json"),
        (without_file, "state.ckpt"),
        (odd_manifest, "list"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(two_checkpoints, tmp_path, harm, words):
    run = small_run(tmp_path, "opd", "evaluation.every=0")
    shutil.copytree(two_checkpoints.folder, run.folder)
    last = run.folder / "checkpoints" / "step000006"
    assert not damage(last)
    harm(last)
    (run.folder / "record.json").unlink()
    with pytest.warns(UserWarning, match="Going on from step000004") as told:
        record = run.perform()
    (text,) = [str(warning.message) for warning in told if "is damaged" in str(warning.message)]
    assert f"{last} is damaged: " in text
    assert words in text
    assert outcome(record)["training"] == outcome(find_records([two_checkpoints.folder])[0][0])["training"]
    assert series_of(run)["train/loss"] == series_of(two_checkpoints)["train/loss"]
    assert not damage(last)  # the step was done again


def test_where_there_is_no_room_for_a_checkpoint_the_run_goes_on_and_says_so(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**20, 2**20))
    with pytest.warns(
        UserWarning, match=r"no checkpoint of step000006: it needs 2 MiB, and .* has 1\. The run goes on"
    ):
        record = small_run(tmp_path, "opd", "watch.checkpoint_every=6").perform()
    assert record["status"] == "finished"
    assert not list(tmp_path.rglob("step*"))


def test_what_a_killed_process_left_half_written_is_removed(two_checkpoints, tmp_path):
    run = small_run(tmp_path, "opd", "plan.steps=2")
    left = run.folder / "checkpoints" / "step000002.part"
    left.mkdir(parents=True)
    (left / STATE).write_text("half")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # it is no checkpoint, so nothing is told
        assert newest(left.parent) == (None, [])
    run.perform()
    assert [path.name for path in left.parent.iterdir()] == ["step000002"]


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    run = small_run(tmp_path, "opd", "plan.steps=1", "evaluation.every=0")
    run.folder.mkdir(parents=True)
    with locked(run.folder), pytest.raises(RecordError, match=rf"in use by process {os.getpid()} on .*results=FOLDER"):
        run.perform()
    assert not (run.folder / "record.json").exists()
    assert run.perform()["status"] == "finished"
