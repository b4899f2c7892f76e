"""The probe: its gradients are those of a training step, its figures those of enumeration, and nothing is lost."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from opd_bench import exact_moments, load_method
from opd_bench.maths.divergences import log_probs
from opd_bench.maths.sketch import Sketch
from opd_bench.probing.bank import Bank, drawn
from opd_bench.probing.drawing import as_students
from opd_bench.probing.gradients import Gradients, Trunk, contrasts
from opd_bench.probing.measure import Measure, gram
from opd_bench.probing.run import Probe, students
from opd_bench.probing.shelf import Job
from opd_bench.probing.subject import Subject
from opd_bench.redraw import Prefixes, moment_sums, redrawn_moments, relative
from opd_bench.reporting import gradients
from opd_bench.reporting.gradients import estimates, same_mean
from opd_bench.reporting.record import PROBE, outcome, read_record
from opd_bench.rollouts.choices import sampled
from opd_bench.rollouts.draws import uniform_of
from opd_bench.rollouts.sources import Mixture, Student, TeacherPrefix
from opd_bench.tokens import Origin
from opd_bench.training.plan import Plan
from tests import dense, models
from tests.prefixes import prefix_pair
from tests.runs import composed, small_run
from tests.tabular import PLAN, subject

STUDENT = Student()
SIZE = 12


def whole(gradients):
    """Every number of a gradient."""
    return torch.cat([gradient.flatten() for gradient in gradients])


def of(where, estimator, one, kept=whole, mix=None):
    """The plain way: every version's own gradient, all of it."""
    found = Gradients(where, estimator, one, torch.eye(one.versions, dtype=torch.float64) if mix is None else mix)
    shares = [
        found.share(place, Trunk(where, one, rows), kept) for place, rows in enumerate(where.pieces(len(one.ids)))
    ]
    return torch.stack(shares).sum(0)


def measured(where, bank, *names, at_once=2):
    """A measure that has drawn these methods."""
    measure = Measure(where, bank, whole, at_once, lambda count: None)
    measure.draw([load_method(name).estimator for name in names])
    return measure


def products(measure, name):
    return measure.products(load_method(name).estimator)


def table(gap=1.0, **plan):
    return subject(*prefix_pair(SIZE, SIZE, gap), **plan)


def llama(**plan):
    """A small transformer with trained parameters, and prompts of different lengths."""
    student, teacher, prompts = models.network(0), models.network(1), models.prompts(6)
    student.model.requires_grad_(True)
    plan = PLAN | {"prompts": 6, "response_limit": models.LIMIT, "chunk": 7} | plan
    return Subject(student, teacher, prompts, [models.END], Plan(**plan), seed=3, progress=0.4)


# ---------------------------------------------------------------- where the answer is known


ENUMERABLE = ["opd", "vopd", "vopd_topk", "opd_full", "gkd_fkl", "veto", "opd_plus", "k3_direct", "state_only"]
SAMPLED = ["opd", "vopd", "tropd_no_prefix", "tropd_mask", "opd_plus_hellinger", "opd_plus_jsd", "state_only"]


@pytest.fixture
def _fewer(monkeypatch):
    """A tenth of the resamples: the ends of intervals move by some per cent."""
    monkeypatch.setattr(gradients, "RESAMPLES", 1000)


@pytest.mark.parametrize("name", ENUMERABLE)
def test_a_table_with_its_tokens_enumerated_is_the_exact_moments(name):
    """Version v gives every prefix the token v: its gradient, row by row, is one term of the enumeration."""
    where, estimator = table(), load_method(name).estimator
    one = drawn(where, STUDENT, 0, 0)
    laws = log_probs(where.student.model.logits.detach())
    tokens = torch.arange(SIZE)[:, None, None].expand(-1, SIZE, 1)
    every = one._replace(token=tokens, behaviour_logp=laws.T[:, :, None], uniform=torch.zeros(SIZE, SIZE, 1))
    rows = SIZE * of(where, estimator, every).view(SIZE, SIZE, SIZE)  # [version, prefix, V]
    weight = laws.T.exp()[:, :, None]
    mean = (weight * rows).sum(0)
    variance = (weight * (rows - mean).square()).sum((0, 2))
    exact = exact_moments(estimator, where.student.model.logits, where.teacher.model.logits, progress=0.25)
    torch.testing.assert_close(mean, exact.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(variance, exact.variance, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("_fewer")
@pytest.mark.parametrize("name", SAMPLED)
def test_a_sampled_table_has_the_exact_figures_within_its_intervals(name, tmp_path):
    where, estimator = table(), load_method(name).estimator
    inner, within, _ = products(measured(where, Bank(tmp_path, where, STUDENT, 32, 2), name), name)
    found = estimates(inner.numpy(), within.numpy(), seed=0)
    places = Prefixes(where.student.model.logits.detach(), where.teacher.model.logits, Origin.STUDENT)
    sums = moment_sums(estimator, places, where.progress)
    exact = relative(sums)
    expected = {
        "variance": sums["variance"] / SIZE**2,
        "token_variance": sums["variance"] / SIZE**2,
        "signal": sums["signal"] / SIZE**2,
        "relative_variance": exact["relative_variance"],
        "bias_squared_reverse_kl": exact["bias_reverse_kl"] ** 2,
        "bias_squared_forward_kl": exact["bias_forward_kl"] ** 2,
    }
    for figure, value in expected.items():
        low, high = found[figure].low, found[figure].high
        slack = 0.5 * (high - low)  # the interval, and as much again on both sides: 42 checks, each 95 %
        assert low - slack <= value <= high + slack, (figure, found[figure], value)


@pytest.mark.usefixtures("_fewer")
def test_variance_alone_would_rank_a_reward_without_signal_above_the_right_one(tmp_path):
    """State-only: less variance than OPD, and no direction; K3 back-propagated: the forward KL's."""
    where = table(0.5)
    names, found = ("opd", "state_only", "k3_direct"), {}
    measure = measured(where, Bank(tmp_path, where, STUDENT, 64, 2), *names)
    for name in names:
        inner, within, _ = products(measure, name)
        found[name] = estimates(inner.numpy(), within.numpy(), seed=0)
    opd, nothing, forward = found.values()
    assert nothing["variance"].value < 0.7 * opd["variance"].value
    assert nothing["bias_reverse_kl"].low < 1 < nothing["bias_reverse_kl"].high < 1.3
    assert nothing["snr"].low < 0 < nothing["snr"].high
    assert abs(nothing["cosine_single_reverse_kl"].value) < 0.05
    assert opd["bias_reverse_kl"].low == 0
    assert opd["cosine_reverse_kl"].value > 0.95
    assert forward["cosine_forward_kl"].value > 0.95
    assert forward["bias_forward_kl"].low == 0
    assert forward["bias_forward_kl"].value < forward["bias_reverse_kl"].value


@pytest.mark.usefixtures("_fewer")
def test_at_fixed_prefixes_redrawn_tokens_are_all_of_the_variance_of_a_table(tmp_path):
    """One token a response: there is no other prefix, so token and whole variance estimate the same."""
    where = table()
    inner, within, _ = products(measured(where, Bank(tmp_path, where, STUDENT, 200, 2), "opd"), "opd")
    share = estimates(inner.numpy(), within.numpy(), seed=0)["token_share"]
    assert 0.8 < share.value < 1.25
    assert share.low < 1 < share.high


@pytest.mark.parametrize("name", ["opd", "tropd_no_prefix", "minillm", "opd_full"])
def test_redrawn_moments_are_unbiased(name, monkeypatch):
    """With coins (TrOPD), with weights and importance ratios (MiniLLM), and with nothing drawn."""
    estimator, places = load_method(name).estimator, Prefixes(*prefix_pair(3, 20), Origin.STUDENT)
    exact = moment_sums(estimator, places, 0.3)
    monkeypatch.setattr("opd_bench.redraw.LARGEST_VOCABULARY", 19)
    found = [moment_sums(estimator, places, 0.3, uniform_of(f"{repeat}", 3, 4, 2)) for repeat in range(200)]
    for figure, value in exact.items():
        drawn_ones = np.array([sums[figure] for sums in found])
        error = drawn_ones.std(ddof=1) / 200**0.5
        assert abs(drawn_ones.mean() - value) <= 3 * error + 1e-9, figure
        if figure in ("signal", "reverse_error") and exact["variance"] > 1e-9:  # ‖mean‖² carries tr Cov/4
            naive = drawn_ones + np.array([sums["variance"] for sums in found]) / 4
            assert naive.mean() > value + 5 * error


def test_weights_of_a_redraw_are_those_of_its_prefixes_together():
    """REOPOLD's gate: a prefix's weight depends on the other prefixes of the same draw."""
    estimator, places = load_method("reopold").estimator, Prefixes(*prefix_pair(6, 20), Origin.STUDENT)
    uniform = uniform_of("draws", 6, 1, 2)
    mean = redrawn_moments(estimator, places, 0.9, uniform).mean
    token = torch.stack([sampled(log_probs(places.student), uniform[:, 0, 0])])[0]
    ids = torch.zeros(6, 1, dtype=torch.long)
    batch = dense.ScoredBatch(
        places.student[:, None].requires_grad_(),
        places.teacher[:, None],
        token[:, None],
        torch.ones_like(ids, dtype=torch.bool),
        ids,
        log_probs(places.student).detach().gather(-1, token[:, None]),
        uniform[:, :, 1].double(),
    )
    (slope,) = torch.autograd.grad(dense.batch_loss(estimator, [batch], 0.9), batch.student_logits)
    plain = mean / mean.norm()  # the plain loss is divided by the sum of weights
    torch.testing.assert_close(slope[:, 0] / slope.norm(), plain, rtol=1e-6, atol=1e-9)


def test_a_mean_of_rounding_errors_points_nowhere():
    places = Prefixes(*prefix_pair(5, 20), Origin.STUDENT)
    found = relative(moment_sums(load_method("state_only").estimator, places, 0.0))
    assert found["bias_reverse_kl"] == pytest.approx(1)
    assert np.isnan([found["cosine_reverse_kl"], found["cosine_forward_kl"]]).all()


def test_a_vocabulary_too_large_to_enumerate_is_redrawn(monkeypatch):
    student, teacher = prefix_pair(4, 30)
    places, estimator = Prefixes(student, teacher, Origin.STUDENT), load_method("vopd").estimator
    uniform = uniform_of("redraws", 4, 4000, 2)
    exact = moment_sums(estimator, places, 0.0, uniform)
    monkeypatch.setattr("opd_bench.redraw.LARGEST_VOCABULARY", 29)
    sampled = moment_sums(estimator, places, 0.0, uniform)
    assert sampled["variance"] != exact["variance"]
    assert sampled["variance"] == pytest.approx(exact["variance"], rel=0.1)
    assert relative(sampled)["cosine_reverse_kl"] == pytest.approx(1, abs=0.01)
    assert relative(sampled)["bias_reverse_kl"] < 0.1


# ---------------------------------------------------------------- the gradient is a training step's


@pytest.mark.parametrize("name", ["opd", "tropd", "reopold", "minillm", "skd", "gkd"])
@pytest.mark.parametrize("pieces", [1, 4])
def test_the_gradient_is_that_of_the_plain_loss(name, pieces):
    where, (estimator, source) = llama(micro_batches=pieces), load_method(name)
    one = drawn(where, source, 1, 0)
    (found,) = of(where, estimator, one)
    logits = [network.logits(one.ids, one.mask)[:, :-1] for network in (where.student, where.teacher)]
    fields = (one.token[0], one.response, one.origin, one.behaviour_logp[0], one.uniform[0])
    loss = dense.batch_loss(estimator, [dense.ScoredBatch(*logits, *fields)], where.progress)
    plain = whole(torch.autograd.grad(loss, where.parameters))
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-7 * float(plain.abs().max()))


@pytest.mark.parametrize("name", ["vopd", "tropd_no_prefix"])
def test_each_version_has_its_own_gradient(name):
    where, estimator = llama(micro_batches=2), load_method(name).estimator
    one = drawn(where, STUDENT, 0, 3)
    rows = of(where, estimator, one)
    assert len(rows) == 4
    for version, row in enumerate(rows):
        fields = {name: getattr(one, name)[version : version + 1] for name in ("token", "behaviour_logp", "uniform")}
        (alone,) = of(where, estimator, one._replace(**fields))
        torch.testing.assert_close(alone, row)
    assert torch.cdist(rows, rows)[~torch.eye(4, dtype=torch.bool)].min() > 0.01 * rows.norm(dim=-1).mean()


@pytest.mark.parametrize("name", ["opd", "tropd_no_prefix", "minillm", "reopold"])
@pytest.mark.parametrize("redraws", [2, 5])
def test_token_variance_is_of_the_redrawn_versions_alone(name, redraws, tmp_path):
    """From contrasts, one way back less than there are versions, it is the plain unbiased one."""
    where, estimator = llama(micro_batches=2), load_method(name).estimator
    bank = Bank(tmp_path, where, STUDENT, 2, redraws)
    within = products(measured(where, bank, name), name).within
    rows = [of(where, estimator, one)[1:] for one in bank]
    torch.testing.assert_close(within, torch.stack([row.double().var(0).sum() for row in rows]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("versions", [1, 3, 4, 9])
def test_contrasts_are_the_first_and_the_scatter_of_the_others(versions):
    values = torch.randn(versions, 5, dtype=torch.float64)
    first, *rest = contrasts(versions) @ values
    torch.testing.assert_close(first, values[0])
    assert len(rest) == max(0, versions - 2)
    if rest:
        torch.testing.assert_close(torch.stack(rest).square().sum() / len(rest), values[1:].var(0).sum())


@pytest.mark.parametrize(("name", "ways"), [("opd", 2), ("opd_full", 1), ("gkd_fkl", 1)])
def test_where_no_token_is_read_there_is_one_way_back_through_the_trunk(name, ways, monkeypatch):
    where, estimator = llama(), load_method(name).estimator
    one, back, calls = drawn(where, STUDENT, 0, 2), Trunk.back, []
    monkeypatch.setattr(Trunk, "back", lambda self, slopes: (calls.append(1), back(self, slopes))[1])
    rows = of(where, estimator, one, mix=contrasts(3))
    assert len(calls) == ways
    assert bool(rows[1].any()) == (ways == 2)


def test_the_exact_gradients_are_of_the_tokens_that_the_method_learns_from():
    """On rollouts of its own, of which it learns from a part."""
    where = llama()
    source = TeacherPrefix(length="ratio", extra=1.0)
    one = drawn(where, source, 0, 0)
    assert (one.origin[one.response] == Origin.TEACHER).any()
    chosen = as_students(one, frozenset({Origin.STUDENT}))
    (found,) = of(where, load_method("opd_full").estimator, chosen)
    logits = [network.logits(one.ids, one.mask)[:, :-1] for network in (where.student, where.teacher)]
    p, q = (log_probs(values) for values in logits)
    kl = (p.exp() * (p - q)).sum(-1)[one.response & (one.origin == Origin.STUDENT)].mean()
    torch.testing.assert_close(found, whole(torch.autograd.grad(kl, where.parameters)), rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------- what is drawn


def test_redrawn_tokens_have_the_student_law_at_prefixes_that_stay():
    where = llama(chunk=64)
    one = drawn(where, STUDENT, 0, 400)
    logits = where.student.logits(one.ids, one.mask)[:, :-1]
    laws = log_probs(logits).detach()
    fresh = one.token[1:, one.response]  # [M, N]
    expected = laws[one.response].exp()
    seen = torch.nn.functional.one_hot(fresh, models.VOCABULARY).double().mean(0)
    often = expected > 0.02  # 8 times and more, so that counts are nearly normal
    spread = (expected * (1 - expected) / 400).sqrt()
    z = ((seen - expected) / spread)[often]
    assert len(z) > 200
    assert z.abs().max() < 4.5
    assert 0.85 < z.square().mean() < 1.15
    picked = laws[one.response].expand(400, -1, -1).gather(-1, fresh[..., None])[..., 0]
    torch.testing.assert_close(one.behaviour_logp[1:, one.response].double(), picked, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.token[0], one.ids[:, 1:])
    assert not (one.uniform[1] == one.uniform[2]).any()


def test_only_the_tokens_of_the_student_are_redrawn():
    where = llama()
    one = drawn(where, Mixture(alpha=0.5), 0, 2)
    others = one.response & (one.origin == Origin.TEACHER)
    assert others.any()
    assert (one.token[1:, others] == one.token[0, others]).all()
    assert (one.token[1:, ~one.response] == one.token[0, ~one.response]).all()


def test_sets_are_independent_and_of_the_same_prompts(tmp_path):
    where = llama()
    one, other = list(Bank(tmp_path, where, STUDENT, 2, 2))
    width = where.prompts.ids.shape[1]
    assert torch.equal(one.ids[:, :width], other.ids[:, :width])
    assert not torch.equal(one.token[0, :, width : width + 3], other.token[0, :, width : width + 3])


def test_a_set_that_is_lost_or_damaged_is_drawn_again_as_it_was(tmp_path):
    where = llama()
    bank = Bank(tmp_path, where, STUDENT, 3, 2)
    first = list(bank)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "set-000.safetensors").unlink()
    whole_file = (tmp_path / "set-001.safetensors").read_bytes()
    (tmp_path / "set-001.safetensors").write_bytes(whole_file[: len(whole_file) // 2])
    for before, after in zip(first, bank, strict=True):
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    untouched = [path for path, time in times.items() if path.exists() and path.stat().st_mtime_ns == time]
    assert [path.name for path in untouched] == ["set-002.safetensors"]
    assert load_file(tmp_path / "set-001.safetensors")["ids"].equal(first[1].ids)


def test_prefixes_are_spread_over_all_sets(tmp_path):
    where, estimator = llama(), load_method("opd").estimator
    bank = Bank(tmp_path, where, STUDENT, 4, 0)
    found = Measure(where, bank, whole, 1, lambda count: None).prefixes(estimator, 8)
    assert found.writer == Origin.STUDENT
    assert len(found.student) == 8
    logits = [log_probs(where.student.logits(one.ids, one.mask)[:, :-1][one.response]).detach() for one in bank]
    near = [[float((rows - row).abs().max(-1).values.min()) for rows in logits] for row in log_probs(found.student)]
    assert all(near[place][place // 2] < 1e-9 for place in range(8))  # two of each
    assert max(max(row) for row in near) > 0.1


def test_inner_products_do_not_depend_on_the_blocks(monkeypatch):
    rows = [torch.randn(3, 50, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    once = gram(rows)
    monkeypatch.setattr("opd_bench.probing.measure.COLUMNS", 7)
    torch.testing.assert_close(gram(rows), once)
    stacked = torch.cat(rows).double()
    torch.testing.assert_close(once.reshape(6, 6), stacked @ stacked.T)


# ---------------------------------------------------------------- a probe as a whole


def configured(folder, *overrides):
    small = ("probe.sets=6", "probe.prefixes=6", "plan.prompts=4", f"results={folder}")
    return composed("probe", *small, *overrides)


def probe_of(folder, *overrides, checkpoint=None):
    return Probe(configured(folder, *overrides), checkpoint, Console(quiet=True), bar=False)


def test_a_probe_has_every_method_asked_for_and_opd(tmp_path):
    probe = probe_of(tmp_path, "methods=[vopd,sft,tropd]", "rollouts=both")
    record = probe.perform()
    assert record == read_record(probe.folder / "probe.json", PROBE)
    rows = record["methods"]
    assert list(rows) == ["opd", "vopd", "sft", "sft (own)", "tropd", "tropd (own)"]
    unmeasured = {key: row["status"] for key, row in rows.items() if row["status"] != "measured"}
    assert unmeasured == {"sft": "nothing to learn"}
    assert rows["opd"]["estimates"]["variance_to_opd"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert rows["vopd"]["estimates"]["variance_to_opd"]["value"] < 1
    assert rows["opd"]["exact"]["bias_reverse_kl"] < 1e-9
    assert rows["sft (own)"]["estimates"]["variance"]["value"] == 0  # the same answers in every set
    assert rows["tropd (own)"]["estimates"]["token_variance"]["value"] == "nan"
    assert record["probe"]["parameters"] == record["probe"]["numbers"] > 100_000
    assert record["probe"]["sketch_error"] == 0


def test_prompts_are_those_that_training_does_not_come_to(tmp_path):
    probe = probe_of(tmp_path, "plan.steps=7", "plan.rollouts=2")
    assert probe.subject.prompts.number.tolist() == [28, 28, 29, 29, 30, 30, 31, 31]


@pytest.fixture(scope="module")
def uncut(tmp_path_factory):
    """A probe of OPD, vOPD and VETO: its folder of results and its record."""
    folder = tmp_path_factory.mktemp("uncut")
    return folder, probe_of(folder, "methods=[vopd,veto]").perform()


def test_what_was_measured_is_not_measured_again(uncut, tmp_path, monkeypatch):
    folder, record = uncut
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(Gradients, "share", None)
    again = probe_of(tmp_path, "methods=[vopd,veto]").perform()
    one, other = outcome(again), outcome(record)
    for found in (one, other):
        found["config"] = {key: value for key, value in found["config"].items() if key != "results"}
    assert one == other
    with pytest.raises(TypeError):
        probe_of(tmp_path, "methods=[vopd]", "again=true").perform()


def test_a_method_whose_code_has_changed_is_measured_anew(uncut, monkeypatch):
    probe = probe_of(uncut[0], "methods=[vopd]")
    vopd = probe.rows[1]
    monkeypatch.setattr("opd_bench.probing.shelf.getsource", lambda module: f"{module.__name__} of another day")
    assert probe._kept(vopd) is None
    monkeypatch.undo()
    assert probe._kept(vopd) is not None


def untimed(record):
    return {name: row | {"seconds": 0} for name, row in record["methods"].items()}


def test_a_stopped_probe_goes_on_and_ends_the_same(uncut, tmp_path, monkeypatch):
    _, record = uncut
    old, calls = Gradients.share, []

    def stopping(self, *given):
        calls.append(self)
        if len(calls) == 27:  # of 10 a set, amid the third: two pieces of each exact gradient, opd, vopd and veto
            raise KeyboardInterrupt
        return old(self, *given)

    monkeypatch.setattr(Gradients, "share", stopping)
    with pytest.raises(KeyboardInterrupt):
        probe_of(tmp_path / "cut", "methods=[vopd,veto]").perform()
    assert not list((tmp_path / "cut").rglob("probe.json"))
    monkeypatch.setattr(Gradients, "share", lambda self, *given: (calls.append(self), old(self, *given))[1])
    calls.clear()
    found = probe_of(tmp_path / "cut", "methods=[vopd,veto]").perform()
    assert untimed(found) == untimed(record)
    assert len(calls) == 10 * (6 - 2)  # two sets were kept
    assert not list((tmp_path / "cut").rglob("gradients"))


def test_a_method_that_fails_is_a_row_and_stops_no_other(tmp_path, monkeypatch):
    vopd = type(load_method("vopd").estimator)
    monkeypatch.setattr(vopd, "token_loss", lambda *_: (_ for _ in ()).throw(RuntimeError("no such thing")))
    rows = probe_of(tmp_path, "methods=[vopd,veto]").perform()["methods"]
    assert (rows["vopd"]["status"], rows["vopd"]["reason"]) == ("failed", "RuntimeError: no such thing")
    assert rows["veto"]["status"] == "measured"
    monkeypatch.undo()
    assert probe_of(tmp_path, "methods=[vopd,veto]").perform()["methods"]["vopd"]["status"] == "measured"


def test_sketched_figures_are_near_the_whole_ones(uncut, tmp_path):
    _, whole_one = uncut
    short = probe_of(tmp_path, "methods=[vopd]", "probe.numbers=20000").perform()
    assert short["probe"]["numbers"] == 20000
    assert short["probe"]["sketch_error"] == pytest.approx(0.01)
    for method in ("opd", "vopd"):
        for figure in ("variance", "norm", "token_variance"):
            values = [record["methods"][method]["estimates"][figure]["value"] for record in (whole_one, short)]
            assert values[0] != values[1]
            assert values[1] == pytest.approx(values[0], rel=0.05)


def as_written(one):
    """A set without its redrawn versions."""
    return one._replace(**{name: getattr(one, name)[:1] for name in ("token", "behaviour_logp", "uniform")})


def test_opd_and_vopd_have_the_same_mean_and_the_baseline_has_the_smaller_variance(tmp_path):
    """At the embedded benchmark's start student; the forward KL, on the same rollouts, has another mean."""
    probe = probe_of(tmp_path, "plan.prompts=16", "probe.sets=16")
    rows = {}
    for name in ("opd", "vopd", "gkd_fkl"):
        estimator, kept = load_method(name).estimator, Sketch(probe.parameters, 0).of
        rows[name] = torch.cat([of(probe.subject, estimator, as_written(one), kept) for one in probe.bank()])
    same = same_mean(gram([rows["opd"], rows["vopd"]]).numpy(), seed=0)
    other = same_mean(gram([rows["opd"], rows["gkd_fkl"]]).numpy(), seed=0)
    assert same.low < 0 < same.high < 0.5
    assert other.low > 0.5
    variances = {name: float(values.double().var(0).sum()) for name, values in rows.items()}
    assert variances["vopd"] < 0.6 * variances["opd"]


METHODS = ("opd", "vopd", "veto", "opd_full", "tropd_no_prefix", "minillm")


@pytest.mark.parametrize("source", [STUDENT, Mixture(alpha=0.5)], ids=["student", "mixture"])
def test_methods_together_are_what_they_are_alone(source, tmp_path):
    where = llama(micro_batches=2)
    banks = [Bank(tmp_path / name, where, source, 3, 2) for name in ("together", *METHODS)]
    together = measured(where, banks[0], *METHODS, at_once=4)
    for bank, name in zip(banks[1:], METHODS, strict=True):
        one, other = products(together, name), products(measured(where, bank, name, at_once=1), name)
        assert torch.equal(one.inner, other.inner), name
        assert torch.equal(one.within, other.within), name


def test_one_set_has_one_run_of_the_student_and_every_gradient_once(tmp_path, monkeypatch):
    """However many methods there are; the exact gradients are those of two of them."""
    where, runs, shares = llama(micro_batches=2), [], []
    init, share = Trunk.__init__, Gradients.share
    monkeypatch.setattr(Trunk, "__init__", lambda self, *given: (runs.append(1), init(self, *given))[1])
    monkeypatch.setattr(Gradients, "share", lambda self, *given: (shares.append(1), share(self, *given))[1])
    measured(where, Bank(tmp_path, where, STUDENT, 3, 2), *METHODS, at_once=10)
    assert len(runs) == 3 * 2
    assert len(shares) == 3 * 2 * (len(METHODS) + 1)  # gkd_fkl, which was not asked for


def test_memory_does_not_grow_with_the_number_of_methods(tmp_path):
    """What is held of all sets: the exact gradients; of others, those of one set and `at_once` methods."""
    where = llama()
    measure = measured(where, Bank(tmp_path, where, STUDENT, 3, 2), "opd", "vopd", "veto")
    for name in ("opd", "vopd", "veto"):
        products(measure, name)
    held = [value for rows in measure._exact.values() for value in rows]
    assert len(held) == 2
    assert all(value.shape == (3, sum(p.numel() for p in where.parameters)) for value in held)


def test_a_gradient_file_that_is_damaged_is_drawn_again(tmp_path):
    where = llama()
    bank, name = Bank(tmp_path, where, STUDENT, 2, 2), Job(load_method("opd").estimator).name
    once = products(measured(where, bank, "opd"), "opd")
    path = tmp_path / "gradients" / name / "set-001.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    again = products(measured(where, bank, "opd"), "opd")
    assert torch.equal(once.inner, again.inner)


def test_rollouts_that_cannot_be_drawn_are_a_failure_of_those_who_need_them(tmp_path, monkeypatch):
    monkeypatch.setattr(TeacherPrefix, "draw", lambda *_: (_ for _ in ()).throw(RuntimeError("no such prefix")))
    rows = probe_of(tmp_path, "methods=[tropd]", "rollouts=both").perform()["methods"]
    assert (rows["tropd (own)"]["status"], rows["tropd (own)"]["reason"]) == ("failed", "RuntimeError: no such prefix")
    assert rows["tropd"]["status"] == rows["opd"]["status"] == "measured"


# ---------------------------------------------------------------- students of a run


def test_the_students_that_a_run_kept_are_probed_at_their_progress(tmp_path):
    run = small_run(tmp_path, "opd", "watch.weights_every=3")
    run.perform()
    found = students(str(run.folder), "standard")
    with pytest.raises(ValueError, match="is a run of setting=standard, and the probe's is mismatch"):
        students(str(run.folder), "mismatch")
    assert [Path(path).name for path in found] == ["step000000", "step000003", "step000006"]
    probes = [probe_of(tmp_path / "probes", "methods=[opd]", checkpoint=path) for path in found]
    assert [(probe.step, probe.progress) for probe in probes] == [(0, 0.0), (3, 0.5), (6, 1.0)]
    start = probe_of(tmp_path / "probes", "methods=[opd]")
    assert start.student == probes[0].student != probes[1].student
    assert {probe.protocol for probe in probes} == {start.protocol}
    assert len({probe.folder for probe in probes}) == 3
    assert probes[2].perform()["checkpoint"]["progress"] == 1.0


def test_a_run_that_kept_no_students_says_how_to_keep_them(tmp_path):
    bare = ("plan.steps=1", "evaluation.problems=1", "evaluation.samples=1", "watch.moments_every=0")
    run = small_run(tmp_path, "opd", *bare)
    run.perform()
    with pytest.raises(ValueError, match=r"watch.weights_every=25"):
        students(str(run.folder), "standard")


def test_wrong_settings_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"ProbePlan.sets must be ≥ 2, got 1"):
        probe_of(tmp_path, "probe.sets=1")
    with pytest.raises(ValueError, match=r"no method 'vpod', did you mean vopd"):
        probe_of(tmp_path, "methods=[vpod]")
    with pytest.raises(ValueError, match="rollouts must be one of common, own, both, got 'mine'"):
        probe_of(tmp_path, "rollouts=mine")
