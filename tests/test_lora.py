"""Low-rank additions: they alone learn, are kept, resumed and exported; the model that was read stays what it is."""

import copy
import json
import re

import pytest
import torch
from safetensors.torch import load_file

from opd_bench.export import main
from opd_bench.models.load import causal_lm, digest, tokenizer
from opd_bench.models.lora import LoRA, adapted, is_adapted, merged
from opd_bench.reporting.record import outcome
from opd_bench.training.memory import memory_hint
from tests.families import tiny
from tests.runs import small_run

LOW = ("student.lora_rank=4", "student.lora_alpha=32", "student.lora_dropout=0.1", "plan.learning_rate=0.01")
IDS = torch.tensor([[1, 17, 33, 5, 60, 2]])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_nothing_is_added_at_first_and_merging_changes_nothing(family):
    plain = tiny(family)
    said = plain(IDS).logits
    model = adapted(copy.deepcopy(plain), LoRA(3, 6.0, 0.0, "all-linear"), seed=0).eval()
    torch.testing.assert_close(model(IDS).logits, said)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    changed = model(IDS).logits
    assert (changed - said).abs().max() > 0.01
    whole = merged(model)
    torch.testing.assert_close(whole(IDS).logits, changed, rtol=1e-4, atol=1e-4)
    assert whole.state_dict().keys() == plain.state_dict().keys()
    assert is_adapted(model)
    assert not is_adapted(whole)
    torch.testing.assert_close(model(IDS).logits, changed)  # a copy was merged


def test_additions_depend_on_the_seed_and_learn_in_float32():
    lora = LoRA(3, 6.0, 0.0, "q_proj,v_proj")
    models = [adapted(tiny("llama", dtype=torch.bfloat16).bfloat16(), lora, seed) for seed in (0, 0, 1)]
    first = [next(value for name, value in model.named_parameters() if "lora_A" in name) for model in models]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    types = {(value.requires_grad, value.dtype) for value in models[0].parameters()}
    assert types == {(True, torch.float32), (False, torch.bfloat16)}
    assert sum("lora_A" in name for name, _ in models[0].named_parameters()) == 2 * 2


def test_unknown_layers_are_refused_by_name():
    with pytest.raises(ValueError, match=r"student.lora_layers='nowhere': Target modules"):
        adapted(tiny("llama"), LoRA(3, 6.0, 0.0, "nowhere"), 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six steps, and its live student."""
    run = small_run(tmp_path_factory.mktemp("runs"), "vopd", *LOW, "watch.weights_every=6")
    made, parts = run._parts, []
    run._parts = lambda trainer: parts.append(made(trainer)) or parts[0]
    record = run.perform()
    assert record["status"] == "finished", record["reason"]
    return run, record, parts[0].module.student.eval()


def test_the_additions_alone_learn_and_are_all_that_checkpoints_have(finished):
    run, record, student = finished
    start = dict(causal_lm(run.start).named_parameters())
    for name, value in student.named_parameters():
        plain = name.replace(".base_layer", "")
        assert value.requires_grad == (plain not in start)
        if plain in start:
            assert torch.equal(value, start[plain])
    assert record["models"]["student"]["digest"] == digest(causal_lm(run.start))
    assert record["training"]["reverse_kl"]["last"] < record["training"]["reverse_kl"]["first"]
    state = torch.load(run.folder / "checkpoints" / "step000006" / "state.ckpt", weights_only=True)
    assert all("lora_" in name for name in state["state_dict"])
    budget = record["budget"]
    every = sum(value.numel() for value in student.parameters())
    learning = sum(value.numel() for value in student.parameters() if value.requires_grad)
    teacher = causal_lm("embedded/teacher").num_parameters()
    trained = budget["tokens_read"] * (4 * every + 2 * learning + 2 * teacher)
    assert learning < every / 5
    assert budget["flops"] == trained + 2 * budget["student_tokens"] * every


def test_layers_that_run_again_change_nothing(tmp_path):
    def trained(*overrides):
        run = small_run(tmp_path, "vopd", *LOW, "plan.steps=2", "evaluation.every=0", "again=true", *overrides)
        return run.perform()["training"]["gradient_norm"]

    assert trained() == pytest.approx(trained("trainer.gradient_checkpointing=true"), rel=1e-5)


def test_a_hint_at_memory_counts_what_learns(tmp_path):
    sizes = [memory_hint(small_run(tmp_path, "opd", *more)._parts().module) for more in ((), LOW)]
    found = [re.search(r"\(([\d.]+ .iB) with gradient", size)[1] for size in sizes]
    assert found == ["2.13 MiB", "705.2 KiB"]


def test_a_stopped_run_goes_on_to_the_same_end(finished, tmp_path):
    run, record, _ = finished
    stopped = small_run(tmp_path, "vopd", *LOW, "watch.weights_every=6", "watch.time_limit=1e-6")
    assert stopped.perform()["status"] == "timeout"
    config = stopped.config
    config["watch"]["time_limit"] = None
    (stopped.folder / "config.json").write_text(json.dumps(config))
    again = type(stopped)(config, stopped.console, bar=False)
    second = again.perform()
    assert second["status"] == "finished"
    assert outcome(second)["training"] == outcome(record)["training"]
    states = [
        torch.load(one.folder / "checkpoints" / "step000006" / "state.ckpt", weights_only=True) for one in (run, again)
    ]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])


def test_plain_transformers_loads_what_is_exported_and_what_is_kept(finished, tmp_path):
    run, _, student = finished
    assert main([str(run.folder), str(tmp_path / "out")]) == 0
    ids = tokenizer(run.start)("Ann has 3 apples .", return_tensors="pt")["input_ids"]
    for folder in (tmp_path / "out", run.folder / "weights" / "step000006"):
        torch.testing.assert_close(causal_lm(str(folder)).eval()(ids).logits, student(ids).logits, rtol=1e-4, atol=1e-4)
        assert not any("lora" in name for name in load_file(folder / "model.safetensors"))
