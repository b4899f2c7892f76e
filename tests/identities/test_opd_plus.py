"""f-divergences by the score function: what OPD+ corrects, for all seven of them."""

import math

import pytest
import torch

from opd_bench import load_method
from opd_bench.maths.divergences import F_DIVERGENCES
from tests.identities.common import cos, every_token, gradients, mean, prefix_pair, same, through, variance

NAMES = sorted(F_DIVERGENCES)
FORMULAS = {
    "forward_kl": lambda u: u * u.log(),
    "reverse_kl": lambda u: -u.log(),
    "jsd": lambda u: (u * u.log() - (1 + u) * ((1 + u) / 2).log()) / 2,
    "pearson_chi2": lambda u: (u - 1) ** 2,
    "neyman_chi2": lambda u: (1 - u) ** 2 / u,
    "total_variation": lambda u: (u - 1).abs() / 2,
    "sq_hellinger": lambda u: (1 - u.sqrt()) ** 2,
}
CLOSED_EXPECTATIONS = {
    "forward_kl": lambda p, q: torch.ones_like(p[..., 0]),
    "reverse_kl": lambda p, q: -(p * (p / q).log()).sum(-1) - 1,
    "jsd": lambda p, q: -(p * (2 * p / (p + q)).log()).sum(-1) / 2,
    "pearson_chi2": lambda p, q: ((q - p) ** 2 / p).sum(-1),
    "neyman_chi2": lambda p, q: 2 - 2 * (p**2 / q).sum(-1),
    "total_variation": lambda p, q: ((p * (q > p)).sum(-1) - (p * (q < p)).sum(-1)) / 2,
    "sq_hellinger": lambda p, q: (p * q).sqrt().sum(-1) - 1,
}
every_divergence = pytest.mark.parametrize("name", NAMES)


def divergence_gradient(name, student, teacher):
    leaf = student.clone().requires_grad_()
    p = leaf.softmax(-1)
    return torch.autograd.grad((p * FORMULAS[name](teacher.softmax(-1) / p)).sum(), leaf)[0]


@every_divergence
@pytest.mark.parametrize("baseline", ["none", "value"])
def test_the_mean_is_the_gradient_of_the_divergence_with_either_baseline(name, baseline):
    """P1."""
    pair = prefix_pair(8)
    assert same(mean("opd_plus", *pair, divergence=name, baseline=baseline), divergence_gradient(name, *pair), 1e-9)


@every_divergence
def test_the_code_has_the_formula_and_its_derivative(name):
    """f, and w = −f + u f′ by autograd."""
    log_u = torch.linspace(-6, 5, 400, dtype=torch.float64)
    u = log_u.exp().requires_grad_()
    f = FORMULAS[name](u)
    (slope,) = torch.autograd.grad(f.sum(), u)
    assert torch.allclose(F_DIVERGENCES[name].f(log_u), f.detach(), rtol=1e-10, atol=1e-12)
    assert torch.allclose(F_DIVERGENCES[name].weight(log_u), (u * slope - f).detach(), rtol=1e-10, atol=1e-12)


@every_divergence
def test_its_expectation_has_the_closed_form(name):
    """P5: it is what the value baseline takes off the advantage of every token."""
    for student, teacher in zip(*prefix_pair(8), strict=True):
        p, q = student.softmax(-1), teacher.softmax(-1)
        plain, valued = (
            load_method("opd_plus", divergence=name, baseline=baseline)
            .estimator.token_loss(every_token(student, teacher), 0.0)
            .stats["advantage"]
            for baseline in ("none", "value")
        )
        assert torch.allclose(p @ plain, CLOSED_EXPECTATIONS[name](p, q), rtol=1e-10)
        assert torch.allclose(plain - valued, CLOSED_EXPECTATIONS[name](p, q), rtol=1e-9, atol=1e-9)


@every_divergence
def test_the_weight_at_one_is_the_slope_there_and_never_falls(name):
    """dw/du = u f″ ≥ 0: no token that the teacher prefers more is pushed down relative to one it prefers less."""
    one = torch.ones((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(FORMULAS[name](one), one)
    weight = F_DIVERGENCES[name].weight(torch.linspace(-8, 8, 4001, dtype=torch.float64))
    assert F_DIVERGENCES[name].weight(one.detach().log()) == pytest.approx(float(slope), abs=1e-12)
    assert (weight.diff() >= -1e-12).all()


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "sq_hellinger", "pearson_chi2", "total_variation"])
def test_the_uncorrected_reward_is_not_monotone(name):
    reward = -F_DIVERGENCES[name].f(torch.linspace(-4, 4, 801, dtype=torch.float64))
    assert (reward.diff() > 0).any()
    assert (reward.diff() < 0).any()


@every_divergence
def test_adding_a_multiple_of_u_minus_one_is_the_same_divergence_only_with_the_correction(name):
    """P2."""
    pair = prefix_pair(8)
    p, q = (logits.softmax(-1) for logits in pair)
    u = (q / p).requires_grad_()
    shifted = FORMULAS[name](u) + 3 * (u - 1)
    (slope,) = torch.autograd.grad(shifted.sum(), u)
    shifted, u = shifted.detach(), u.detach()
    assert same(mean("opd_plus", *pair, divergence=name), through(p, shifted - u * slope), 1e-9)
    uncorrected = mean("fdiv_stopgrad_fkl", *pair, divergence=name)
    assert same(uncorrected, through(p, FORMULAS[name](u)), 1e-9)
    assert ((through(p, shifted) - uncorrected).norm(dim=-1) / uncorrected.norm(dim=-1)).min() > 0.1


def test_stop_gradient_rewards_point_elsewhere():
    """P1: right for the reverse KL alone, uphill for the forward KL and χ²."""
    pair = prefix_pair(200)
    cosines = {
        name: cos(mean("fdiv_stopgrad_fkl", *pair, divergence=name), divergence_gradient(name, *pair)) for name in NAMES
    }
    assert same(mean("fdiv_stopgrad_fkl", *pair, divergence="reverse_kl"), mean("opd_full", *pair))
    assert cosines["forward_kl"].median() < -0.8
    assert cosines["pearson_chi2"].median() < -0.6
    assert all(cosines[name].median() < 0.99 for name in set(NAMES) - {"reverse_kl"})


def test_the_reverse_kl_weight_has_opds_mean_and_on_most_prefixes_a_larger_variance():
    """P3 and P4: the constant −1 is not neutral for variance."""
    for gap, least in ((0.25, 10.0), (1.0, 2.0), (2.0, 1.3)):
        pair = prefix_pair(500, gap=gap)
        assert same(mean("opd_plus", *pair), mean("opd", *pair))
        ratio = variance("opd_plus", *pair) / variance("opd", *pair)
        assert ratio.median() > least
        assert (ratio > 1).double().mean() > 0.95


def test_reverse_kl_with_the_value_baseline_is_vopd_token_by_token():
    (student,), (teacher,) = prefix_pair(1)
    corrected = gradients("opd_plus", every_token(student, teacher), baseline="value")
    assert same(corrected, gradients("vopd", every_token(student, teacher)))


def test_jensen_shannon_weights_are_bounded_below_and_grow_like_half_a_logarithm():
    """P6: at least −½ ln 2."""
    weight = F_DIVERGENCES["jsd"].weight(torch.tensor([-20.0, -2.0, 0.0, 20.0], dtype=torch.float64))
    assert weight.min() >= -math.log(2) / 2
    assert weight[0] == pytest.approx(-math.log(2) / 2, abs=1e-8)
    assert weight[3] == pytest.approx((20 - math.log(2)) / 2, abs=1e-8)


def test_a_frozen_ratio_is_the_true_gradient_only_at_the_rollout_policy():
    """P7: E_p0[ρ w(u_0)] against E_p[w(u)], forward KL."""
    student, teacher = prefix_pair(200)
    noise = torch.randn(student.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = student.softmax(-1), teacher.softmax(-1)
    old = (student + 0.3 * noise).softmax(-1)
    frozen, current = through(p, -q / old), through(p, -q / p)
    assert same(current, mean("opd_plus_fkl", student, teacher))
    assert 0.5 < cos(frozen, current).median() < 0.999


@pytest.mark.parametrize("name", ["forward_kl", "pearson_chi2", "reverse_kl"])
def test_a_clamp_is_a_bias_exactly_where_it_binds(name):
    student, teacher = prefix_pair(8)
    log_u = teacher.log_softmax(-1) - student.log_softmax(-1)
    size = log_u.abs().max(-1).values
    limit = float(size.median())
    free = mean("opd_plus", student, teacher, divergence=name)
    for baseline in ("none", "value"):
        clamped = mean("opd_plus", student, teacher, divergence=name, clamp=limit, baseline=baseline)
        weight = F_DIVERGENCES[name].weight(log_u.clamp(-limit, limit))
        assert same(clamped, through(student.softmax(-1), -weight))
        assert torch.equal((clamped - free).norm(dim=-1) > 1e-12, size > limit)


def test_the_forward_kl_weight_is_the_ratio_itself():
    log_u = torch.linspace(-3, 3, 7, dtype=torch.float64)
    assert torch.equal(F_DIVERGENCES["forward_kl"].weight(log_u), log_u.exp())
