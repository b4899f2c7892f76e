"""Two processes train as one does: DDP and DeepSpeed's three stages, with their own engines, on CPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from opd_bench import load_method
from opd_bench.reporting.record import ANCHOR, read_record
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Source
from opd_bench.rollouts.sources import Coin, Data, Interleaved, Mixture, Student, Teacher, TeacherPrefix
from opd_bench.tokens import PromptBatch, Rollout
from opd_bench.training.data import pieces, share_of
from tests.models import prompts, writers
from tests.ranks import Fit, Found, in_processes, poisoned, trained, unwritten

STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
FAST = [pytest.param(name, marks=() if name == "zero3" else pytest.mark.slow) for name in STRATEGIES]
"""The one in which most can go wrong."""
SLOWLY = ("plan.learning_rate=2e-4", "plan.warmup=0", "plan.decay=constant", "plan.clip=0.001")
"""Clipped so far that Adam's ε is larger than rounding, which its division would blow up."""
WATCHED = ("watch.moments_every=3", "watch.prefixes=4", "evaluation.samples=1", "evaluation.every=2")
LOW_RANK = ("student.lora_rank=4", "student.lora_alpha=32", "plan.learning_rate=0.005")
JUDGED = ("evaluation.problems=5", "evaluation.validation_problems=1")
"""Problems that can't be shared equally, and one that only one process has."""


def fit(method: str, steps: int, pieces: int, *overrides: str) -> Fit:
    plan = (f"plan.steps={steps}", f"plan.micro_batches={pieces}")
    return Fit(method, Path("unused"), (*SLOWLY, *WATCHED, *JUDGED, *plan, *overrides))


def core(steps: int) -> dict[str, Fit]:
    return {
        "plain": fit("opd", steps, 4),
        "head of its own": fit("vopd", steps, 2)._replace(tied=False),
        "with extra rows": fit("tropd", steps, 4),
        "divided by weights": fit("reopold", steps, 2),
        "low-rank additions": fit("vopd", steps, 2, *LOW_RANK),
    }


CORE, TEN = core(4), core(10)
del TEN["low-rank additions"]  # they begin at 0, where Adam makes steps of rounding: four is what can be compared
FITS = CORE | {
    "weighed over the batch": fit("entropy_opd", 1, 1),
    "nothing scored in one process": fit("opd", 1, 1, "method.source._target_=tests.ranks.StudentThenData"),
    "pieces without rows": fit("tropd", 1, 6, "plan.prompts=4"),
}


def several(fits: dict[str, Fit], strategy: str, folder: Path) -> dict[str, Found]:
    return {name: trained(one._replace(folder=folder / name), strategy, devices=2) for name, one in fits.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def single(folder) -> dict[str, Found]:
    """What one process does."""
    return {name: trained(one._replace(folder=folder / name)) for name, one in FITS.items()}


@pytest.fixture(scope="module", params=FAST)
def found(request, folder) -> tuple[str, list[dict[str, Found]]]:
    """What both processes saw of all fits."""
    return request.param, in_processes(several, FITS, request.param, folder)


def test_two_processes_train_as_one(found, single):
    """Responses, every figure of every step, and the parameters afterwards."""
    for name, one in single.items():
        the_same_training(one, [process[name] for process in found[1]])


@pytest.fixture(scope="module")
def ten(folder) -> dict[str, Found]:
    """What one process does in ten steps."""
    return {name: trained(one._replace(folder=folder / "ten" / name)) for name, one in TEN.items()}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ten_steps_of_two_processes_are_those_of_one(strategy, ten, folder):
    processes = in_processes(several, TEN, strategy, folder / "ten")
    for name, one in ten.items():
        two = [process[name] for process in processes]
        the_same_training(one, two)
        the_same_record(one, two)


def the_same_training(one: Found, two: list[Found]) -> None:
    for step, metrics in enumerate(one.metrics):
        assert sorted(two[0].rows[step] + two[1].rows[step]) == sorted(one.rows[step])
        assert metrics["grad/norm"] > 0.001  # clipping binds
        assert two[0].metrics[step]["grad/norm"] == pytest.approx(metrics["grad/norm"], rel=1e-5)
        assert_close(two[0].metrics[step], metrics)
    for name, parameter in one.parameters.items():
        exact = 1e-4 if "lora_" in name else 1e-5  # B begins at 0, and Adam divides A's rounding by next to nothing
        assert (two[0].parameters[name] - parameter).norm() <= exact * parameter.norm()
        assert torch.equal(two[0].parameters[name], two[1].parameters[name])


def the_same_record(one: Found, two: list[Found]) -> None:
    """In both processes: series, totals, evaluations with all responses in order, students kept on the way."""
    first, second = two
    assert str(first.metrics) == str(second.metrics)  # where there is nothing to tell both say nan
    assert str(first.totals) == str(second.totals)
    assert_close(flat(first.totals), flat(one.totals))
    assert first.evaluation == second.evaluation == one.evaluation
    assert first.responses == second.responses == one.responses
    for kept in zip(first.weights, one.weights, strict=True):
        for mine, whole in zip(*(weights.values() for weights in kept), strict=True):
            assert (mine - whole).norm() <= 1e-5 * whole.norm()


def assert_close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert inverted(found) == pytest.approx(inverted(expected), rel=1e-4, abs=1e-6, nan_ok=True)


def inverted(figures: dict[str, float]) -> dict[str, float]:
    """With signal to noise in place of noise to signal, for the signal may be no larger than rounding."""
    ratios = ("noise_scale", "relative_variance")
    return {name: 1 / value if name.endswith(ratios) else value for name, value in figures.items()}


def flat(totals: dict) -> dict[str, float]:
    groups = {name: group for name, group in totals.items() if isinstance(group, dict)}
    nested = {f"{name}/{part}": value for name, group in groups.items() for part, value in group.items()}
    return nested | {name: value for name, value in totals.items() if name not in groups}


def test_what_a_record_is_made_of_is_that_of_one_process_in_both(found, single):
    for name, one in single.items():
        the_same_record(one, [process[name] for process in found[1]])


def test_the_fits_look_at_all_there_is(folder, single):
    for name in CORE:
        one = single[name]
        seen = {figure for metrics in one.metrics for figure in metrics}
        assert {"grad/step_variance", "grad/noise_scale", "grad/bias_reverse_kl", "train/accuracy"} <= seen
        assert {"eval/greedy", "eval/test_sampled"} <= seen
        assert len(one.weights) == 3
        assert one.responses.count("\n") == 5
        assert one.evaluation["before"] != one.evaluation["after"]
    anchors = list(folder.rglob(ANCHOR.file))
    assert {read_record(path, ANCHOR)["status"] for path in anchors} == {"finished"}


def test_processes_have_different_numbers_of_tokens_and_share_what_the_strategy_shards(found, single):
    """One that divided by its own tokens, or weighed them alone, would have found another gradient."""
    strategy, processes = found
    for name in FITS:
        mine, other = (process[name] for process in processes)
        assert all(a != b for a, b in zip(mine.scored, other.scored, strict=True))
        size = single[name].kept
        assert mine.kept == (0 if strategy == "zero3" else size)
        for process in (mine, other):
            assert process.shard == (pytest.approx(size / 2, rel=0.01) if strategy == "zero3" else size)
    assert processes[1]["nothing scored in one process"].scored == [0]
    assert {len(process["pieces without rows"].rows[0]) for process in processes} == {2, 3}


def test_moments_in_the_logits_are_of_the_prefixes_of_all_processes(found):
    """The head is whole where they are taken, sharded or not: plain OPD has no bias, reads and sums are right."""
    for step, metrics in enumerate(found[1][0]["plain"].metrics):
        assert ("grad/bias_reverse_kl" in metrics) == (step % 3 == 0)
        assert metrics.get("grad/bias_reverse_kl", 0) < 1e-9
        assert metrics.get("grad/cosine_reverse_kl", 1) == pytest.approx(1)
    for process in found[1]:  # the figures are those of the process that has prefixes
        assert "grad/relative_variance" in process["nothing scored in one process"].metrics[0]


@pytest.mark.parametrize("strategy", FAST)
def test_a_gradient_that_is_not_a_number_in_one_process_ends_all_with_sound_weights(strategy):
    for message in in_processes(poisoned, fit("opd", 3, 2), strategy, 2):
        assert message.startswith("gradient norm is ")
        assert message.endswith(" at step 1")


def test_what_the_first_process_can_t_write_stops_all(tmp_path):
    (tmp_path / "file").touch()
    one, other = in_processes(unwritten, tmp_path / "file")
    assert "Not a directory" in one
    assert one == other


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize(("processes", "each"), [(2, 1), (2, 2), (2, 3), (3, 1), (6, 2)])
def test_processes_cut_the_pieces_that_one_would(processes, each):
    """By prompt, extra samples too; a piece without rows has one that has no response."""
    size, source = len(prompts().ids), TeacherPrefix(length="ratio", extra=0.5)
    whole = cut(source, 0, 1, processes * each)
    parts = [piece for rank in range(processes) for piece in cut(source, rank, processes, each)]
    assert parts == whole
    assert sorted(row for piece in whole for row in piece)[:size] == list(range(size))
    assert len(parts) == processes * each


def cut(source: Source, rank: int, processes: int, count: int) -> list[list[int]]:
    """Numbers of the rows of every piece, none where nothing is to be scored."""
    size, share = len(prompts().ids), share_of(len(prompts().ids), rank, processes)
    batch = PromptBatch(*(field[share.start : share.stop] for field in prompts()))
    rollout = source.draw(writers(), batch, 0.3, Draws(0, 0, share.start, size))
    found = pieces(rollout, share, size, count)
    return [part.row[part.response.any(-1)].tolist() for part in found]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize(
    "source",
    [
        Student(),
        Teacher(),
        Data(),
        Coin(student_share=0.5, otherwise="teacher"),
        Interleaved(k=3),
        Mixture(alpha=0.3),
        TeacherPrefix(length="ratio", extra=0.25),
        TeacherPrefix(length="ratio", extra=0.05),  # so few that some process has none
    ],
)
def test_processes_together_draw_the_rollouts_of_one(source, processes):
    batch, size = prompts(), len(prompts().ids)
    found = {}
    for rank in range(processes):
        share = share_of(size, rank, processes)
        part = PromptBatch(*(field[share.start : share.stop] for field in batch))
        found |= drawn(source, part, Draws(0, 0, share.start, size))
    assert found == drawn(source, batch, Draws(0, 0))


def drawn(source: Source, batch: PromptBatch, draws: Draws) -> dict[int, list[tuple[int, int]]]:
    """Tokens and their writers, by row."""
    rollout: Rollout = source.draw(writers(), batch, 0.3, draws)
    numbered = zip(rollout.row.tolist(), rollout.ids, rollout.origin, rollout.mask, strict=True)
    return {row: list(zip(ids[kept].tolist(), by[kept].tolist(), strict=True)) for row, ids, by, kept in numbered}


def test_prompts_that_can_t_be_shared_equally_are_refused():
    assert [list(share_of(6, rank, 3)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"plan.prompts must be a multiple of the number of processes, 4, got 6"):
        share_of(6, 0, 4)


def test_one_process_does_without_deepspeed():
    code = "import sys; sys.modules['deepspeed'] = None; import opd_bench.training.run"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_fits_are_of_every_kind():
    estimators = {name: load_method(one.method).estimator for name, one in FITS.items()}
    weighed = {name for name, estimator in estimators.items() if estimator.signals}
    assert weighed == {"weighed over the batch", "divided by weights"}
    assert estimators["divided by weights"].denominator == "weights"
