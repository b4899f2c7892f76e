"""Models that are not there, or not whole: said in one sentence with what to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from opd_bench.models import load
from opd_bench.models.load import PACKAGED, causal_lm, fingerprint, tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model, to be spoilt."""
    return shutil.copytree(PACKAGED / "standard-0", tmp_path / "model")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def without_a_norm(path: Path) -> None:
    weights = load_file(path)
    del weights["model.norm.weight"]
    save_file(weights, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("file", "spoil", "reason"),
    [
        ("model.safetensors", Path.unlink, "no file named model.safetensors"),
        ("model.safetensors", cut, "incomplete metadata, file not fully covered"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "header too small"),
        ("model.safetensors", lambda path: path.rename(path.with_name("pytorch_model.bin")), "no file named model.saf"),
        ("model.safetensors", without_a_norm, "its weights lack model.norm.weight"),
        ("config.json", Path.unlink, "Should have a `model_type` key in its config.json"),
        ("config.json", lambda path: path.write_text("{"), "is not a valid JSON file"),
        ("config.json", lambda path: path.write_text('{"model_type": "vit"}'), "AutoModelForCausalLM"),
    ],
)
def test_a_model_that_is_not_whole_is_named_with_the_reason(folder, file, spoil, reason):
    spoil(folder / file)
    with pytest.raises(ValueError, match=re.escape(f"no model from {str(folder)!r}: ")) as caught:
        causal_lm(str(folder))
    assert reason in str(caught.value)
    assert str(caught.value).endswith(
        f"The folder {folder} needs config.json, safetensors and a tokenizer, all whole: make it again"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", [Path.unlink, cut])
def test_a_tokenizer_that_is_not_whole_is_named(folder, spoil):
    spoil(folder / "tokenizer.json")
    with pytest.raises(ValueError, match=re.escape(f"no tokenizer from {str(folder)!r}: ")):
        tokenizer(str(folder))


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "here/is/none"])
def test_a_folder_that_is_not_there_is_said_to_be_so(name):
    for read in (causal_lm, tokenizer):
        with pytest.raises(
            ValueError, match=rf"from '{re.escape(name)}': there is no such folder; it must be embedded/"
        ):
            read(name)


def test_a_packaged_model_without_its_weights_is_named(tmp_path, monkeypatch):
    shutil.copytree(PACKAGED / "standard-0", tmp_path / "standard-0", ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(load, "PACKAGED", tmp_path)
    with pytest.raises(ValueError, match=r"no model from 'embedded/standard-0': .*No such file"):
        fingerprint("embedded/standard-0")


@pytest.mark.slow
def test_the_command_says_so_too_without_a_network(tmp_path):
    command = [sys.executable, "-m", "opd_bench.bench", "models.teacher=nobody/nothing", f"results={tmp_path}"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "error: no model from 'nobody/nothing': no such folder, not in the cache" in result.stderr
    assert "Traceback" not in result.stderr
