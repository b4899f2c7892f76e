"""Real pretrained weights: SmolLM2-135M-Instruct and a student made of it, on GSM8K. `make smollm2` first."""

import math
from pathlib import Path
from statistics import fmean

import pytest

from opd_bench.models import smollm2
from tests.runs import composed, series_of

PAIR = Path(__file__).parents[1] / "smollm2"
METHODS = ("opd", "vopd", "tropd", "veto")
pytestmark = pytest.mark.pretrained


@pytest.fixture(scope="module")
def pair() -> Path:
    if not (PAIR / "student" / "config.json").exists():
        pytest.skip("no smollm2/student: make smollm2")
    return PAIR


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.mark.parametrize("method", METHODS)
def test_a_few_steps_bring_the_student_nearer_to_its_teacher(method, pair, results, real_data):
    from rich.console import Console

    from opd_bench.training.run import Run

    models = (f"models.teacher={pair / 'teacher'}", f"models.starts=[{pair / 'student'}]")
    names = (f"method={method}", f"name={method}", "experiment=smollm2", f"results={results}")
    run = Run(composed("bench", *names, *models), Console(quiet=True), bar=False)
    record = run.perform()
    assert record["status"] == "finished", record["reason"]
    assert record["models"]["pair"]["vocabulary"] == {"shared": 49152, "student": 49152, "teacher": 49152}
    assert record["training"]["sampler_gap"] < 1e-3
    rows = series_of(run)
    divergence, norms = rows["train/reverse_kl"], rows["grad/norm"]
    assert len(divergence) == 10
    assert all(math.isfinite(value) for value in (*divergence, *norms, *rows["train/loss"]))
    assert fmean(divergence[-5:]) < 0.95 * fmean(divergence[:2])


def test_the_package_s_model_is_read_from_its_file(real_data, tmp_path):
    try:
        file = smollm2.weights()
    except ValueError as error:
        pytest.skip(str(error))
    model, words = smollm2.teacher(file)
    student = smollm2.shortened(model)
    assert (len(model.model.layers), len(student.model.layers)) == (30, 21)
    ids = words("2 + 2 =", return_tensors="pt")["input_ids"]
    assert model(ids).logits.isfinite().all()
    assert student.lm_head.weight is student.model.embed_tokens.weight
    for old, new in ((0, 0), (2, 2), (5, 4), (29, 20)):
        mine, theirs = student.model.layers[new].state_dict(), model.model.layers[old].state_dict()
        assert all(mine[name].equal(value) for name, value in theirs.items())
