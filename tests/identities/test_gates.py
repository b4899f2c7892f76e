"""What gates, floors, weights and reshaped rewards do to OPD's gradient."""

import math

import pytest
import torch

from opd_bench import exact_moments, load_method
from opd_bench.maths.score import soft_log
from opd_bench.tokens import Signals
from tests.identities.common import mean, prefix_pair, same, step, through

SIZE = 50


def test_eopd_adds_forward_kl_where_the_teacher_is_unsure():
    student, teacher = prefix_pair(8, SIZE)
    p, q = student.softmax(-1), teacher.softmax(-1)
    entropy = -(q * q.log()).sum(-1)
    tau = float(entropy.median()) + 1e-6
    head = torch.zeros_like(q).scatter(-1, q.topk(16).indices, q.topk(16).values)
    opd = mean("opd", student, teacher)
    for renormalise in (True, False):
        target = head / head.sum(-1, keepdim=True) if renormalise else head
        extra = target.sum(-1, keepdim=True) * p - target
        gate = (entropy > tau).double()[:, None]
        found = mean("eopd", student, teacher, tau=tau, alpha=2.0, renormalise=renormalise)
        assert same(found, opd + 2.0 * gate * extra)
    assert 0 < (entropy > tau).sum() < 8


def test_eopds_gate_does_not_change_the_denominator():
    student, teacher = prefix_pair(8, SIZE)
    closed = step("eopd", student[None], teacher[None], tau=100.0)[1]
    assert same(closed, step("opd", student[None], teacher[None])[1])


@pytest.mark.parametrize("tau", [0.0, 1.5, 2.5, math.inf])
def test_eopd_closed_tokens_count_and_open_ones_add_to_opd(tau):
    """Through the whole step: τ = 0 adds the forward KL everywhere, τ = ∞ nowhere; always over all tokens."""
    student, teacher = prefix_pair(8, SIZE)
    p, q = student.softmax(-1), teacher.softmax(-1)
    gate = (-(q * q.log()).sum(-1, keepdim=True) > tau).double()
    assert int(gate.sum()) == {0.0: 8, math.inf: 0}.get(tau, int(gate.sum()))
    head = torch.zeros_like(q).scatter(-1, q.topk(16).indices, q.topk(16).values)
    imitation = p - head / head.sum(-1, keepdim=True)
    expected = step("opd", student[None], teacher[None])[1][0] + gate * imitation / 8
    assert same(step("eopd", student[None], teacher[None], tau=tau, alpha=1.0)[1][0], expected)


def test_reopold_without_floor_and_gate_is_opd():
    student, teacher = prefix_pair(8, SIZE)
    for progress in (0.0, 1.0):
        plain = step("reopold", student[None], teacher[None], progress, floor=-math.inf, beta=1.0)
        assert same(plain[1], step("opd", student[None], teacher[None])[1])


def test_reopold_first_drops_what_hits_the_floor_and_divides_by_what_it_keeps():
    student, teacher = prefix_pair(40, SIZE, gap=2.0)
    reward = (teacher.log_softmax(-1) - student.log_softmax(-1))[:, 0]
    kept = reward >= -0.5
    p = student.softmax(-1)
    rows = -(kept * reward)[:, None] * (torch.eye(SIZE, dtype=torch.float64)[0] - p) / kept.sum()
    assert 0 < kept.sum() < 40
    assert same(step("reopold", student[None], teacher[None], floor=-0.5, switch=0.5)[1][0], rows)


def test_reopold_then_keeps_the_most_uncertain_share_from_exactly_the_switch():
    student, teacher = prefix_pair(40, SIZE, gap=2.0)
    p = student.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    reward = (teacher.log_softmax(-1) - student.log_softmax(-1))[:, 0].clamp_min(-0.5)
    kept = entropy >= entropy.sort().values[-8]  # the top 20 % of 40
    rows = -(kept * reward)[:, None] * (torch.eye(SIZE, dtype=torch.float64)[0] - p) / 8
    for progress in (0.5, 0.75, 1.0):
        found = step("reopold", student[None], teacher[None], progress, floor=-0.5, beta=0.2, switch=0.5)
        assert same(found[1][0], rows)
    before = step("reopold", student[None], teacher[None], 0.5 - 1e-9, floor=-0.5, beta=0.2, switch=0.5)
    assert not same(before[1][0], rows, 1e-3)


def test_reopolds_floor_itself_is_kept():
    estimator = load_method("reopold", floor=-0.5, switch=1.0).estimator
    reward = torch.tensor([-0.5 - 1e-9, -0.5, 0.0, 3.0], dtype=torch.float64)
    values = {"log_ratio": reward, "student_entropy": torch.ones_like(reward)}
    signals = Signals(values=values, sequence=torch.arange(4), position=torch.zeros(4).long())
    assert estimator.weigh(signals, 0.0).tolist() == [False, True, True, True]


def test_entropy_opd_divides_by_every_token():
    """Unlike REOPOLD, which divides by those that it keeps."""
    student, teacher = prefix_pair(20, SIZE)
    p = student.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    kept = (entropy >= entropy.sort().values[-5])[None, :, None]
    plain = step("opd", student[None], teacher[None])[1]
    assert same(step("entropy_opd", student[None], teacher[None], share=0.25)[1], kept * plain)


def test_entropy_opd_is_opd_on_the_kept_prefixes():
    student, teacher = prefix_pair(20, SIZE)
    p = student.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    kept = (entropy >= entropy.sort().values[-5])[:, None]
    assert same(mean("entropy_opd", student, teacher, share=0.25), kept * mean("opd_full", student, teacher))


def test_fdistill_halves_add_up_to_the_jsd():
    pair = prefix_pair(8, SIZE)
    halves = [mean("fdistill_js", *pair, origin=origin) for origin in ("student", "teacher")]
    assert same(sum(halves), mean("gkd", *pair, beta=0.5))
    assert not same(halves[0], halves[1], 1e-3)


def test_fdistills_total_variation_gradient_is_bounded():
    student, teacher = prefix_pair(50, SIZE, gap=8.0)
    assert mean("fdistill_tvd", student, teacher).abs().max() <= 0.25


def test_soft_log_keeps_sign_and_order():
    reward = torch.linspace(-9, 9, 19, dtype=torch.float64)
    exact = torch.tensor([-1.0, 0.0, 3.0], dtype=torch.float64)
    assert same(soft_log(exact.sign() * (exact.abs().exp() - 1)), exact, 1e-12)
    assert same(soft_log(1e-6 * reward), 1e-6 * reward, 1e-10)
    assert torch.equal(soft_log(reward).sign(), reward.sign())
    assert (soft_log(reward).diff() > 0).all()
    assert (soft_log(reward).abs() <= reward.abs()).all()
    student, teacher = prefix_pair(8, SIZE)
    delta = student.log_softmax(-1) - teacher.log_softmax(-1)
    assert same(mean("soft_log", student, teacher), through(student.softmax(-1), soft_log(delta)))


def test_aopd_splits_at_the_sign_of_the_advantage():
    student, teacher = prefix_pair(8, SIZE)
    p, q = student.softmax(-1), teacher.softmax(-1)
    liked = q > p
    head = torch.zeros_like(q).scatter(-1, q.topk(16).indices, q.topk(16).values)
    imitation = head.sum(-1, keepdim=True) * p - head
    chance = (p * ~liked).sum(-1, keepdim=True)
    assert same(mean("aopd", student, teacher), through(p, liked * (p / q).log()) + chance * imitation)


def test_iw_opd_weights_fall_from_one_plus_gamma():
    student, teacher = (x.view(2, 10, SIZE) for x in prefix_pair(20, SIZE))
    size = (teacher.log_softmax(-1) - student.log_softmax(-1))[..., 0].abs()
    weight = 1 + 0.5 * (1 - (size.cumsum(-1) - size) / (size.sum(-1, keepdim=True) + 1e-8))
    found, plain = (step(name, student, teacher)[1] for name in ("iw_opd", "opd"))
    assert same(found, weight[..., None] * plain)
    assert torch.equal(weight[:, 0], torch.full((2,), 1.5, dtype=torch.float64))
    assert (weight.diff(dim=-1) < 0).all()


def test_taid_ends_at_the_forward_kl():
    pair = prefix_pair(8, SIZE)
    assert same(mean("taid", *pair, origin="data", progress=1.0), mean("gkd_fkl", *pair))
    assert same(mean("taid", *pair, origin="data", start=0.0, progress=0.0), torch.zeros(8, SIZE))


def test_sft_on_the_students_own_samples_would_be_noise():
    """Its tokens are the teacher's or the data's: the student's are refused."""
    with pytest.raises(ValueError, match="origin must be one that SFT learns from"):
        exact_moments("sft", *prefix_pair(2, SIZE))
