"""A run: its gradient, its record, what it survives and what it leaves behind."""

import json
import math
import shutil
import time
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from opd_bench import load_method, method_names
from opd_bench.models.load import causal_lm, digest
from opd_bench.models.network import Network
from opd_bench.reporting.files import read_responses
from opd_bench.reporting.record import find_records, outcome
from opd_bench.reporting.verdicts import figures_of
from opd_bench.rollouts.policies import Writers
from opd_bench.training import run as run_module
from opd_bench.training.checkpoints import STATE, newest
from opd_bench.training.closing import closing
from opd_bench.training.evaluation import PassAtK
from opd_bench.training.plan import Plan
from opd_bench.training.series import norms
from tests import dense
from tests.runs import series_of, small_run


class Witness(pl.Callback):
    """Copies of what the first step did."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.global_step == 0:
            self.rollout = module.rollout
            self.uniform = torch.cat([batch.uniform for batch in module.seen.batches])
            self.gradients = {
                name: p.grad.clone() for name, p in module.student.named_parameters() if p.grad is not None
            }


class KilledError(BaseException):
    """Ends a run as a signal would: nothing gets to clean up after it."""


class Killer(pl.Callback):
    """In the middle of step `step`, when its rollouts are made."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise KilledError


@pytest.fixture
def with_callback(monkeypatch):
    """Give the next runs one more callback."""

    def give(callback):
        monkeypatch.setattr(run_module.Run, "_extras", lambda run, old=run_module.Run._extras: [*old(run), callback])

    return give


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where runs of this file may share the verdicts on their start and on their teacher."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def finished(place):
    """Small runs that several tests look at, each made once: what it is and its record. Change nothing of them."""
    known = {}

    def of(method, *overrides):
        if (method, *overrides) not in known:
            run = small_run(place, method, *overrides)
            known[method, *overrides] = run, run.perform()
        return known[method, *overrides]

    return of


BARE = ("plan.steps=1", "evaluation.problems=1", "evaluation.samples=1", "watch.moments_every=0")
"""One step, and as little as can be of what is not the step."""


# ---------------------------------------------------------------- the gradient


@pytest.mark.parametrize("method", ["opd", "vopd_topk", "gkd", "tropd", "reopold", "minillm", "skd", "sft"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_step_s_gradient_is_that_of_the_dense_loss(place, with_callback, method, pieces):
    """From the models' own full logits, prompt and padding included, whatever the number of micro-batches."""
    with_callback(witness := Witness())
    small_run(place, method, f"plan.micro_batches={pieces}", "plan.chunk=37", "plan.clip=null", *BARE).perform()
    student, teacher, rollout = causal_lm("embedded/standard-0"), causal_lm("embedded/teacher"), witness.rollout
    position = (rollout.mask.long().cumsum(-1) - 1).clamp_min(0)
    logits = [
        model(rollout.ids, attention_mask=rollout.mask.long(), position_ids=position).logits
        for model in (student, teacher)
    ]
    fields = (rollout.ids, rollout.response, rollout.origin, rollout.behaviour_logp)
    batch = dense.ScoredBatch(*(x[:, :-1] for x in logits), *(x[:, 1:] for x in fields), witness.uniform)
    dense.batch_loss(load_method(method).estimator, [batch], 0.0).backward()
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(witness.gradients[name], parameter.grad, rtol=1e-3, atol=2e-5)


def test_the_first_rollouts_of_a_seed_are_the_same_for_every_method_and_other_at_another(tmp_path, with_callback):
    """Guided rows come after the ordinary ones, and leave them as they are."""
    with_callback(witness := Witness())
    written = {}
    for method in ("opd", "vopd", "opd_full", "veto", "tropd", "reopold", "eopd", "opd_plus"):
        for seed in (0, 2):  # both from the same start
            small_run(tmp_path, method, *BARE, f"seed={seed}").perform()
            ids, mask = witness.rollout.ids[:8], witness.rollout.mask[:8]
            written.setdefault(seed, []).append([row[kept].tolist() for row, kept in zip(ids, mask, strict=True)])
    assert all(other == written[0][0] for other in written[0])
    assert all(other == written[2][0] for other in written[2])
    assert written[0][0] != written[2][0]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["standard", "mismatch"])
@pytest.mark.parametrize("method", method_names())
def test_every_method_runs_to_its_end(tmp_path, method, setting):
    run = small_run(tmp_path, method, f"setting={setting}")
    record = run.perform()
    assert (record["status"], record["reason"]) == ("finished", "")
    assert record["budget"]["steps"] == 6
    assert all(math.isfinite(value) for value in series_of(run)["train/loss"])


def test_the_teacher_is_neither_trained_nor_saved(tmp_path):
    run = small_run(tmp_path, "opd", *BARE, "watch.checkpoint_every=1")
    before = digest(causal_lm("embedded/teacher"))
    parts = run._parts()
    run.folder.mkdir(parents=True)
    run._fit(run._trainer(), parts, None)
    assert digest(parts.module.teacher.model) == before
    assert digest(parts.module.student) != digest(causal_lm(run.start))
    saved = torch.load(newest(run.folder / "checkpoints")[0] / STATE, weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} == {"student"}


def test_where_student_and_teacher_agree_there_is_nothing_to_learn(tmp_path):
    """Tokens, log-probabilities and positions are aligned: off by one anywhere and r would be large."""
    run = small_run(tmp_path, "tropd", "models.starts=[embedded/teacher]", *BARE)
    run.perform()
    series = series_of(run)
    assert abs(series["train/log_ratio"][0]) < 1e-5
    assert abs(series["train/reverse_kl"][0]) < 1e-5
    assert series["train/overlap"][0] > 0.999


# ---------------------------------------------------------------- the record


@pytest.mark.parametrize("method", ["tropd", "gkd", "seqkd"])
def test_a_run_killed_at_any_step_ends_with_the_record_of_an_uncut_one(finished, tmp_path, monkeypatch, method):
    whole = outcome(finished(method)[1])
    folder, extras = tmp_path / "cut", run_module.Run._extras
    for step in (1, 3, 5):  # before the first checkpoint, between two, after the last
        monkeypatch.setattr(run_module.Run, "_extras", lambda run, step=step: [*extras(run), Killer(step)])
        with pytest.raises(KilledError):
            small_run(folder, method).perform()
    monkeypatch.setattr(run_module.Run, "_extras", extras)
    cut = outcome(small_run(folder, method).perform())
    for record in (whole, cut):
        record["config"] = {key: value for key, value in record["config"].items() if key != "results"}
    assert json.dumps(cut, sort_keys=True) == json.dumps(whole, sort_keys=True)


def test_a_finished_run_is_not_run_again_unless_asked(finished, place, tmp_path):
    _, first = finished("opd")
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    assert small_run(tmp_path, "opd").record()["id"] == first["id"]
    assert small_run(tmp_path, "opd", "again=true").record() is None
    assert small_run(tmp_path, "opd", "seed=5").record() is None
    second = small_run(tmp_path, "opd", "again=true").perform()
    one, two = outcome(first), outcome(second)
    for record in (one, two):
        record["config"] = {key: value for key, value in record["config"].items() if key not in ("again", "results")}
    assert one == two


def test_seeds_start_from_different_students_and_draw_differently(finished):
    runs, records = zip(*(finished("opd", *seed) for seed in ((), ("seed=1",), ("seed=2",))), strict=True)
    assert [record["seed"] for record in records] == [0, 1, 2]
    assert [record["start"] for record in records] == [f"embedded/standard-{n}" for n in (0, 1, 0)]
    assert records[0]["evaluation"]["before"] == records[2]["evaluation"]["before"]
    series = [series_of(run)["train/loss"] for run in runs]
    assert series[0] != series[2]


def test_a_loss_that_is_not_a_number_ends_the_run_with_a_record_that_says_so(tmp_path):
    run = small_run(tmp_path, "opd", "plan.learning_rate=1e30", "plan.clip=null")
    record = run.perform()
    assert record["status"] == "nan"
    assert "at step" in record["reason"]
    assert record["evaluation"]["before"]["mini_gsm"]["sampled"] > 0
    assert record["evaluation"]["after"] == {}
    assert run.record()["id"] == record["id"]  # trying again would only diverge again


def test_a_run_that_fails_is_a_record_with_its_reason_and_can_be_tried_again(tmp_path, with_callback):
    class Broken(pl.Callback):
        def on_train_batch_end(self, *_):
            raise RuntimeError("a [broken] callback")

    with_callback(Broken())
    run = small_run(tmp_path, "opd")
    record = run.perform()
    assert (record["status"], record["reason"]) == ("crash", "RuntimeError: a [broken] callback")
    assert "Traceback" in (run.folder / "error.txt").read_text()
    assert run.record() is None


def test_only_rollouts_that_the_student_wrote_alone_count_as_solved_by_it(finished):
    assert finished("sft")[1]["training"]["auc"] is None
    series = {name: series_of(finished(name)[0]) for name in ("sft", "gkd", "skd", "opd")}
    assert "train/accuracy" not in series["sft"]
    assert None not in series["opd"]["train/accuracy"]
    written = zip(series["gkd"]["train/accuracy"], series["gkd"]["train/tokens_student"], strict=True)
    assert all((accuracy is None) == (tokens == 0) for accuracy, tokens in written)
    assert series["skd"]["train/tokens_teacher"] != [0.0] * 6


def test_time_inside_another_phase_is_counted_once(tmp_path):
    module = small_run(tmp_path, "opd")._parts().module
    start = time.perf_counter()
    with module.timed("optimiser"):
        time.sleep(0.02)
        with module.timed("moments"):
            time.sleep(0.05)
    passed = time.perf_counter() - start
    assert sum(module.seconds.values()) == pytest.approx(passed, abs=0.005)
    assert module.seconds["moments"] >= 0.05
    assert module.seconds["optimiser"] < passed - 0.049


def test_a_run_with_nothing_to_score_learns_nothing_and_shows_it(tmp_path, capsys):
    """OPD learns from the student's tokens, and these are all of the data."""
    run = small_run(tmp_path, "opd", "method.source._target_=opd_bench.rollouts.sources.Data")
    record = run.perform()
    assert (record["status"], series_of(run)["train/loss"]) == ("finished", [0.0] * 6)
    assert record["evaluation"]["after"] == record["evaluation"]["before"]
    assert record["training"]["reverse_kl"] == {"first": "nan", "last": "nan"}
    closing(Console(), run, record, brief=False, done=False)
    assert "nan" in capsys.readouterr().out


def test_the_record_holds_what_happened(finished):
    run, record = finished("tropd")
    training, after, series = record["training"], record["evaluation"]["after"]["mini_gsm"], series_of(run)
    assert record["budget"]["steps"] == len(series["train/loss"]) == 6
    assert record["budget"]["teacher_tokens"] > 0  # the guiding prefixes
    assert record["method"]["settings"] == load_method("tropd").estimator.settings()
    assert training["auc"] == pytest.approx(sum(series["train/accuracy"]) / 6)
    assert [value is not None for value in series["eval/greedy"]] == [False, False, True] * 2
    assert [value is not None for value in series["grad/bias_reverse_kl"]] == [True, False] * 3
    assert training["gradient_norm"]["max"] == pytest.approx(max(series["grad/norm"]))
    lines = read_responses(find_records([run.folder])[0][0])
    assert len({line["id"] for line in lines}) == 16
    sampled = [response["correct"] for line in lines for response in line["responses"][1:]]
    assert after["sampled"] == pytest.approx(sum(sampled) / len(sampled))
    assert after["greedy"] == pytest.approx(sum(line["responses"][0]["correct"] for line in lines) / 16)
    assert figures_of(lines) == pytest.approx(after)  # without a model, the verdicts come to the same


def test_tensorboard_shows_all_four_families(finished):
    run, _ = finished("vopd")
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    tags = events.Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags} == {"train", "eval", "grad", "estimator"}
    assert [event.step for event in events.Scalars("eval/test_sampled")] == [0, 6]
    written = [event.value for event in events.Scalars("grad/norm")]
    assert written == pytest.approx(series_of(run)["grad/norm"], rel=1e-6)
    assert [event.step for event in events.Scalars("grad/norm")] == [1, 2, 3, 4, 5, 6]
    watched = {"norm", "relative_variance", "step_variance", "noise_scale", "adam_proxy"}
    watched |= {f"{figure}_{kl}_kl" for figure in ("bias", "cosine") for kl in ("reverse", "forward")}
    assert {tag.removeprefix("grad/") for tag in tags if tag.startswith("grad/") and "/final_" not in tag} <= watched
    assert watched - {tag.removeprefix("grad/") for tag in tags} <= {"noise_scale"}  # which needs a signal above 0
    documented = (Path(__file__).parents[1] / "docs" / "measurement.md").read_text()
    assert all(f"`grad/{name}`" in documented for name in watched)


def test_exact_moments_on_the_way_are_unbiased_for_opd_and_without_variance_for_the_full_sum(finished):
    figures = {method: finished(method)[1]["training"]["gradient"] for method in ("opd", "vopd", "opd_full")}
    assert figures["opd"]["bias_reverse_kl"] < 1e-9
    assert figures["vopd"]["bias_reverse_kl"] < 1e-9
    assert figures["opd_full"]["relative_variance"] < 1e-9
    assert min(figures[method]["relative_variance"] for method in ("opd", "vopd")) > 0.1


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_the_share_of_draws_of_k_that_solve(k):
    correct = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1]])
    metric = PassAtK(k)
    metric.update(correct[:2])
    metric.update(correct[2:])
    solved = [1 - math.comb(4 - c, k) / math.comb(4, k) for c in correct.sum(-1).tolist()]
    assert float(metric.compute()) == pytest.approx(sum(solved) / 5)


def test_learning_rates_rise_and_fall_as_planned():
    fields = plan_fields()
    linear = [Plan(**fields).learning_rate_at(step) for step in range(100)]
    assert linear[:5] == pytest.approx([0.2, 0.4 * 0.99, 0.6 * 0.98, 0.8 * 0.97, 0.96])
    assert linear[50] == pytest.approx(0.5)
    assert linear[99] == pytest.approx(0.05)
    cosine = [Plan(**fields | {"decay": "cosine"}).learning_rate_at(step) for step in (0, 50, 100)]
    assert cosine == pytest.approx([0.2, 0.05 + 0.95 / 2, 0.05])
    assert Plan(**fields | {"decay": "constant", "warmup": 0}).learning_rate_at(0) == 1


def plan_fields() -> dict:
    counts = dict.fromkeys(("prompts", "rollouts", "micro_batches", "response_limit", "chunk"), 1)
    law = {"temperature": 1.0, "top_p": 1.0, "health_tokens": None}
    optimiser = {"learning_rate": 1.0, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.0, "clip": None}
    return {"steps": 100, **counts, **law, **optimiser, "warmup": 4, "decay": "linear", "floor": 0.05}


def test_spikes_are_steps_far_above_the_median_so_far():
    assert norms([1.0, 1.0, 11.0, 1.0, 9.0]) == {"median": 1.0, "p99": pytest.approx(10.92), "max": 11.0, "spikes": 1.0}
    assert norms([]) == {}


def test_a_network_s_logits_are_the_model_s_own():
    model = causal_lm("embedded/standard-0")
    ids = torch.tensor([[1, 60, 23, 200, 108, 7, 3]])
    torch.testing.assert_close(Network(model, 2.0).logits(ids, torch.ones_like(ids).bool()), 2 * model(ids).logits)


def test_sampled_responses_are_written_as_many_at_once_as_may_be_whosever_they_are(tmp_path, monkeypatch):
    sizes = []

    def counted(self, ids, mask, choice, uniform):
        sizes.append(len(ids))
        return write(self, ids, mask, choice, uniform)

    write = Writers.write
    monkeypatch.setattr(Writers, "write", counted)
    few = ("plan.steps=1", "evaluation.problems=5", "evaluation.samples=3", "evaluation.every=0")
    found = {}
    for batch, expected in ((4, [4, 1, 4, 4, 4, 3]), (1, [1] * 20)):
        run = small_run(tmp_path / str(batch), "opd", *few, f"evaluation.batch={batch}")
        sizes.clear()
        found[batch] = run.perform()["evaluation"]
        assert sizes == [*expected, 8, *expected, *expected]  # before, the step's own, the teacher, after
    for when, figures in found[4].items():
        assert found[1][when]["mini_gsm"] == pytest.approx(figures["mini_gsm"])
