"""Two processes train as one does: DDP and DeepSpeed's three stages, with their own engines, on CPU."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from opd_bench import load_method
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Source
from opd_bench.rollouts.sources import Coin, Data, Interleaved, Mixture, Student, Teacher, TeacherPrefix
from opd_bench.tokens import PromptBatch, Rollout
from opd_bench.training.data import share_of
from tests.models import prompts, writers
from tests.ranks import Fit, Found, in_processes, poisoned, trained

STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
SHORT = ("plan.learning_rate=1e-4", "plan.warmup=0", "plan.clip=0.01")


def fit(method: str, steps: int, pieces: int, *overrides: str) -> Fit:
    return Fit(method, Path("unused"), (*SHORT, f"plan.steps={steps}", f"plan.micro_batches={pieces}", *overrides))


FITS = {
    "plain": fit("opd", 3, 2),
    "with extra rows": fit("tropd", 2, 2),
    "weighed over the batch": fit("entropy_opd", 2, 1),
    "divided by weights": fit("reopold", 2, 2),
    "nothing scored in one process": fit("opd", 2, 1, "method.source._target_=tests.ranks.StudentThenData"),
    "head of its own": fit("opd", 2, 2)._replace(tied=False),
    "pieces without rows": fit("tropd", 1, 3, "plan.prompts=4"),
}
FOUR_PIECES = fit("opd", 3, 4)
OF_PIECES = ("grad/step_variance", "grad/noise_scale")
"""What depends on how many pieces a step has."""
OF_PREFIXES = tuple(f"grad/{figure}_{kl}_kl" for figure in ("bias", "cosine") for kl in ("reverse", "forward"))
OF_PREFIXES += ("grad/relative_variance",)
"""What is measured at prefixes that each process picks of its own."""


def several(strategy: str) -> dict[str, Found]:
    return {name: trained(one, strategy, devices=2) for name, one in FITS.items()}


@cache
def alone(one: Fit) -> Found:
    return trained(one)


@pytest.fixture(scope="module", params=STRATEGIES)
def found(request) -> tuple[str, list[dict[str, Found]]]:
    """What both processes saw of all fits."""
    return request.param, in_processes(several, request.param)


def test_two_processes_train_as_one(found):
    """Responses, every figure of every step, and the parameters afterwards; clipping binds."""
    for name, one in FITS.items():
        single, two = alone(one), [process[name] for process in found[1]]
        for step, metrics in enumerate(single.metrics):
            assert sorted(two[0].rows[step] + two[1].rows[step]) == sorted(single.rows[step])
            expected = {name: value for name, value in metrics.items() if name not in OF_PIECES + OF_PREFIXES}
            assert metrics["grad/norm"] > 0.01
            for process in two:
                assert process.metrics[step]["grad/norm"] == pytest.approx(metrics["grad/norm"], rel=1e-5)
                figures = {name: process.metrics[step][name] for name in expected}
                assert figures == pytest.approx(expected, rel=1e-4, abs=1e-6)
        for name, parameter in single.parameters.items():
            torch.testing.assert_close(two[0].parameters[name], parameter, rtol=0, atol=5e-6)
            assert torch.equal(two[0].parameters[name], two[1].parameters[name])


def test_processes_have_different_numbers_of_tokens_and_share_what_the_strategy_shards(found):
    """One that divided by its own tokens, or weighed them alone, would have found another gradient."""
    strategy, processes = found
    for name, one in FITS.items():
        mine, other = (process[name] for process in processes)
        assert all(a != b for a, b in zip(mine.scored, other.scored, strict=True))
        assert mine.kept == (0 if strategy == "zero3" else alone(one).kept)
    assert processes[1]["nothing scored in one process"].scored == [0, 0]
    assert {len(process["pieces without rows"].rows[0]) for process in processes} == {2, 3}


def test_moments_in_the_logits_are_of_the_prefixes_of_all_processes(found):
    """The head is whole where they are taken, sharded or not: plain OPD has no bias, reads and sums are right."""
    for one, other in zip(*(process["plain"].metrics for process in found[1]), strict=True):
        assert {name: one[name] for name in OF_PREFIXES} == {name: other[name] for name in OF_PREFIXES}
        assert one["grad/bias_reverse_kl"] < 1e-9
        assert one["grad/cosine_reverse_kl"] == pytest.approx(1)
        assert one["grad/relative_variance"] > 0
    for process in found[1]:  # the figures are those of the process that has prefixes
        assert set(OF_PREFIXES) <= process["nothing scored in one process"].metrics[0].keys()


def test_four_pieces_are_as_noisy_in_one_process_as_two_and_two_in_two(found):
    one, two = alone(FOUR_PIECES), found[1][0]["plain"]
    for expected, figures in zip(one.metrics, two.metrics, strict=True):
        for name in (*OF_PIECES, "grad/adam_proxy"):
            assert figures.get(name) == pytest.approx(expected.get(name), rel=1e-4, abs=1e-9)
    assert two.totals == pytest.approx(one.totals, rel=1e-4)


@pytest.mark.parametrize("strategy", ["ddp", "zero1", "zero3"])
def test_a_gradient_that_is_not_a_number_in_one_process_ends_all_with_sound_weights(strategy):
    for message in in_processes(poisoned, fit("opd", 3, 2), strategy, 2):
        assert message.startswith("gradient norm is ")
        assert message.endswith(" at step 1")


# ---------------------------------------------------------------- pieces


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
