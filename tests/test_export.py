"""A run's student leaves the house: plain transformers loads it, and it says the very same."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opd_bench.export import RECORD, main
from opd_bench.models.load import tokenizer
from opd_bench.models.lora import merged
from opd_bench.training.module import Distillation
from opd_bench.training.outcomes import Outcome
from opd_bench.training.ranks import is_first
from opd_bench.training.summary import summary
from tests.ranks import in_processes, whole
from tests.runs import small_run

PROMPT = "Ann starts with 3 apples . How many apples does Ann have ?"
PLAIN = f"""
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
folder, out = sys.argv[1:]
model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
ids = words({PROMPT!r}, return_tensors="pt")["input_ids"]
GenerationConfig.from_pretrained(folder)
assert "opd_bench" not in sys.modules
assert model.dtype == torch.float32
torch.save(model(ids).logits.detach(), out)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Distillation]:
    """A run of 6 steps with checkpoints of the last two even ones, and its live student."""
    run = small_run(tmp_path_factory.mktemp("runs"), "opd", "watch.moments_every=0")
    made, parts = run._parts, []
    run._parts = lambda trainer: parts.append(made(trainer)) or parts[0]
    assert run.perform()["status"] == "finished"
    return run.folder, parts[0].module


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """Its folder, to be spoilt."""
    return shutil.copytree(finished[0], tmp_path / "run")


def failure(capsys, *arguments: object) -> str:
    """What is said when nothing is exported."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 1
    return capsys.readouterr().err


def logits_elsewhere(folder: Path, out: Path) -> torch.Tensor:
    """What transformers alone makes of it, in a process that knows nothing of us."""
    command = [sys.executable, "-c", PLAIN, str(folder), str(out)]
    result = subprocess.run(command, cwd=out.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return torch.load(out)


def test_plain_transformers_says_the_same_as_the_live_student(finished, tmp_path, capsys):
    folder, module = finished
    assert main([str(folder), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'out'}: step 6 of 6, float32\n")
    ids = tokenizer("embedded/standard-0")(PROMPT, return_tensors="pt")["input_ids"]
    logits = logits_elsewhere(tmp_path / "out", tmp_path / "logits.pt")
    assert torch.equal(logits, module.student.eval()(ids).logits)
    assert (tmp_path / "out" / RECORD).read_bytes() == (folder / "record.json").read_bytes()
    assert [path.name for path in tmp_path.glob("out*")] == ["out"]


def test_the_card_is_of_the_record(finished, tmp_path):
    folder, _ = finished
    main([str(folder), str(tmp_path / "out")])
    text, record = (tmp_path / "out" / "README.md").read_text(), json.loads((folder / "record.json").read_text())
    after = record["evaluation"]["after"]["mini_gsm"]
    for said in (
        "library_name: ",
        record["method"]["title"],
        record["method"]["formula"],
        record["start"],
        "step 6 of 6, float32",
        f"{after['sampled']:.1%}",
        record["environment"]["command"],
        record["id"],
    ):
        assert said in text
    assert "Not the end" not in text


def test_an_earlier_student_has_no_figures_of_the_last_one(finished, tmp_path, capsys):
    main([str(finished[0]), str(tmp_path / "out"), "--step", "4", "--dtype", "bfloat16"])
    assert capsys.readouterr().out.endswith("step 4 of 6, bfloat16\n")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "**Not the end of training: step 4 of 6.**" in text
    assert "| untrained student | teacher |" in text
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {value.dtype for value in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}


def test_text_of_a_record_stays_text(finished):
    from opd_bench.reporting.card import card
    from opd_bench.reporting.record import read_record

    record = read_record(finished[0] / "record.json")
    record["reason"] = "<script>alert(1)</script> | [link](x)\n# head"
    record["method"] |= {"formula": "```\n<b>out</b>", "deviations": ["<img src=x>"]}
    text = card(record, 6, "float32")
    assert r"&lt;script&gt;alert(1)&lt;/script&gt; \| \[link\](x) \# head" in text
    assert "<img" not in text
    assert "````text\n```\n<b>out</b>\n````" in text


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(run, tmp_path, capsys):
    state = run / "checkpoints" / "step000006" / "state.ckpt"
    state.write_bytes(state.read_bytes()[:-100])
    assert main([str(run), str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "step000006" in said.err
    assert said.out.endswith("step 4 of 6, float32\n")
    assert "step000006 is damaged: state.ckpt has " in failure(capsys, run, tmp_path / "no", "--step", 6)
    state.write_bytes(bytes(state.stat().st_size + 100))  # the size is right, and nothing else
    assert "step000006 is damaged: File is not a zip file" in failure(capsys, run, tmp_path / "no", "--step", 6)
    shutil.rmtree(run / "checkpoints" / "step000004")
    state.unlink()
    assert "no checkpoint in" in failure(capsys, run, tmp_path / "no")
    assert not list(tmp_path.glob("no*"))


def test_what_is_not_there_is_said_with_what_to_do(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert f"no run in {tmp_path / 'none'}: it has no config.json" in failure(capsys, tmp_path / "none", out)
    assert f"there is one in {run}" in failure(capsys, tmp_path, out)
    assert "no checkpoint of step 5" in (said := failure(capsys, run, out, "--step", 5))
    assert "there are 4, 6" in said
    shutil.rmtree(run / "checkpoints")
    assert "watch.checkpoint_every" in failure(capsys, run, out)
    (run / "record.json").write_text("{}")
    assert "record.json: not a record" in failure(capsys, run, out)


def test_a_folder_with_something_in_it_is_left_alone(run, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    assert f"OUT is not empty: {out}" in failure(capsys, run, out)
    assert "OUT is no earlier export" in failure(capsys, run, out, "--force")
    assert "OUT is a file" in failure(capsys, run, out / "mine")
    (out / "mine").unlink()
    assert main([str(run), str(out), "--step", "4"]) == 0
    assert main([str(run), str(out), "--force"]) == 0
    assert "step 6 of 6" in (out / "README.md").read_text()


def test_weights_of_another_model_are_refused_by_name(run, tmp_path, capsys):
    path = run / "checkpoints" / "step000006" / "state.ckpt"
    state = torch.load(path, weights_only=True)
    weights = state["state_dict"]
    weights["student.extra"] = weights.pop("student.model.norm.weight")
    torch.save(state, path)
    manifest = path.with_name("manifest.json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {path.name: path.stat().st_size}}))
    said = failure(capsys, run, tmp_path / "out")
    assert "does not fit the model 'embedded/standard-0'" in said
    assert said.endswith("missing: model.norm.weight; unknown: extra\n")
    assert not (tmp_path / "out").exists()


LOW = ("student.lora_rank=4", "plan.learning_rate=0.01")


def sharded(folder: Path, stages: tuple[int, ...]) -> dict[int, tuple[Path, dict[str, torch.Tensor]]]:
    """A run and the live weights after its two steps, in each stage; of low-rank additions where it is negative."""
    found = {}
    for stage in stages:
        more = ("plan.steps=2", "evaluation.every=0", f"trainer=cpu_zero{abs(stage)}", *(LOW if stage < 0 else ()))
        run = small_run(folder / str(stage), "opd", *more)
        with nullcontext() if run.layout.place.rank else run.claimed():
            trainer = run._trainer()
            parts = run._parts(trainer)
            run._fit(trainer, parts, None)
            if is_first():
                run._write(parts, summary(run, parts, Outcome("finished"), 1.0))
        whole(parts.module)
        student = merged(parts.module.writers.networks[0].model)
        found[stage] = run.folder, {name: value.detach().clone() for name, value in student.named_parameters()}
    return found


@pytest.mark.parametrize("stages", [pytest.param((1, 2, -2), marks=pytest.mark.slow), (3, -3)])
def test_shards_of_two_processes_become_one_model_in_one_process(tmp_path, stages):
    from transformers import AutoModelForCausalLM

    live, _ = in_processes(sharded, tmp_path, stages)
    for stage, (folder, expected) in live.items():
        assert len(list((folder / "checkpoints" / "step000002").rglob("*_optim_states.pt"))) == 2
        assert main([str(folder), str(tmp_path / f"out{stage}")]) == 0
        student = AutoModelForCausalLM.from_pretrained(tmp_path / f"out{stage}")
        weights = dict(student.named_parameters())
        assert weights.keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in weights.items())
        assert student.lm_head.weight is student.model.embed_tokens.weight
