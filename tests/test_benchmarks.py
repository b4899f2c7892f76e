"""Figures of `make perf`: the floor by hand, fits, a report out of files, and one tiny comparison."""

import json
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.clock import PHASES, Clock, Side
from benchmarks.figures import Spread, beside, failures, ratio
from benchmarks.floor import Peaks, floor, parameters, peer_bytes
from benchmarks.growth import exponent
from benchmarks.memory import Peak, loss_alone
from benchmarks.models import Place, Shape, Trunk, questions, tokenizer
from benchmarks.report import written

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed; pip install '.[perf]'")
TINY = Shape(Trunk(16, 1), Trunk(32, 1), 64, 2, 4, (3, 5))
PLACES = [Place(), Place(precision="bf16")]


# ---------------------------------------------------------------- floor


def test_the_floor_is_what_the_formulas_say():
    student, teacher = Trunk(8, 1, 2, 1, 16), Trunk(16, 2, 4, 2, 32)
    assert parameters(student) == 8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 16
    assert parameters(teacher) == 2 * (16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 32)
    shape = Shape(student, teacher, 100, 3, 2, (4, 6))
    found = floor(shape, Peaks(1.0, 1e9))  # bound by products
    read, trunk, other = 3 * (5 + 2), 576, 4608
    assert found["teacher"] == 2 * other * read
    assert found["student forward"] == 2 * trunk * read
    assert found["backward"] == 4 * trunk * read
    assert found["loss + heads"] == 2 * 3 * 2 * 100 * (3 * 8 + 16)
    assert found["generation"] == 2 * trunk * 3 * 5 + 2 * (2 * 3 * (trunk + 800))
    assert found["optimiser"] == pytest.approx(28 * (trunk + 800) / 1e9)
    assert found["total"] == pytest.approx(sum(value for name, value in found.items() if name != "total"))


def test_reading_weights_and_cache_bounds_small_batches():
    shape = Shape(Trunk(8, 1, 2, 1, 16), Trunk(16, 2), 100, 3, 2, (4, 6))
    found = floor(shape, Peaks(1e12, 1.0), size=2)["generation"]
    cache = sum(2 * 1 * 4 * 3 * (5 + t) for t in range(2))
    assert found == pytest.approx(2 * (2 * (576 + 800) + cache))


def test_what_gkd_needs_grows_with_whole_sequences():
    assert peer_bytes(TINY) == 8 * 4 * 2 * (5 + 4) * 64


# ---------------------------------------------------------------- clock


def test_phases_are_exclusive_and_generation_hides_what_is_inside():
    clock = Clock()
    clock.start()
    with clock.phase("student forward"), clock.phase("loss + heads"):
        time.sleep(0.02)
    with clock.phase("generation"):
        clock.wrapped("teacher", time.sleep)(0.02)
    found = clock.stop()["wall"]
    assert found["loss + heads"] >= 0.02 <= found["generation"]
    assert found["student forward"] < 0.01 > found["teacher"]
    assert found["total"] == pytest.approx(sum(found[phase] for phase in PHASES))


def test_sides_step_when_asked_and_errors_come_out():
    class Counting(Side):
        def run(self):
            for number in range(3):
                self.losses.append(number)
                self.pause()

    side = Counting("three")
    assert side.losses == []
    side.step()
    assert side.losses == [0]
    side.step()
    side.step()
    with pytest.raises(RuntimeError, match="three failed"):
        side.step()


# ---------------------------------------------------------------- figures


def test_exponents_are_found():
    values = [1, 2, 4, 8]
    found = exponent(values, [3 * value**1.5 for value in values])
    assert found["exponent"] == pytest.approx(1.5)
    assert found["error"] == pytest.approx(0, abs=1e-9)


def test_the_end_token_can_not_be_written_and_prompts_are_read_back():
    words = tokenizer(64)
    assert words.eos_token_id == 64
    lengths = [len(words(one)["input_ids"]) for one in questions(TINY, 20)]
    assert {min(lengths), max(lengths)} == {3, 5}


def test_memory_is_that_which_was_taken_and_given_back():
    peak = Peak()
    torch.ones(30 << 20).sum()
    assert 100 <= peak.bytes() / 2**20 <= 140 or not peak.before


@pytest.mark.parametrize(
    "way", ["ours opd_full", "as in Hugging Face", pytest.param("TRL Distillation", marks=needs_trl)]
)
def test_ways_to_the_same_loss(way):
    job = {"tokens": 20, "hidden": 16, "vocabulary": 300}
    assert loss_alone(job | {"way": way})["loss"] == pytest.approx(_plain(**job), rel=1e-4)


def _plain(tokens, hidden, vocabulary):
    torch.manual_seed(0)
    states = [torch.randn(1, tokens, hidden) for _ in range(2)]
    heads = [torch.randn(vocabulary, hidden) * 0.05 for _ in range(2)]
    p, q = ((state @ head.T).log_softmax(-1) for state, head in zip(states, heads, strict=True))
    return float((p.exp() * (p - q)).sum(-1).mean())


# ---------------------------------------------------------------- end to end


@needs_trl
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.precision)
def test_sides_compute_the_same_loss_and_their_report_is_made_again(tmp_path, place):
    from benchmarks.compare import cell, sides_of

    found = cell(TINY, sides_of(["opd_full"], measured=False), 2, place)
    sides = found["sides"]
    assert list(sides) == ["ours opd_full", "TRL Distillation", "TRL GKD"]
    for name, side in sides.items():
        assert len(side["steps"]) == 2
        assert len(side["losses"]) == 4
        assert all(value >= 0 for value in side["steps"][0]["cpu"].values())
        assert all(side["steps"][0]["wall"][phase] > 0 for phase in PHASES)
        if not name.startswith("ours"):
            assert side["check"]["tokens"] == 8
    row = {"name": TINY.name, "left out": {}, **found, "floor": floor(TINY, Peaks(1e11, 1e10))}
    part = {"machine": machine(place), "found": [row]}
    (tmp_path / "compare.json").write_text(json.dumps(part))
    path, failed = written(tmp_path)
    assert failed == []
    assert ratio(row, "cpu").told() in path.read_text()
    assert (tmp_path / "step-by-phase.png").stat().st_size > 5000
    text = path.read_text()
    path.unlink()
    assert written(tmp_path)[0].read_text() == text


def test_another_loss_is_told(tmp_path):
    check = {"theirs": 1.0, "ours": 1.001, "tokens": 8}
    step = {unit: dict.fromkeys([*PHASES, "total"], 1.0) for unit in ("cpu", "wall")}
    side = {"steps": [step], "bytes": 0, "losses": [], "check": {}}
    sides = {"ours opd_full": side, "TRL Distillation": side | {"check": check}}
    row = {"name": "one cell", "left out": {}, "shape": {}, "sides": sides, "floor": floor(TINY, Peaks(1.0, 1.0))}
    found = {"compare": {"machine": machine(Place()), "found": [row]}}
    assert failures(found)[0].startswith("one cell: the loss of TRL Distillation is not ours")
    (tmp_path / "compare.json").write_text(json.dumps(found["compare"]))
    assert "**Failed:** one cell" in written(tmp_path)[0].read_text()


def test_a_method_is_another_one_at_every_step():
    from benchmarks.methods import methods

    found = methods(TINY, ["opd_full", "gkd", "seqkd", "tropd"], 1, Place(), lambda _: None)
    assert {name: len(side["steps"]) for name, side in found.items()} == {
        "opd_full": 1,
        "gkd": 1,
        "seqkd": 1,
        "tropd": 1,
        "opd": 2,
    }
    assert {name: beside(found, name, "opd", "cpu").middle > 0 for name in found} == dict.fromkeys(found, True)
    assert found["opd"]["cost"] == {"student": "sampled", "teacher": "sampled"}


def test_spreads():
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_a_method_is_beside_the_reference_around_it():
    def side(**steps):
        return {"at": [int(at[1:]) for at in steps], "steps": [{"cpu": {"total": value}} for value in steps.values()]}

    found = {"opd": side(_1=1.0, _4=3.0, _7=5.0), "other": side(_2=4.0, _6=4.0)}
    assert beside(found, "other", "opd", "cpu") == (1.5, 1.0, 2.0)
    assert beside(found, "opd", "opd", "cpu").low == 1 / 3


def test_a_gpu_that_is_not_there_is_said(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["--gpu", "--out", str(tmp_path)]) == 2
    assert "torch finds none here" in capsys.readouterr().err


def test_what_takes_too_much_is_left_out():
    from benchmarks.grid import left_out

    large = TINY._replace(vocabulary=1 << 40)
    found = left_out(large, Peaks(1.0, 1.0), 4, is_all=False)
    assert set(found) == {"all", "TRL GKD"}
    assert left_out(TINY, Peaks(1e12, 1e12), 4, is_all=False) == {}


def machine(place):
    told = SimpleNamespace(flops=1e11, bandwidth=1e10)
    libraries = dict.fromkeys(("torch", "transformers", "trl", "lightning"), "1")
    return {
        "processor": "a processor",
        "cores": 2,
        "threads": 1,
        "load": 0.1,
        **place._asdict(),
        "peaks": vars(told),
        **libraries,
        "date": "2026-01-01",
        "quick": False,
    }
