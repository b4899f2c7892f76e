"""How models are read: in which type and with what attention, whose code may run, and where a teacher waits."""

import json
import shutil

import pytest
import torch

from opd_bench.configs import conf_dir
from opd_bench.models.load import located
from opd_bench.models.network import Network, frozen
from opd_bench.models.reading import StudentReading, TeacherReading
from opd_bench.reporting.record import outcome
from tests.families import tiny
from tests.runs import small_run

PLAIN = {"revision": None, "dtype": "float32", "attention": None, "trust": None}
TEACHER = {**PLAIN, "quantised": None, "rests_on_cpu": False}
STUDENT = {**PLAIN, "lora_rank": None, "lora_alpha": 16.0, "lora_dropout": 0.0, "lora_layers": "all-linear"}
CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own_kind"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_type_and_attention_are_as_asked_for(dtype, attention):
    reading = TeacherReading(**{**TEACHER, "dtype": dtype, "attention": attention})
    model = reading.teacher("embedded/teacher", torch.device("cpu"))
    assert model.dtype == getattr(torch, dtype)
    assert model.config._attn_implementation == attention
    assert StudentReading(**{**STUDENT, "attention": attention}).model("embedded/teacher").dtype == torch.float32


def test_wrong_settings_are_refused_by_name():
    with pytest.raises(ValueError, match=r"StudentReading.dtype must be one of float32, bfloat16, got 'float16'"):
        StudentReading(**{**STUDENT, "dtype": "float16"})
    with pytest.raises(ValueError, match=r"teacher.quantised and teacher.rests_on_cpu exclude each other"):
        TeacherReading(**{**TEACHER, "quantised": "4bit", "rests_on_cpu": True})
    with pytest.raises(ValueError, match=r"no model from 'embedded/teacher': .*nonsense"):
        TeacherReading(**{**TEACHER, "attention": "nonsense"}).model("embedded/teacher")


def test_quantising_needs_its_library_and_says_so():
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"no model from 'embedded/teacher': .*bitsandbytes"):
            TeacherReading(**{**TEACHER, "quantised": "4bit"}).teacher("embedded/teacher", torch.device("cpu"))
    else:
        pytest.skip("bitsandbytes is installed")


def test_a_models_own_code_runs_for_whoever_is_named_alone(tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(located("embedded/teacher"), folder)
    marker = tmp_path / "was here"
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n{CODE}")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_kind",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    for trust in (None, "embedded/teacher"):
        with pytest.raises(ValueError, match="no model from"):
            TeacherReading(**{**TEACHER, "trust": trust}).model(str(folder))
    assert not marker.exists()
    model = TeacherReading(**{**TEACHER, "trust": str(folder)}).model(str(folder))
    assert marker.exists()
    assert type(model).__name__ == "OwnModel"


def test_a_resting_teacher_is_where_it_is_read_only_meanwhile(monkeypatch):
    """Where it goes, on a machine that has nowhere else: `meta`, from which weights don't come back."""
    model, places = frozen(tiny("llama")), []
    monkeypatch.setattr(model, "to", lambda device: places.append(str(device)))
    network, read = Network(model, rests_from=torch.device("meta")), torch.device("meta")
    assert network.device == read
    network.move(read)
    assert places == []  # it is not moved for good
    assert network.head.weight.device == read  # a copy, for the loss
    assert model.lm_head.weight.device.type == "cpu"
    with network.present():
        assert places == ["meta"]
    assert places == ["meta", "cpu"]
    with pytest.raises(KeyboardInterrupt), network.present():
        raise KeyboardInterrupt
    assert places == ["meta", "cpu"] * 2  # whatever happened
    with Network(model).present():
        assert len(places) == 4  # one that doesn't rest stays


def test_a_resting_teacher_and_another_attention_change_nothing_that_is_learned(tmp_path):
    def trained(*overrides):
        return small_run(tmp_path, "vopd", "plan.steps=2", "evaluation.every=0", *overrides).perform()

    plain, resting = trained(), trained("teacher.rests_on_cpu=true")
    assert outcome(plain)["training"] == outcome(resting)["training"]
    half = trained("teacher.dtype=bfloat16", "student.attention=eager")
    first = [record["training"]["reverse_kl"]["first"] for record in (plain, half)]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.05)
    digests = {record["protocol"]["digest"] for record in (plain, resting, half)}
    assert len(digests) == 3


def test_every_setting_has_how_both_are_read():
    import yaml

    content = yaml.safe_load((conf_dir() / "setting" / "standard.yaml").read_text())
    assert set(content["student"]) - {"_target_"} == set(STUDENT)
    assert set(content["teacher"]) - {"_target_"} == set(TEACHER)
