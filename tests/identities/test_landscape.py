"""The identities that the field's methods rest on; item numbers are those of the methods' survey."""

import math
from dataclasses import dataclass

import pytest
import torch

from opd_bench import exact_moments
from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.divergences import F_DIVERGENCES, jsd
from opd_bench.maths.moments import score_variance
from opd_bench.maths.score import power_reward, score_loss
from opd_bench.maths.targets import arithmetic, geometric
from opd_bench.tokens import Cost, TokenLoss
from tests.identities.common import cos, every_token, gradients, mean, prefix_pair, same, step, through, variance

SIZE = 50


# ---------------------------------------------------------------- K1, K2, K3 and baselines


def test_k1_as_a_detached_reward_is_exact_on_average():
    """Item 1; p ⊙ (Δ − KL) in closed form."""
    student, teacher = prefix_pair(8, SIZE, gap=2.0)
    delta = student.log_softmax(-1) - teacher.log_softmax(-1)
    assert same(mean("opd", student, teacher), through(student.softmax(-1), delta))


def test_k1_back_propagated_is_pure_noise():
    """Item 2."""
    moments = exact_moments("k1_direct", *prefix_pair(8, SIZE))
    assert moments.mean.abs().max() < 1e-12
    assert moments.variance.min() > 0.1
    assert moments.cosine_reverse_kl.isnan().all()


def test_an_attached_reward_keeps_the_mean_and_drowns_it_when_the_models_are_close():
    """Item 3: the cost becomes Δ + 1, which is OPD+'s reverse KL."""
    student, teacher = prefix_pair(20, SIZE, gap=0.2)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    assert same(through(p, delta + 1), mean("opd", student, teacher))
    attached = score_variance(student.log_softmax(-1), delta + 1)
    assert same(attached, variance("opd_plus", student, teacher))
    assert (attached / variance("opd", student, teacher)).median() > 10


def test_k2_back_propagated_is_opd_sample_by_sample():
    """Item 4."""
    (student,), (teacher,) = prefix_pair(1, SIZE)
    assert same(
        gradients("k2_direct", every_token(student, teacher)), gradients("opd", every_token(student, teacher)), 1e-12
    )


def test_k3_back_propagated_is_the_forward_kl():
    """Item 5; per sample (1 − q/p) ∇log p."""
    student, teacher = prefix_pair(8, SIZE)
    assert same(mean("k3_direct", student, teacher), student.softmax(-1) - teacher.softmax(-1))
    rows = gradients("k3_direct", every_token(student[0], teacher[0]))
    p, q = student[0].softmax(-1), teacher[0].softmax(-1)
    assert same(rows, (1 - q / p)[:, None] * (torch.eye(SIZE, dtype=torch.float64) - p))


def test_k3_as_a_reward_is_the_difference_of_both_gradients():
    """Item 6."""
    student, teacher = prefix_pair(8, SIZE)
    p, q, delta = student.softmax(-1), teacher.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    k3 = (-delta).exp() - 1 + delta
    assert same(through(p, k3), mean("opd_full", student, teacher) - (p - q))


def test_a_state_only_reward_has_no_mean_and_adds_variance():
    """Item 7; the same number as a baseline is vOPD."""
    pair = prefix_pair(8, SIZE)
    assert mean("state_only", *pair).abs().max() < 1e-12
    assert variance("state_only", *pair).min() > 0
    (student,), (teacher,) = prefix_pair(1, SIZE)
    rows = [gradients(name, every_token(student, teacher)) for name in ("opd", "state_only", "vopd")]
    assert same(rows[0] - rows[1], rows[2])


def test_the_kl_baseline_lowers_the_variance_of_most_random_pairs_and_raises_it_for_the_rest():
    """Item 8: 87 % of pairs of very different kinds; the gain in closed form."""
    generator = torch.Generator().manual_seed(1)
    spread, gap = torch.rand(2, 2000, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 2000, 32, generator=generator, dtype=torch.float64)
    student = 4 * spread * noise[0]
    teacher = student + (3 * gap + 0.1) * noise[1]
    gain = variance("opd", student, teacher) - variance("vopd", student, teacher)
    assert 0.80 < (gain > 0).double().mean() < 0.95
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    divergence = (p * delta).sum(-1)
    weight = p * (1 - 2 * p + p.square().sum(-1, keepdim=True))
    assert same(gain, 2 * divergence * (weight * delta).sum(-1) - divergence**2 * weight.sum(-1), 1e-9)


# ---------------------------------------------------------------- directions and samplers


@pytest.mark.parametrize("name", sorted(F_DIVERGENCES))
def test_any_f_divergence_has_its_corrected_reward(name):
    """Item 13."""
    student, teacher = prefix_pair(8, SIZE)
    log_u = teacher.log_softmax(-1) - student.log_softmax(-1)
    expected = through(student.softmax(-1), -F_DIVERGENCES[name].weight(log_u))
    assert same(mean("opd_plus", student, teacher, divergence=name), expected, 1e-9)


def test_the_sampler_decides_the_direction():
    """Item 14: likelihood of teacher tokens is the forward KL; K1 rewards on them are neither KL."""
    student, teacher = prefix_pair(50, SIZE, gap=2.0)
    forward, reverse = mean("gkd_fkl", student, teacher), mean("opd_full", student, teacher)
    assert same(mean("seqkd", student, teacher, origin="teacher"), forward)
    cloned = mean("opd", student, teacher, sampler_logits=teacher)
    assert cos(cloned, forward).mean() > cos(cloned, reverse).mean()
    assert cos(cloned, forward).max() < 1 - 1e-6


def test_the_ratio_to_the_sampler_repairs_temperature_and_mixture_but_not_a_lost_support():
    """MiniLLM's w = p/p̃ at a single step; top-p sampling loses tokens that no ratio brings back."""
    student, teacher = prefix_pair(8, 20, gap=2.0)
    p, q = student.softmax(-1), teacher.softmax(-1)
    exact = mean("opd_full", student, teacher)
    for sampler in (student / 0.7, (0.2 * q + 0.8 * p).log()):
        assert same(mean("minillm", student, teacher, sampler_logits=sampler), exact)
        assert not same(mean("opd", student, teacher, sampler_logits=sampler), exact, 1e-3)
    nucleus = student.masked_fill(student < student.topk(5).values[:, -1:], -torch.inf)
    assert not same(mean("minillm", student, teacher, sampler_logits=nucleus), exact, 1e-3)


@dataclass(kw_only=True, eq=False)
class CorrectedOPD(Estimator):
    """ℓ = −sg[ρ r] log p(y): OPD with the ratio to whatever sampled the token."""

    about = About(title="test", paper="none", provenance="author")
    claims = Claims("reverse_kl", stationary=True, cost=Cost("sampled", "sampled"))

    def token_loss(self, tokens, progress):
        return TokenLoss(score_loss(tokens.student_logp, tokens.importance * tokens.log_ratio))


@pytest.mark.parametrize("sampler", ["warm", "cold", "mixture", "teacher"])
def test_the_ratio_makes_any_sampler_of_full_support_unbiased_and_nothing_else_does(sampler):
    """Item 14: to mean the reverse KL off policy, you need ρ."""
    student, teacher = prefix_pair(8, 20, gap=2.0)
    p, q, delta = student.softmax(-1), teacher.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    exact = through(p, delta)
    logits = {"warm": student / 1.5, "cold": student / 0.7, "mixture": (0.2 * q + 0.8 * p).log(), "teacher": teacher}
    written = logits[sampler].softmax(-1)
    assert same(mean(CorrectedOPD(), student, teacher, sampler_logits=logits[sampler]), exact)
    plain = mean("opd", student, teacher, sampler_logits=logits[sampler])
    assert same(plain, written * delta - p * (written * delta).sum(-1, keepdim=True))
    assert ((plain - exact).norm(dim=-1) / exact.norm(dim=-1)).min() > 0.01


def test_the_ratio_cannot_bring_back_tokens_that_top_p_never_draws():
    """What is left is ρ-weighted OPD on the nucleus: another direction, not another length."""
    student, teacher = prefix_pair(8, 20, gap=2.0)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    ranked = p.sort(-1, descending=True)
    dropped = (ranked.values.cumsum(-1) - ranked.values >= 0.9).gather(-1, ranked.indices.argsort(-1))
    nucleus = student.masked_fill(dropped, -torch.inf)
    found = mean(CorrectedOPD(), student, teacher, sampler_logits=nucleus)
    assert same(found, through(p, ~dropped * delta))
    assert cos(found, through(p, delta)).max() < 1 - 1e-5
    assert dropped.any(-1).all()


def test_jsd_tends_to_both_kls():
    """Item 16: JSD/β and JSD/(1 − β), to first order in what is left."""
    student, teacher = prefix_pair(8, SIZE)
    assert same(mean("gkd", student, teacher, beta=1e-6) / 1e-6, mean("gkd_fkl", student, teacher), 1e-3)
    assert same(mean("gkd", student, teacher, beta=1 - 1e-6) / 1e-6, mean("opd_full", student, teacher), 1e-3)


def test_jsd_is_symmetric_at_one_half_bounded_and_of_smaller_gradient():
    """Item 16: at most the binary entropy of β."""
    student, teacher = (x.log_softmax(-1) for x in prefix_pair(50, SIZE, gap=6.0))
    assert same(jsd(student, teacher, 0.5), jsd(teacher, student, 0.5))
    for beta in (0.1, 0.5, 0.9):
        assert jsd(student, teacher, beta).max() <= -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        ratio = mean("gkd", student, teacher, beta=beta).norm(dim=-1) / mean("opd_full", student, teacher).norm(dim=-1)
        assert ratio.median() < 0.3


def test_a_skewed_reward_is_the_score_form_of_a_skew_kl():
    """Item 17: reward log((1 − a) q/p + a), whose floor is log a."""
    student, teacher = prefix_pair(8, SIZE)
    leaf = student.clone().requires_grad_()
    log_p, log_q = leaf.log_softmax(-1), teacher.log_softmax(-1)
    mixture = arithmetic(log_p.detach(), log_q, 0.1)
    (detached,) = torch.autograd.grad((log_p.exp() * (log_p - mixture)).sum(), leaf)
    reward = (0.9 * (log_q - log_p.detach()).exp() + 0.1).log()
    assert same(through(student.softmax(-1), -reward), detached)
    assert reward.min() >= math.log(0.1)


def test_skewed_log_ratio_is_bounded():
    """The integrand of skew reverse KL is at most −log α, even under a certain teacher."""
    student, _ = prefix_pair(8, SIZE)
    certain = torch.full_like(student, -torch.inf)
    certain[:, 0] = 0.0
    loss, gradient = step("skew_rkl", student[:, None], certain[:, None], alpha=0.1)
    assert 0 < loss <= -math.log(0.1)
    assert gradient.isfinite().all()


def test_power_reward_is_a_squared_distance():
    """Item 18."""
    student, teacher = prefix_pair(8, SIZE)
    leaf = student.clone().requires_grad_()
    distance = (leaf.softmax(-1) - teacher.softmax(-1)).square().sum() / 2
    assert same(mean("power_opd", student, teacher), torch.autograd.grad(distance, leaf)[0])
    log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    reward = power_reward(log_p, log_q, 0.7)
    assert torch.equal(reward.sign(), (log_q - log_p).sign())
    assert reward.abs().max() <= 1
    assert same(power_reward(log_p, log_q, 1e-7) / 1e-7, log_q - log_p, 1e-4)
    assert same(mean("power_opd", student, teacher, alpha=1e-7) / 1e-7, mean("opd", student, teacher), 1e-4)


def test_reverse_kl_to_a_flat_teacher_is_an_entropy_bonus():
    """Item 19: log V − H(p)."""
    student, _ = prefix_pair(8, SIZE)
    p = student.softmax(-1)
    assert same(mean("opd_full", student, torch.zeros_like(student)), through(p, p.log()))


def test_a_geometric_target_is_k1_with_a_discounted_student_term():
    """Item 20: reward log q − (1 − β) log p."""
    student, teacher = prefix_pair(8, SIZE)
    log_p, log_q = student.log_softmax(-1), teacher.log_softmax(-1)
    assert same(mean("veto_rkl", student, teacher, beta=0.4), through(log_p.exp(), 0.6 * log_p - log_q))
    fixed = (log_q / 0.6).log_softmax(-1)
    assert same(geometric(fixed, log_q, 0.4), fixed)


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("opd", lambda p, q: (p / q).log()),
        ("vopd", lambda p, q: (p / q).log() - (p * (p / q).log()).sum(-1, keepdim=True)),
        ("power_opd", lambda p, q: p - q),
        ("opd_plus_fkl", lambda p, q: -q / p),
        ("state_only", lambda p, q: (p * (p / q).log()).sum(-1, keepdim=True).expand_as(p)),
    ],
)
def test_the_variance_of_a_score_term_has_a_closed_form(name, cost):
    """Item 21."""
    student, teacher = prefix_pair(8, SIZE)
    p, q = student.softmax(-1), teacher.softmax(-1)
    assert same(variance(name, student, teacher), score_variance(p.log(), cost(p, q)))
