"""What the Veto paper claims, and what its gradients are."""

import math

import pytest
import torch

from opd_bench.maths.divergences import forward_kl, reverse_kl
from opd_bench.maths.targets import geometric
from tests.identities.common import cos, mean, prefix_pair, same, through, variance

BETAS = (0.0, 0.3, 0.8, 1.0, 1.2)


def target_of(student, teacher, beta):
    return torch.softmax(teacher.log_softmax(-1) + beta * student.log_softmax(-1), -1)


@pytest.mark.parametrize("beta", BETAS)
def test_forward_gradient_is_student_minus_target_and_at_most_root_two(beta):
    student, teacher = prefix_pair(50, gap=3.0)
    gradient = mean("veto", student, teacher, beta=beta)
    assert same(gradient, student.softmax(-1) - target_of(student, teacher, beta))
    assert gradient.norm(dim=-1).max() <= math.sqrt(2)


@pytest.mark.parametrize("beta", BETAS)
def test_reverse_gradient_is_theorem_3(beta):
    """Cost A = −log q + (1 − β) log p, that is the gradient of −E log q − (1 − β) H."""
    student, teacher = prefix_pair(8, gap=2.0)
    p, log_p, log_q = student.softmax(-1), student.log_softmax(-1), teacher.log_softmax(-1)
    gradient = mean("veto_rkl", student, teacher, beta=beta)
    assert same(gradient, through(p, (1 - beta) * log_p - log_q))
    leaf = student.clone().requires_grad_()
    log_leaf = leaf.log_softmax(-1)
    objective = (log_leaf.exp() * ((1 - beta) * log_leaf - log_q)).sum()
    assert same(gradient, torch.autograd.grad(objective, leaf)[0])


@pytest.mark.parametrize("beta", BETAS)
def test_a_sampled_token_form_of_the_reverse_direction_is_unbiased(beta):
    """Score-function term with A = log q(y) − (1 − β) log p(y), enumerated."""
    (student,), (teacher,) = prefix_pair(1, 20, gap=2.0)
    p = student.softmax(-1)
    advantage = teacher.log_softmax(-1) - (1 - beta) * student.log_softmax(-1)
    rows = -advantage[:, None] * (torch.eye(20, dtype=torch.float64) - p)
    assert same(p @ rows, mean("veto_rkl", student, teacher, beta=beta))


def test_without_beta_it_is_the_plain_kl_in_either_direction():
    pair = prefix_pair(8)
    assert same(mean("veto", *pair, beta=0.0), mean("gkd_fkl", *pair))
    assert same(mean("veto_rkl", *pair, beta=0.0), mean("opd_full", *pair))


def test_beta_decays_linearly_to_nothing_at_the_last_step():
    pair = prefix_pair(8)
    assert same(mean("veto", *pair, progress=1.0), mean("gkd_fkl", *pair))
    assert same(mean("veto_rkl", *pair, progress=1.0), mean("opd_full", *pair))
    assert same(mean("veto", *pair, progress=0.25), mean("veto", *pair, beta=0.6))
    assert same(mean("veto", *pair, progress=0.9, decay="constant"), mean("veto", *pair))


def test_raw_logits_and_log_probs_give_one_target():
    """T2."""
    student, teacher = prefix_pair(8)
    assert same(geometric(student, teacher, 0.8), geometric(student.log_softmax(-1), teacher.log_softmax(-1), 0.8))


def test_the_target_carries_no_gradient_and_would_change_it_if_it_did():
    """T1."""
    student, teacher = prefix_pair(20, gap=2.0)
    leaf = student.clone().requires_grad_()
    log_p = leaf.log_softmax(-1)
    attached = (teacher.log_softmax(-1) + 0.8 * log_p).log_softmax(-1)
    assert not geometric(log_p, teacher, 0.8).requires_grad
    for name, divergence in (("veto", forward_kl), ("veto_rkl", reverse_kl)):
        (other,) = torch.autograd.grad(divergence(log_p, attached).sum(), leaf, retain_graph=True)
        assert cos(other, mean(name, student, teacher, beta=0.8)).median() < 0.99


@pytest.mark.parametrize("beta", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["veto", "veto_rkl"])
def test_the_fixed_point_is_the_sharpened_teacher_and_not_the_teacher(name, beta):
    """Theorem 2, T3."""
    _, teacher = prefix_pair(8, 12)
    log_q = teacher.log_softmax(-1)
    assert same(mean(name, log_q / (1 - beta), teacher, beta=beta), torch.zeros(8, 12))
    assert mean(name, teacher, teacher, beta=beta).norm(dim=-1).min() > 1e-2


@pytest.mark.parametrize("name", ["veto", "veto_rkl"])
def test_gradient_flow_reaches_the_fixed_point(name):
    """T4."""
    student, teacher = prefix_pair(1, 8, gap=0.5, scale=0.5)
    for _ in range(300):
        student = student - 8 * mean(name, student, teacher, beta=0.5)
    assert same(student.softmax(-1), (teacher.log_softmax(-1) / 0.5).softmax(-1), 1e-6)


@pytest.mark.parametrize(("beta", "winner"), [(1.0, 0), (1.2, 1)])
def test_without_an_interior_fixed_point_the_flow_collapses_on_a_token_that_need_not_be_the_teachers(beta, winner):
    """T5: here on the teacher's likeliest token for β = 1 and on the student's for β = 1.2."""
    student = torch.tensor([[0.0, 3.0, 0.0, 0.0]], dtype=torch.float64)
    teacher = torch.tensor([[0.3, 0.0, 0.0, 0.0]], dtype=torch.float64)
    assert (student.argmax(), teacher.argmax()) == (1, 0)
    for _ in range(150):
        student = student - 10 * mean("veto", student, teacher, beta=beta)
    assert student.softmax(-1)[0, winner] > 0.99


@pytest.mark.parametrize(
    ("beta", "in_probability", "in_logits"), [(0.0, 9e7, 1.273), (0.3, 3.459e6, 0.0489), (0.8, 358, 0), (1.0, 9, 0)]
)
def test_what_explodes_is_the_gradient_in_the_probability_not_in_the_logits(beta, in_probability, in_logits):
    """T6: dL/dp = −Q/p, while the logit gradient stays below √2."""
    p, q = (torch.tensor(values, dtype=torch.float64) for values in ([1e-8, 1 - 1e-8], [0.9, 0.1]))
    leaf = p.clone().requires_grad_()
    (slope,) = torch.autograd.grad(forward_kl(leaf.log(), geometric(p.log(), q.log(), beta)), leaf)
    assert -slope[0] == pytest.approx(in_probability, rel=1e-2)
    assert mean("veto", p.log(), q.log(), beta=beta).norm() == pytest.approx(in_logits, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("name", ["veto", "veto_rkl"])
def test_there_is_no_token_noise(name):
    assert variance(name, *prefix_pair(8)).max() < 1e-25
