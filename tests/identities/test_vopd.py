"""What the vOPD paper claims, and what holds."""

import pytest
import torch

from opd_bench import load_method
from opd_bench.maths.moments import score_variance
from opd_bench.maths.score import squared_score
from tests.identities.common import cos, every_token, gradients, mean, prefix_pair, same, through, variance

SIZE = 50


@pytest.mark.parametrize("k", [1, 2, 5, 20, SIZE, None])
def test_the_mean_is_the_reverse_kl_gradient_for_every_k(k):
    """V1, V2."""
    student, teacher = prefix_pair(8, SIZE, gap=2.0)
    exact = through(student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1))
    assert same(mean("vopd", student, teacher, k=k), exact)
    assert same(mean("opd", student, teacher), exact)


def test_the_advantage_with_the_full_baseline_has_mean_zero():
    """V3."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    advantage = load_method("vopd").estimator.token_loss(every_token(student, teacher), 0.0).stats["advantage"]
    assert abs(student.softmax(-1) @ advantage) < 1e-12


def test_one_token_of_baseline_is_none_and_the_whole_vocabulary_is_all_of_it():
    """V4, bit for bit for k = 1."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    rows = every_token(student, teacher)
    assert torch.equal(gradients("vopd", rows, k=1), gradients("opd", every_token(student, teacher)))
    for k in (SIZE, 2 * SIZE):
        assert same(gradients("vopd", every_token(student, teacher), k=k), gradients("vopd", rows))


@pytest.mark.parametrize("k", [2, 5, 20])
def test_the_top_k_baseline_is_the_renormalised_kl_on_the_students_own_top_k(k):
    """Eq. 14 and 15: y need not be in it, and the reward stays normalised over the whole vocabulary."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    p, q = student.softmax(-1), teacher.softmax(-1)
    head = p.topk(k).indices
    p_head, q_head = p[head] / p[head].sum(), q[head] / q[head].sum()
    stats = load_method("vopd_topk", k=k).estimator.token_loss(every_token(student, teacher), 0.0).stats
    assert same(stats["baseline"], -(p_head * (p_head / q_head).log()).sum())
    assert same(stats["advantage"], (q / p).log() - stats["baseline"])


def test_renormalised_top_k_as_a_loss_is_biased():
    """V5: the very number that is harmless as a baseline is a biased objective."""
    student, teacher = prefix_pair(50, SIZE, gap=2.0)
    exact = mean("opd_full", student, teacher)
    truncated = mean("opd_topk", student, teacher, k=5)
    error = (truncated - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert error.median() > 0.1
    assert same(mean("vopd_topk", student, teacher, k=5), exact)


def test_a_baseline_does_nothing_for_the_full_vocabulary():
    """V6, Eq. 12 and 13: summed over every token both are the gradient of the full KL, since Σ p ∇log p = 0."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    based, plain = (student.softmax(-1) @ gradients(name, every_token(student, teacher)) for name in ("vopd", "opd"))
    assert same(based, plain, 1e-12)
    assert same(based, gradients("opd_full", every_token(student, teacher))[0], 1e-12)


@pytest.mark.parametrize(
    ("gap", "share", "ratio"), [(0.5, 0.81, 0.960), (1.0, 0.908, 0.858), (2.0, 0.968, 0.627), (4.0, 0.995, 0.380)]
)
def test_variance_falls_on_average_and_more_under_a_larger_gap(gap, share, ratio):
    """V7: share of prefixes with lower variance, and median ratio, within sampling error of 4,000 prefixes."""
    pair = prefix_pair(1000, SIZE, gap=gap, seed=3)
    plain = variance("opd", *pair)
    full, top20, optimal = (variance(name, *pair) / plain for name in ("vopd", "vopd_topk", "vopd_optimal"))
    assert (full < 1).double().mean() == pytest.approx(share, abs=0.05)
    assert full.median() == pytest.approx(ratio, abs=0.04)
    assert top20.median() == pytest.approx(ratio, abs=0.04)
    assert optimal.median() <= full.median()


def test_variance_does_not_fall_at_every_prefix():
    """V8: a prefix where the value baseline makes it two hundred times larger."""
    student = torch.tensor([0.2666, 0.7313, 0.0019, 0.0003], dtype=torch.float64).log()
    teacher = torch.tensor([0.9672, 0.0261, 0.0057, 0.0011], dtype=torch.float64).log()
    assert 200 < variance("vopd", student, teacher) / variance("opd", student, teacher) < 350


def test_the_variance_gain_of_equation_11_is_an_approximation():
    """V9: KL² E‖∇log p‖² correlates with the exact gain and does not equal it."""
    student, teacher = prefix_pair(1000, SIZE, gap=2.0)
    gain = variance("opd", student, teacher) - variance("vopd", student, teacher)
    p, log_p, log_q = student.softmax(-1), student.log_softmax(-1), teacher.log_softmax(-1)
    approximation = (p * (log_p - log_q)).sum(-1) ** 2 * (p * squared_score(log_p)).sum(-1)
    correlation = torch.corrcoef(torch.stack([gain, approximation]))[0, 1]
    assert 0.75 < correlation < 0.97
    assert 0.8 < gain.mean() / approximation.mean() < 1.05
    assert (gain - approximation).abs().median() > 1e-3


def test_the_optimal_constant_is_never_worse():
    """A theorem, prefix by prefix, among all baselines that do not depend on the token."""
    for gap in (0.5, 2.0):
        pair = prefix_pair(300, 12, gap=gap)
        best = variance("vopd_optimal", *pair)
        for other in ("opd", "vopd", "vopd_topk", "opd_plus"):
            assert (best <= variance(other, *pair) + 1e-12).all()
        student, teacher = (logits.log_softmax(-1) for logits in pair)
        for constant in torch.linspace(-6, 3, 19, dtype=torch.float64):
            assert (best <= score_variance(student, teacher - student - constant) + 1e-12).all()
        assert same(mean("vopd_optimal", *pair), mean("opd_full", *pair))


def test_sampling_at_another_temperature_is_biased_and_a_baseline_then_moves_the_mean():
    """V10: E_s[A ∇log p] with s the sampler; the baseline adds KL E_s[∇log p] = KL (s − p), which is 0 for s = p."""
    student, teacher = prefix_pair(20, SIZE, gap=2.0)
    exact = mean("opd_full", student, teacher)
    plain, based = (mean(name, student, teacher, sampler_logits=student / 0.7) for name in ("opd", "vopd"))
    assert ((plain - exact).norm(dim=-1) / exact.norm(dim=-1)).median() > 0.1
    assert ((plain - based).norm(dim=-1) / exact.norm(dim=-1)).median() > 0.1
    assert cos(plain, exact).min() > 0
    p, sampler = student.softmax(-1), (student / 0.7).softmax(-1)
    gap = student.log_softmax(-1) - teacher.log_softmax(-1)
    assert same(plain, sampler * gap - p * (sampler * gap).sum(-1, keepdim=True))
    assert same(based - plain, (p * gap).sum(-1, keepdim=True) * (p - sampler))


def test_over_two_steps_the_baseline_keeps_the_mean_and_moves_the_covariance_between_steps():
    """N3: tokens (a, b) enumerated jointly, both steps' gradients in one shared logit space."""
    (first,), (first_teacher,) = prefix_pair(1, 6, seed=1)
    second, second_teacher = prefix_pair(6, 6, seed=2)
    totals = {}
    for name in ("opd", "vopd"):
        start = gradients(name, every_token(first, first_teacher))
        later = torch.stack([gradients(name, every_token(*pair)) for pair in zip(second, second_teacher, strict=True)])
        chance = first.softmax(-1)[:, None] * second.softmax(-1)
        total = start[:, None] + later
        centre = (chance[..., None] * total).sum((0, 1))
        within = variance(name, first, first_teacher) + first.softmax(-1) @ variance(name, second, second_teacher)
        totals[name] = (centre, (chance * (total - centre).square().sum(-1)).sum(), within)
    assert same(totals["opd"][0], totals["vopd"][0])
    assert abs(totals["opd"][1] - totals["opd"][2]) > 1e-3  # not just the sum over steps
    assert abs(totals["opd"][1] / totals["vopd"][1] - totals["opd"][2] / totals["vopd"][2]) > 1e-3
