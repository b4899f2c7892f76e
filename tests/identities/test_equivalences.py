"""Methods that are one another at some setting."""

import math

import pytest
import torch

from opd_bench import exact_moments, load_method, method_names
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Origin
from tests.identities.common import every_token, gradients, mean, prefix_pair, same, variance

SIZE = 30


def step_gradient(name, progress=0.0, **fields):
    """The logit gradient of one step over two sequences of the student's."""
    student, teacher = (logits.view(2, 8, SIZE) for logits in prefix_pair(16, SIZE, gap=2.0))
    leaf = student.clone().requires_grad_()
    token = torch.arange(16).view(2, 8)
    batch = ScoredBatch(
        student=leaf,
        teacher=teacher,
        token=token,
        response=torch.tensor([[1] * 8, [1] * 5 + [0] * 3]).bool(),
        origin=torch.full((2, 8), Origin.STUDENT),
        behaviour_logp=student.log_softmax(-1).gather(-1, token[..., None])[..., 0],
        uniform=torch.full((2, 8), 0.5, dtype=torch.float64),
    )
    loss = batch_loss(load_method(name, **fields).estimator, [batch], progress)
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize(
    ("one", "settings", "other", "other_settings"),
    [
        ("vopd", {"k": 1}, "opd", {}),
        ("vopd_topk", {"k": SIZE}, "vopd", {}),
        ("opd_plus", {"baseline": "value"}, "vopd", {}),
        ("veto_rkl", {"beta": 0.0}, "opd_full", {}),
        ("veto", {"beta": 0.0}, "gkd_fkl", {}),
        ("gkd", {"beta": 0.0}, "gkd_fkl", {}),
        ("gkd", {"beta": 1.0}, "opd_full", {}),
        ("tropd_clip", {"floor": -math.inf}, "opd", {}),
        ("eopd", {"alpha": 0.0}, "opd", {}),
        ("eopd", {"tau": 100.0}, "opd", {}),
        ("iw_opd", {"gamma": 0.0}, "opd", {}),
        ("entropy_opd", {"share": 1.0}, "opd", {}),
        ("taid", {"start": 1.0}, "gkd_fkl", {}),
        ("skew_rkl", {"alpha": 0.0}, "opd_full", {}),
        ("head_tail", {"k": SIZE}, "opd_full", {}),
        ("opd_topk", {"k": SIZE}, "opd_full", {}),
        ("opd_topk", {"k": 7, "ranked_by": "teacher"}, "lsm", {"k": 7}),
        ("rethinking_opd", {"k": SIZE}, "opd_topk", {"k": SIZE, "form": "stop_gradient"}),
        ("rethinking_opd", {"k": SIZE, "weighting": "student"}, "opd_full", {}),
        ("skd", {}, "gkd_fkl", {}),
        ("k2_direct", {}, "opd", {}),
        ("fdiv_stopgrad_fkl", {"divergence": "reverse_kl"}, "opd", {}),
    ],
)
def test_the_same_step(one, settings, other, other_settings):
    """Sample by sample: the gradient of a whole step, not only its mean."""
    assert same(step_gradient(one, **settings), step_gradient(other, **other_settings))


@pytest.mark.parametrize("progress", [0.0, 0.49, 0.5, 1.0])
def test_reopold_without_floor_and_with_every_token_is_opd_in_both_phases(progress):
    assert same(step_gradient("reopold", progress, floor=-math.inf, beta=1.0), step_gradient("opd"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("opd", "opd_full"),
        ("vopd", "opd_full"),
        ("opd_plus", "opd"),
        ("opd_plus_fkl", "gkd_fkl"),
        ("opd_plus_jsd", "gkd"),
        ("head_tail", "opd_full"),
        ("vopd_optimal", "opd_full"),
        ("k3_direct", "gkd_fkl"),
    ],
)
def test_the_same_mean(one, other):
    pair = prefix_pair(8, SIZE, gap=2.0)
    assert same(mean(one, *pair), mean(other, *pair))


def test_opd_plus_reverse_kl_is_opd_with_its_advantage_less_one():
    (student,), (teacher,) = prefix_pair(1, SIZE)
    shift = torch.eye(SIZE, dtype=torch.float64) - student.softmax(-1)
    plain = gradients("opd", every_token(student, teacher))
    assert same(gradients("opd_plus", every_token(student, teacher)), plain + shift)


SILENT = (
    "opd",
    "opd_full",
    "opd_topk",
    "vopd",
    "vopd_topk",
    "vopd_optimal",
    "reopold",
    "tropd_no_prefix",
    "tropd_mask",
    "tropd_clip",
    "opd_plus_jsd",
    "opd_plus_chi2",
    "opd_plus_hellinger",
    "opd_plus_tv",
    "head_tail",
    "power_opd",
    "soft_log",
)


@pytest.mark.parametrize("name", SILENT)
def test_where_the_models_agree_these_are_silent_sample_by_sample(name):
    student, _ = prefix_pair(4, 90)
    assert exact_moments(name, student, student).mean.abs().max() < 1e-12
    assert variance(name, student, student).max() < 1e-20


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("opd_plus", {}),
        ("opd_plus_fkl", {}),
        ("k1_direct", {}),
        ("tropd", {"origin": "teacher", "beta": 1.0}),
        ("seqkd", {"origin": "teacher"}),
    ],
)
def test_where_the_models_agree_these_are_zero_in_expectation_only(name, options):
    student, _ = prefix_pair(4, 90)
    assert mean(name, student, student, **options).abs().max() < 1e-12
    assert variance(name, student, student, **options).min() > 0.01


def test_exactly_these_methods_are_not_stationary():
    student, _ = prefix_pair(4, 90)
    moving = set()
    for name in method_names():
        estimator = load_method(name).estimator
        origin = min(estimator.learns_from).name.lower()
        if mean(estimator, student, student, origin=origin).abs().max() > 1e-12:
            moving.add(name)
    assert moving == {name for name in method_names() if not load_method(name).estimator.claims.stationary}
    assert moving == {"veto", "veto_rkl", "eopd", "aopd"}
