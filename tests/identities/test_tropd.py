"""What the TrOPD paper's formula means, and what the reported code does instead."""

import math

import pytest
import torch

from opd_bench import exact_moments, load_method
from opd_bench.maths.moments import score_variance
from opd_bench.maths.score import acceptance, mixture_floor, normalised_floor
from opd_bench.rollouts.sources import TeacherPrefix
from opd_bench.tokens import Origin, TokenBatch
from tests.identities.common import cos, every_token, gradients, mean, prefix_pair, same, through, variance

SIZE = 50


def models(pair):
    student, teacher = pair
    p, q = student.softmax(-1), teacher.softmax(-1)
    return p, q, (q / p).log()


def top_mass(q, k):
    """q on its top k, zero elsewhere."""
    return torch.zeros_like(q).scatter(-1, q.topk(k).indices, q.topk(k).values)


def test_the_trusted_share_is_one_minus_the_total_variation():
    """R1."""
    p, q, log_ratio = models(prefix_pair(20, SIZE, gap=2.0))
    assert same((p * acceptance(log_ratio)).sum(-1), 1 - (p - q).abs().sum(-1) / 2, 1e-12)


def test_the_trusted_part_weighs_the_overlap():
    """R2: −Σ min(p, q) log(q/p) ∇log p is the mean gradient once outliers are dropped."""
    pair = prefix_pair(20, SIZE, gap=2.0)
    p, _, log_ratio = models(pair)
    exact = through(p, -acceptance(log_ratio) * log_ratio)
    assert same(mean("tropd_mask", *pair), exact)
    assert same(mean("tropd_mask", *pair, trust="expected"), exact)


@pytest.mark.parametrize("name", ["tropd", "tropd_mask", "tropd_scalar"])
def test_drawn_coins_agree_with_the_enumerated_ones(name):
    """R3: 30,000 tokens and uniforms; the mean within 3 standard errors, the variance within 5%."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    generator = torch.Generator().manual_seed(0)
    count = 30_000
    token = torch.multinomial(student.softmax(-1), count, replacement=True, generator=generator)
    tokens = TokenBatch(
        student_logits=student.repeat(count, 1).requires_grad_(),
        teacher_logits=teacher.expand(count, -1),
        token=token,
        origin=torch.full((count,), Origin.STUDENT),
        behaviour_logp=student.log_softmax(-1)[token],
        uniform=torch.rand(count, generator=generator, dtype=torch.float64),
    )
    rows = gradients(name, tokens)
    exact = exact_moments(name, student, teacher)
    assert (rows.mean(0) - exact.mean).norm() < 3 * (exact.variance / count).sqrt()
    assert rows.var(0).sum() == pytest.approx(float(exact.variance), rel=0.05)


def test_only_what_the_student_overrates_can_be_rejected_and_the_trusted_reward_is_bounded():
    """R4: u log u ≥ −1/e."""
    _, _, log_ratio = models(prefix_pair(200, SIZE, gap=3.0))
    assert (log_ratio[acceptance(log_ratio) < 1] < 0).all()
    assert ((acceptance(log_ratio) * log_ratio)[log_ratio < 0] >= -1 / math.e).all()
    assert (log_ratio < -1 / math.e).any()


def test_trusting_everything_is_opd_token_by_token():
    """R5: coins that all fall heads, or outliers that keep their whole reward."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    opd = gradients("opd", every_token(student, teacher))
    for name in ("tropd", "tropd_mask", "tropd_clip", "tropd_scalar"):
        assert same(gradients(name, every_token(student, teacher, uniform=0.0)), opd)
    for uniform in (0.0, 0.5, 1.0):
        assert same(gradients("tropd_clip", every_token(student, teacher, uniform), floor=-math.inf), opd)


@pytest.mark.parametrize("trust", ["bernoulli", "expected"])
def test_outliers_that_keep_their_whole_reward_are_opd_in_mean_and_variance(trust):
    """R5."""
    pair = prefix_pair(20, SIZE, gap=2.0)
    unclipped = exact_moments("tropd", *pair, outlier="clip", floor=-math.inf, trust=trust)
    assert same(unclipped.mean, mean("opd", *pair))
    assert same(unclipped.variance, variance("opd", *pair))


@pytest.mark.parametrize("k", [SIZE, 2 * SIZE])
def test_trusting_nothing_with_the_whole_vocabulary_is_the_forward_kl(k):
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    tails = every_token(student, teacher, uniform=1.0)
    assert same(gradients("tropd", tails, k=k), (student.softmax(-1) - teacher.softmax(-1)).expand(SIZE, -1))


@pytest.mark.parametrize("k", [5, 20, SIZE])
def test_outliers_pull_towards_the_teachers_top_k_in_proportion_to_the_total_variation(k):
    """R6: the outlier part of the mean is TV · (m p − q_topk), m the teacher's mass there."""
    pair = prefix_pair(20, SIZE, gap=2.0)
    p, q, _ = models(pair)
    head = top_mass(q, k)
    total_variation = (p - q).abs().sum(-1, keepdim=True) / 2
    outliers = mean("tropd", *pair, k=k) - mean("tropd_mask", *pair)
    assert same(outliers, total_variation * (head.sum(-1, keepdim=True) * p - head))


@pytest.mark.parametrize("k", [5, 20, SIZE])
def test_the_scalar_form_pushes_the_sampled_token_down_instead(k):
    """R6: its outlier part is F Σ (p − q)₊ ∇log p, another direction."""
    pair = prefix_pair(20, SIZE, gap=2.0)
    p, q, _ = models(pair)
    index = q.topk(k).indices
    renormalised = q.gather(-1, index) / q.gather(-1, index).sum(-1, keepdim=True)
    distance = (renormalised * (renormalised.log() - p.gather(-1, index).log())).sum(-1, keepdim=True)
    excess = (p - q).clamp_min(0)
    scalar = mean("tropd_scalar", *pair, k=k) - mean("tropd_mask", *pair)
    assert same(scalar, distance * (excess - p * excess.sum(-1, keepdim=True)))
    direct = mean("tropd", *pair, k=k) - mean("tropd_mask", *pair)
    assert 0.5 < cos(scalar, direct).mean() < 0.98


def test_a_scalar_imitation_term_on_every_token_has_no_expected_gradient():
    """R6: it does not depend on the token, so it is noise: the same fault as the state-only reward."""
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    tails = every_token(student, teacher, uniform=1.0)
    rows = gradients("tropd_scalar", tails)
    assert (student.softmax(-1) @ rows).norm() < 1e-12
    assert rows.norm(dim=-1).min() > 1e-3


def test_the_expectation_is_not_opds():
    """R7: nearer to the forward KL than to OPD, and smaller, as medians; zero where the models agree."""
    pair = prefix_pair(200, SIZE, gap=2.0)
    tropd, opd, forward = (mean(name, *pair) for name in ("tropd", "opd", "gkd_fkl"))
    assert cos(tropd, opd).median() < 0.9 < cos(tropd, forward).median()
    assert (tropd.norm(dim=-1) / opd.norm(dim=-1)).median() < 0.9
    assert mean("tropd", pair[0], pair[0]).abs().max() < 1e-12


def test_prefix_tokens_follow_the_forward_kl_and_the_scalar_form_opposes_it():
    """R8: β (p − q) against β E_q[r ∇log p]."""
    pair = prefix_pair(500, SIZE, gap=2.0)
    p, q, log_ratio = models(pair)
    forward = mean("gkd_fkl", *pair)
    assert same(mean("tropd", *pair, origin="teacher", beta=0.5), 0.5 * forward)
    scalar = mean("tropd_scalar", *pair, origin="teacher", beta=0.5)
    assert same(scalar, 0.5 * (q * log_ratio - p * (q * log_ratio).sum(-1, keepdim=True)))
    assert cos(scalar, forward).mean() < -0.8
    assert (cos(scalar, forward) < 0).double().mean() > 0.98


def test_variance_falls_because_the_target_changed():
    """R9, medians: Bernoulli about 0.120 of OPD's, expected mask 0.075, clip at −2 0.441."""
    pair = prefix_pair(1000, SIZE, gap=2.0)
    p, _, log_ratio = models(pair)
    opd = variance("opd", *pair)
    assert (variance("tropd_mask", *pair) / opd).median() == pytest.approx(0.12, abs=0.04)
    assert (variance("tropd_mask", *pair, trust="expected") / opd).median() == pytest.approx(0.075, abs=0.03)
    clipped = variance("reopold", *pair, floor=-2.0, beta=1.0, switch=0.0)
    assert (clipped / opd).median() == pytest.approx(0.44, abs=0.06)
    assert torch.allclose(clipped, score_variance(p.log(), log_ratio.clamp_min(-2.0)), atol=1e-9)


def test_a_constant_baseline_inside_the_mask_changes_the_mean_and_one_outside_does_not():
    """R10: M depends on the token."""
    pair = prefix_pair(20, SIZE, gap=2.0)
    p, _, log_ratio = models(pair)
    chance = acceptance(log_ratio)
    masked = mean("tropd_mask", *pair)
    inside = through(p, -chance * (log_ratio - 1))
    assert ((inside - masked).norm(dim=-1) / masked.norm(dim=-1)).median() > 0.5
    assert same(through(p, -(chance * log_ratio - 1)), masked)


def test_prefixes_shrink_along_a_cosine():
    """R11."""
    shares = [TeacherPrefix.share(progress) for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert shares == pytest.approx([1, 0.8535533906, 0.5, 0.1464466094, 0])


@pytest.mark.parametrize(
    ("lam", "floor"), [(0.5, -1.386), (0.3, -1.720), (0.1, -2.558), (0.05, -3.153), (0.01, -4.652)]
)
def test_floors_are_limits_of_mixture_rewards(lam, floor):
    """R12, and the other reading of the floor."""
    assert normalised_floor(lam) == pytest.approx(floor, abs=1e-3)
    assert normalised_floor(lam) == pytest.approx(math.log((1 - lam) * 1e-14 + lam) / (1 - lam), abs=1e-9)
    assert mixture_floor(lam) == pytest.approx(math.log(lam) - math.log(1 - lam))


def test_the_configured_floors_are_what_their_comments_say():
    assert load_method("tropd_clip").estimator.floor == pytest.approx(normalised_floor(0.1), abs=1e-12)
    assert load_method("reopold").estimator.floor == pytest.approx(normalised_floor(0.3), abs=1e-12)


def test_the_teachers_top_k_may_be_renormalised_and_is_not_by_default():
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    p, q, _ = models((student, teacher))
    head = top_mass(q, 5)
    tails = every_token(student, teacher, uniform=1.0)
    assert same(gradients("tropd", tails, k=5), (head.sum() * p - head).expand(SIZE, -1))
    tails = every_token(student, teacher, uniform=1.0)
    assert same(gradients("tropd", tails, k=5, renormalise=True), (p - head / head.sum()).expand(SIZE, -1))


def test_teacher_tokens_are_imitated_with_weight_beta():
    (student,), (teacher,) = prefix_pair(1, SIZE, gap=2.0)
    tokens = every_token(student, teacher, origin=Origin.TEACHER)
    rows = gradients("tropd", tokens, beta=0.25)
    assert same(rows, 0.25 * (student.softmax(-1) - torch.eye(SIZE, dtype=torch.float64)))
