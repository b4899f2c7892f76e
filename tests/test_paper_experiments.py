"""The papers' experiments: each says what its paper says, and runs from end to end with models and data made small."""

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from opd_bench.configs import names
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.papers import comparison
from opd_bench.reporting.published import differences, here, metrics, referred
from opd_bench.tasks import sandbox
from opd_bench.training.closing import closing
from opd_bench.training.run import Run
from tests.papers import data, saved
from tests.runs import composed
from tests.test_experiments import EMBEDDED, of_experiment

PAPERS = [
    name
    for name in names("experiment")
    if name.startswith(("vopd", "veto", "tropd", "opd_plus", "small_gpu")) and name not in EMBEDDED
]
HEADLINE = {"vopd": "vopd", "veto": "veto", "tropd": "tropd", "opd": "opd_plus", "small": "vopd"}
SIZES = (
    *("trainer=cpu", "plan.steps=2", "plan.prompts=2", "plan.micro_batches=2", "plan.response_limit=6"),
    *("plan.chunk=16", "evaluation.problems=2", "evaluation.samples=2", "evaluation.every=2", "evaluation.batch=4"),
    *("evaluation.validation_problems=2", "watch.moments_every=1", "watch.prefixes=2", "watch.redraws=2"),
    *("watch.noise_every=1", "watch.checkpoint_every=1"),
)


def headline(experiment):
    return HEADLINE[experiment.split("_")[0]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folders of a student and a teacher for the two names of an experiment; the teacher's head is the wider one."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def of(student, teacher):
        for name, rows, seed in ((student, 448, 0), (teacher, 512, 1)):
            if (name, rows) not in made:
                made[name, rows] = saved(folder / str(len(made)), name, rows, seed)
        return made[student, 448], made[teacher, 512]

    return of


@pytest.fixture
def small(files, pairs, monkeypatch):
    """A run of an experiment, of which nothing is other than sizes and places."""
    monkeypatch.setenv("OPD_BENCH_DATA", str(files))

    def of(folder, experiment, method, *more):
        chosen = (f"experiment={experiment}", f"method={method}", f"name={method}", f"results={folder}")
        usual = composed("bench", *chosen)
        if "humaneval" in usual["tests"]:
            if lack := sandbox.lacking():
                pytest.skip(lack)
            more = (*more, "run_code=true")
        if usual["evaluation"]["response_limit"]:
            more = (*more, "evaluation.response_limit=8")
        more = (*more, *(f"evaluation.samples_of.{name}=3" for name in usual["evaluation"]["samples_of"]))
        student, teacher = pairs(usual["models"]["starts"][0], usual["models"]["teacher"])
        models = (f"models.teacher={teacher}", f"models.starts=[{student}]")
        return Run(composed("bench", *chosen, *SIZES, *models, *more), Console(quiet=True), bar=False)

    return of


@pytest.mark.parametrize("experiment", PAPERS)
def test_an_experiment_runs_from_end_to_end(small, tmp_path, experiment):
    checked(small(tmp_path, experiment, headline(experiment)), experiment)


OPEN = {
    "vopd": {"training prompts", "gradient clip", "checkpoint", "hardware"},
    "veto": {
        *("student", "teacher", "training prompts", "trained parameters", "precision", "steps", "rollouts per prompt"),
        *("weight decay", "response limit", "loss normalisation", "checkpoint", "hardware"),
        *("evaluation samples", "evaluation temperature", "evaluation top-p", "evaluation limit"),
    },
    "tropd": {
        *("trained parameters", "precision", "optimiser", "warm-up steps", "loss normalisation", "checkpoint"),
        *("evaluation temperature", "evaluation top-p", "evaluation limit", "hardware"),
    },
    "opd_plus": {
        *("student", "teacher", "training prompts", "trained parameters", "precision", "steps", "prompts per step"),
        *("learning rate", "optimiser", "schedule", "warm-up steps", "weight decay", "gradient clip"),
        *("response limit", "sampling top-p", "loss normalisation", "evaluation samples", "evaluation temperature"),
        *("evaluation top-p", "evaluation limit", "checkpoint", "hardware"),
    },
}
"""Fields that a paper leaves open, says of several experiments at once, or that are known to be otherwise here."""
OTHERWISE = {"vopd_olmo3_7b": {"student"}, "tropd_qwen3": {"student", "teacher", "evaluation samples"}}


@pytest.mark.parametrize("experiment", [name for name in PAPERS if name != "small_gpu"])
def test_an_experiment_is_set_up_as_its_paper_says(experiment):
    """Everything that can be compared as it stands is the same; `OPEN` has the rest."""
    config = composed("bench", f"experiment={experiment}", "method=opd", "name=opd")
    models = {"student": {"name": config["models"]["starts"][0]}, "teacher": {"name": config["models"]["teacher"]}}
    group = referred(config["published"])
    found = {one.field for one in differences(group.setup, here({"config": config, "models": models}))}
    (still,) = (fields for name, fields in OPEN.items() if experiment.startswith(name))
    assert found == still | OTHERWISE.get(experiment, set())


@pytest.mark.parametrize("experiment", [name for name in PAPERS if name != "small_gpu"])
def test_an_experiment_has_the_methods_and_tests_of_its_table(experiment):
    config, _, sweep = of_experiment(experiment)
    group = referred(OmegaConf.to_container(config.published))
    theirs = {name.partition("[")[0] for name in group.our_names if name and not name.startswith("(")}
    assert set(sweep["method"].split(",")) - {"opd"} == theirs - {"opd"}
    assert {"opd"} <= set(sweep["method"].split(","))
    assert set(config.tests) <= {metrics()[name].task for name in group.metrics}


@pytest.mark.parametrize(
    ("experiment", "values"),
    [
        ("veto_gsm8k", {"response limit": "768", "evaluation limit": "512"}),
        ("veto_code", {"response limit": "2048", "evaluation limit": "768", "evaluation top-p": "0.95"}),
        ("veto_summ", {"response limit": "1152"}),
        ("opd_plus_qwen3_8b", {"response limit": "4096", "learning rate": "0.0001", "steps": "100"}),
    ],
)
def test_what_a_paper_says_of_several_experiments_at_once_is_so_in_each(experiment, values):
    config = composed("bench", f"experiment={experiment}", "method=opd", "name=opd")
    found = here({"config": config})
    stated = referred(config["published"]).setup
    for field, value in values.items():
        assert found[field] == value
        assert f"{float(value):g}" in stated[field].value.replace("1e-4", "0.0001")


def test_models_that_are_not_public_are_refused_by_name(files, monkeypatch, tmp_path):
    monkeypatch.setenv("OPD_BENCH_DATA", str(files))
    config = composed("bench", "experiment=tropd_qwen3", "method=opd", "name=opd", "trainer=cpu", f"results={tmp_path}")
    with pytest.raises(ValueError, match=r"no model from 'Qwen3-SFT-1.7B \(not public\)': there is no such folder"):
        Run(config, Console(quiet=True), bar=False).perform()
    assert not list(tmp_path.rglob("record.json"))


def test_the_table_at_the_end_names_its_tests_and_how_answers_were_drawn(small, tmp_path, capsys):
    run = small(tmp_path, "vopd_qwen3_1.7b", "opd", "plan.steps=1")
    closing(Console(width=100), run, run.perform(), brief=False, done=False)
    shown = capsys.readouterr().out
    assert [name for name in run.config["tests"] if f"\n  {name} " in shown] == list(run.config["tests"])
    assert shown.count("solved, sampled at T = 0.6, top-p 0.9") == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "method"),
    [
        (name, method)
        for name in PAPERS
        for method in of_experiment(name)[2]["method"].split(",")
        if method != headline(name)
    ],
)
def test_all_methods_of_an_experiment_run(small, tmp_path, experiment, method):
    checked(small(tmp_path, experiment, method), experiment)


def checked(run, experiment):
    record = run.perform()
    assert (record["status"], record["reason"]) == ("finished", "")
    assert set(record["evaluation"]["after"]) == set(record["tasks"]) == set(run.config["tests"])
    agreed = record["models"]["pair"]
    assert agreed["vocabulary"]["student"] < agreed["vocabulary"]["teacher"]
    assert agreed["end"] == run.config["prompts"]["end"].split()
    (table,) = tables([record | {"folder": "nowhere"}])
    assert (comparison(table) is None) == (run.config["published"] is None)
