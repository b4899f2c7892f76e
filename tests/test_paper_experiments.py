"""The papers' experiments: each says what its paper says, and runs from end to end with models and data made small."""

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from opd_bench.configs import conf_dir, names
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.papers import comparison
from opd_bench.reporting.published import differences, here, metrics, referred
from opd_bench.tasks import sandbox
from opd_bench.training.run import Run
from tests.papers import data, family_of, saved
from tests.runs import composed
from tests.test_experiments import of_experiment

PAPERS = [name for name in names("experiment") if name.startswith(("vopd", "veto", "tropd", "opd_plus", "small_gpu"))]
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
