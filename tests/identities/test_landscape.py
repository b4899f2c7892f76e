"""The identities that the field's methods rest on; item numbers are those of the methods' survey."""

import math
from dataclasses import dataclass

import pytest
import torch

from opd_bench import exact_moments, load_method
from opd_bench.estimators.base import About, Claims, Estimator
from opd_bench.maths.divergences import F_DIVERGENCES, jsd
from opd_bench.maths.moments import score_variance
from opd_bench.maths.score import power_reward, score_loss, soft_log
from opd_bench.maths.targets import arithmetic, geometric
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Cost, Origin, Signals, TokenLoss
from tests.identities.common import cos, every_token, gradients, mean, prefix_pair, same, through, variance

SIZE = 50


def step(name, student, teacher, progress=0.0, **fields):
    """Loss and logit gradient of one step over sequences [B, T, V] of token 0."""
    leaf = student.clone().requires_grad_()
    shape = student.shape[:2]
    batch = ScoredBatch(
        student_logits=leaf,
        teacher_logits=teacher,
        token=torch.zeros(shape, dtype=torch.long),
        response=torch.ones(shape, dtype=torch.bool),
        origin=torch.full(shape, Origin.STUDENT),
        behaviour_logp=student.log_softmax(-1)[..., 0],
        uniform=torch.full(shape, 0.5, dtype=torch.float64),
    )
    loss = batch_loss(load_method(name, **fields).estimator, [batch], progress)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


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


# ---------------------------------------------------------------- supports


def test_raw_top_k_drains_the_support_even_where_the_models_agree_and_can_be_negative():
    """Item 9; the stop-gradient form does neither."""
    student, _ = prefix_pair(4, SIZE)
    head = student.softmax(-1).topk(4)
    inside = torch.zeros_like(student).scatter(-1, head.indices, 1.0)
    p = student.softmax(-1)
    drained = p * (inside - head.values.sum(-1, keepdim=True))
    assert same(mean("opd_topk", student, student, k=4, form="raw"), drained)
    assert same(mean("opd_topk", student, student, k=4, form="stop_gradient"), torch.zeros_like(p))
    flat = torch.linspace(0, 0.1, SIZE, dtype=torch.float64)[None, None]
    keen = flat + 5.0 * (flat >= flat.topk(4).values[..., -1:])
    assert step("opd_topk", flat, keen, k=4, form="raw")[0] < 0


def test_the_kl_splits_exactly_and_the_tail_bucket_drops_only_the_last_part():
    """Item 10: KL = P KL(p̂‖q̂) + KL(Bern P‖Bern Q) + (1 − P) KL(tails)."""
    student, teacher = prefix_pair(8, SIZE, gap=2.0)
    p, q = student.softmax(-1), teacher.softmax(-1)
    index = p.topk(4).indices
    p_head, q_head = p.gather(-1, index), q.gather(-1, index)
    mass, other = p_head.sum(-1), q_head.sum(-1)
    head = (p_head / mass[:, None] * (p_head / q_head * (other / mass)[:, None]).log()).sum(-1)
    bernoulli = mass * (mass / other).log() + (1 - mass) * ((1 - mass) / (1 - other)).log()
    full = (p * (p / q).log()).sum(-1)
    rest = full - mass * head - bernoulli
    for row in range(8):
        tokens = every_token(student[row], teacher[row])
        value = load_method("opd_topk", k=4, form="tail_bucket").estimator.token_loss(tokens, 0.0).loss[0]
        assert value.detach() == pytest.approx(float(mass[row] * head[row] + bernoulli[row]), abs=1e-10)
        assert 0 <= value <= full[row]
    assert (rest > 0).all()
    assert same(mean("opd_topk", student, student, k=4, form="tail_bucket"), torch.zeros_like(p))


@pytest.mark.parametrize("k", [1, 4, 20, SIZE])
def test_head_and_sampled_tail_are_unbiased_and_quieter(k):
    """Item 11: unbiased for every k; quieter than OPD on average, and than vOPD once k holds most of the mass."""
    pair = prefix_pair(300, SIZE, gap=2.0)
    assert same(mean("head_tail", *pair, k=k), mean("opd_full", *pair))
    found = variance("head_tail", *pair, k=k)
    assert (found / variance("opd", *pair)).median() < (1.0 if k == 1 else 0.8)
    if k >= 20:
        assert (found / variance("vopd", *pair)).median() < 0.6


def test_one_renormalised_token_is_no_loss_at_all():
    """Item 12."""
    student, teacher = prefix_pair(8, SIZE)
    assert mean("opd_topk", student, teacher, k=1).abs().max() == 0


@pytest.mark.parametrize("ranked_by", ["student", "teacher"])
@pytest.mark.parametrize("form", ["renormalised", "stop_gradient", "raw", "tail_bucket"])
def test_every_form_over_the_whole_vocabulary_is_the_reverse_kl(form, ranked_by):
    pair = prefix_pair(8, SIZE)
    assert same(mean("opd_topk", *pair, k=SIZE, form=form, ranked_by=ranked_by), mean("opd_full", *pair))


def test_the_forms_differ_by_what_they_do_with_the_tail():
    """The stop-gradient form is Σ_S Δ ∇p, and raw is that plus ∇P_S."""
    student, teacher = prefix_pair(8, SIZE)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    inside = torch.zeros_like(p).scatter(-1, p.topk(4).indices, 1.0)
    assert same(mean("opd_topk", student, teacher, k=4, form="stop_gradient"), through(p, inside * delta))
    assert same(mean("opd_topk", student, teacher, k=4, form="raw"), through(p, inside * (delta + 1)))


def test_lsm_gradient_lives_on_the_teachers_support():
    student, teacher = prefix_pair(8, SIZE)
    p, q = student.softmax(-1), teacher.softmax(-1)
    inside = torch.zeros_like(p).scatter(-1, q.topk(7).indices, 1.0)
    p_head, q_head = ((inside * x) / (inside * x).sum(-1, keepdim=True) for x in (p, q))
    delta = torch.where(inside > 0, (p_head / q_head).log(), 0.0)
    gradient = mean("lsm", student, teacher, k=7)
    assert same(gradient, through(p_head, delta))
    assert gradient[inside == 0].abs().max() < 1e-15


@pytest.mark.parametrize("k", [4, 16])
def test_rethinking_is_the_stop_gradient_form_over_its_mass(k):
    student, teacher = prefix_pair(8, SIZE)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    mass = p.topk(k).values.sum(-1, keepdim=True)
    plain = mean("opd_topk", student, teacher, k=k, form="stop_gradient")
    assert same(mean("rethinking_opd", student, teacher, k=k), plain / mass)
    inside = torch.zeros_like(p).scatter(-1, p.topk(k).indices, 1.0)
    q = teacher.softmax(-1) * inside
    for weighting, w in (("none", inside), ("teacher", q / q.sum(-1, keepdim=True))):
        weighed = w * delta
        exact = weighed - p * weighed.sum(-1, keepdim=True)
        assert same(mean("rethinking_opd", student, teacher, k=k, weighting=weighting), exact)


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


# ---------------------------------------------------------------- gates and shapes


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
