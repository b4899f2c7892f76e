"""The ruleset `tuned`: rates are chosen by trials on validation, the same for all, and nothing is run twice."""

import json
from itertools import product

import pytest
import yaml
from rich.console import Console

from opd_bench import load_method, method_names
from opd_bench.configs import conf_dir
from opd_bench.reporting.files import RESPONSES, read_responses, read_series
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.protocol import VERSION
from opd_bench.reporting.record import RecordError, find_records, outcome, write_record
from opd_bench.training.run import Run
from opd_bench.tuning import best_rate, with_rate
from tests.runs import composed, configured, small_run

RATES = (0.0003, 0.03)
FEW = ("plan.steps=2", "evaluation.problems=8", "evaluation.every=0", "watch.moments_every=0")
LEFT_OPEN = ("ruleset=tuned", "plan.learning_rate=null", *FEW)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Real trials of two methods, at two rates each."""
    folder = tmp_path_factory.mktemp("results")
    for method, rate in product(("opd", "gkd"), RATES):
        run = small_run(folder, method, "ruleset=trials", f"plan.learning_rate={rate}", "seed=100", *FEW)
        assert run.perform()["status"] == "finished"
    return folder


@pytest.fixture
def judged(trials, tmp_path):
    """The same trials with other shares solved, as the test needs them; None leaves one out."""

    def copies(shares):
        for record in find_records([trials])[0]:
            share = shares.get((record["method"]["name"], record["config"]["plan"]["learning_rate"]))
            own = {key: value for key, value in record.items() if key not in ("id", "created", "schema", "folder")}
            own["config"]["results"] = str(tmp_path)
            place = tmp_path / "/".join(record["folder"].split("/")[-3:])
            place.mkdir(parents=True)
            if isinstance(share, str):
                own |= {"status": share, "reason": "at step 1"}
                own["evaluation"]["after"] = {}
            elif share is not None:
                own["evaluation"]["after"]["mini_gsm"]["sampled"] = share
            if share is not None:
                write_record(place, own)
        return tmp_path

    return copies


BOTH = {("gkd", 0.0003): 0.4, ("gkd", 0.03): 0.4}


@pytest.mark.parametrize(
    ("low", "high", "best"),
    [(0.2, 0.3, 0.03), (0.3, 0.2, 0.0003), (0.3, 0.3, 0.0003), ("nan", 0.1, 0.03), (0.1, "diverged", 0.0003)],
    ids=["the higher", "the lower", "the smaller of equals", "one that failed", "the other one that failed"],
)
def test_the_best_of_the_rates_tried_is_taken(judged, low, high, best):
    folder = judged(BOTH | {("opd", 0.0003): low, ("opd", 0.03): high})
    config = with_rate(configured(folder, "opd", *LEFT_OPEN))
    assert config["plan"]["learning_rate"] == best
    assert with_rate(config) == config


def test_a_method_without_all_the_trials_that_others_have_is_told_which(judged):
    folder = judged(BOTH | {("opd", 0.0003): 0.2})
    with pytest.raises(RecordError, match=r"of opd on standard there are none at 0.03 \(seed 100\).*experiment=trials"):
        best_rate(configured(folder, "opd", *LEFT_OPEN))
    assert best_rate(configured(folder, "gkd", *LEFT_OPEN)) == 0.0003


@pytest.mark.parametrize(
    "changed", ["method.source._target_=x", "plan.prompts=4", "task.largest=50", "setting=mismatch"]
)
def test_trials_under_other_conditions_are_none(trials, changed):
    config = configured(trials, "opd", *LEFT_OPEN, *([changed] if "_target_" not in changed else []))
    if "_target_" in changed:
        config["method"] = configured(trials, "vopd")["method"]
    with pytest.raises(RecordError, match="there are none"):
        best_rate(config)


def test_neither_are_those_from_another_start_or_of_another_version_of_the_protocol(trials, monkeypatch):
    config = configured(trials, "opd", *LEFT_OPEN)
    assert best_rate(config) in RATES
    with pytest.raises(RecordError, match="there are none"):
        best_rate(config | {"start": "elsewhere"})
    monkeypatch.setattr("opd_bench.tuning.VERSION", f"{VERSION}.1")
    with pytest.raises(RecordError, match="there are none"):
        best_rate(config)


def test_a_seed_that_chose_can_not_be_run(trials):
    with pytest.raises(RecordError, match="seed 100 chose the learning rate"):
        best_rate(configured(trials, "opd", *LEFT_OPEN, "seed=100"))


def test_a_rate_that_is_said_needs_no_trials(tmp_path):
    for more in (("ruleset=tuned",), ("ruleset=fixed",)):
        config = configured(tmp_path, "opd", *more)
        assert with_rate(config) == config


def test_trials_are_judged_on_validation(trials, tmp_path):
    (trial, *_), _ = find_records([trials])
    run = small_run(tmp_path, "opd", *FEW)
    ids = {line["id"] for line in read_responses(trial)}
    assert ids == {run.tasks.train.problem("validation", 0, number).id for number in range(8)}
    assert trial["tasks"]["mini_gsm"]["data"] != run.judged_on["mini_gsm"]["data"]
    assert not any(row.ranked for table in tables(find_records([trials])[0]) for row in table.rows)


def test_the_same_computation_is_not_made_twice(tmp_path):
    fixed = small_run(tmp_path, "opd", *FEW)
    done = fixed.perform()
    (fixed.folder / RESPONSES).unlink()  # as official ones are, whose digest remains
    tuned = small_run(tmp_path, "opd", "ruleset=tuned", *FEW)
    taken = tuned.record()
    assert (taken["same_as"], taken["protocol"]) == (done["id"], tuned.protocol)
    assert (taken["timing"], taken["files"]) == (done["timing"], done["files"])
    anchors = [tuned.folder.parents[1] / "anchors" / name / "anchor.json" for name in taken["anchors"].values()]
    assert len(anchors) == 2
    assert all(path.exists() for path in anchors)
    assert json.loads((tuned.folder / "record.json").read_text())["id"] == taken["id"]
    again = Run({**tuned.config, "again": True}, Console(quiet=True), bar=False)
    assert again.record() is None
    computed = again.perform()
    assert outcome(computed) | {"config": None} == outcome(taken) | {"config": None}
    here = {**taken, "folder": str(tuned.folder)}
    assert (
        read_series(here)["train/loss"].tolist()
        == read_series({**done, "folder": str(fixed.folder)})["train/loss"].tolist()
    )


@pytest.mark.parametrize("changed", ["plan.learning_rate=0.5", "watch.noise_every=2", "seed=1", "plan.steps=3"])
def test_another_computation_is_not_taken_for_it(tmp_path_factory, changed, trials):
    folder = tmp_path_factory.mktemp("own")
    small_run(folder, "opd", *FEW).perform()
    assert small_run(folder, "opd", "ruleset=tuned", *FEW, changed).record() is None


def test_a_run_that_failed_is_not_taken_over(tmp_path):
    fixed = small_run(tmp_path, "opd", *FEW)
    done = {key: value for key, value in fixed.perform().items() if key not in ("id", "created", "schema", "folder")}
    tuned = small_run(tmp_path, "opd", "ruleset=tuned", *FEW)
    write_record(fixed.folder, done | {"status": "nan", "reason": "at step 1"})
    assert tuned.record() is None
    write_record(fixed.folder, done)
    assert tuned.record()["status"] == "finished"


def test_sweeps_have_all_methods_that_are_no_diagnostics():
    ranked = yaml.safe_load((conf_dir() / "experiment/common/ranked.yaml").read_text())
    names = [name.strip() for name in ranked["hydra"]["sweeper"]["params"]["method"].split(",")]
    assert sorted(names) == [name for name in method_names() if not load_method(name).estimator.about.warning]
    official = yaml.safe_load((conf_dir() / "experiment/official.yaml").read_text())
    assert official["results"] == f"results/official/{VERSION}"
    plan = composed("bench", "name=opd", "experiment=tuned")["plan"]
    assert plan == composed("bench", "name=opd", "experiment=trials")["plan"] | {"learning_rate": None}
