"""What each top-k form sees of the vocabulary, and what it is blind to."""

from itertools import pairwise

import pytest
import torch

from opd_bench import load_method
from opd_bench.maths import supports
from opd_bench.maths.divergences import reverse_kl
from opd_bench.maths.supports import Support
from tests.identities.common import every_token, mean, prefix_pair, same, step, through, variance

SIZE = 50
FORMS = sorted(supports.REVERSE_KL_FORMS)


def loss(name, student, teacher, **fields):
    """The loss of every prefix [B], for methods in which it does not depend on the token."""
    estimator = load_method(name, **fields).estimator
    rows = [estimator.token_loss(every_token(*row), 0.0).loss for row in zip(student, teacher, strict=True)]
    assert all(same(row, row[0]) for row in rows)
    return torch.stack([row[0].detach() for row in rows])


def top(probabilities, k):
    """1 on the k likeliest tokens, else 0."""
    return torch.zeros_like(probabilities).scatter(-1, probabilities.topk(k).indices, 1.0)


@pytest.mark.parametrize("ranked_by", ["student", "teacher"])
@pytest.mark.parametrize("k", [2, 4, 20, SIZE - 1])
def test_the_kl_is_a_head_a_bernoulli_and_a_tail_and_every_form_a_part_of_it(k, ranked_by):
    """Item 10, every part by itself: KL = P KL(p̂‖q̂) + KL(Bern P‖Bern Q) + (1 − P) KL(tails)."""
    student, teacher = prefix_pair(6, SIZE, gap=2.0)
    p, q = student.softmax(-1), teacher.softmax(-1)
    inside = top(p if ranked_by == "student" else q, k)
    share_p, share_q = (inside * p).sum(-1), (inside * q).sum(-1)

    def conditional_kl(where):
        one, other = ((where * x) / (where * x).sum(-1, keepdim=True) for x in (p, q))
        return torch.where(where > 0, one * (one / other).log(), 0.0).sum(-1)

    head, tails = conditional_kl(inside), conditional_kl(1 - inside)
    bernoulli = share_p * (share_p / share_q).log() + (1 - share_p) * ((1 - share_p) / (1 - share_q)).log()
    full = reverse_kl(p.log(), q.log())
    assert same(share_p * head + bernoulli + (1 - share_p) * tails, full)
    settings = {"k": k, "ranked_by": ranked_by}
    bucket = loss("opd_topk", student, teacher, form="tail_bucket", **settings)
    assert same(bucket, share_p * head + bernoulli)
    assert (bucket >= 0).all()
    assert (bucket <= full + 1e-12).all()
    assert same(loss("opd_topk", student, teacher, form="renormalised", **settings), head)
    raw = share_p * head + share_p * (share_p / share_q).log()
    for form in ("raw", "stop_gradient"):
        assert same(loss("opd_topk", student, teacher, form=form, **settings), raw)


def test_a_longer_list_brings_the_tail_bucket_closer_from_below():
    """Item 10: merging fewer tokens into the bucket loses less."""
    student, teacher = prefix_pair(20, SIZE, gap=2.0)
    values = [loss("opd_topk", student, teacher, form="tail_bucket", k=k) for k in (1, 2, 4, 8, 16, 32, SIZE)]
    for fewer, more in pairwise(values):
        assert (fewer <= more + 1e-12).all()
    assert same(values[-1], reverse_kl(student.log_softmax(-1), teacher.log_softmax(-1)))
    assert (values[1] < 0.9 * values[-1]).any()


@pytest.mark.parametrize("ranked_by", ["student", "teacher"])
def test_one_renormalised_token_has_neither_value_nor_gradient_whoever_ranks(ranked_by):
    """Item 12; the other forms of one token do teach."""
    student, teacher = prefix_pair(8, SIZE)
    settings = {"k": 1, "ranked_by": ranked_by}
    assert loss("opd_topk", student, teacher, form="renormalised", **settings).abs().max() == 0
    assert mean("opd_topk", student, teacher, form="renormalised", **settings).abs().max() == 0
    assert mean("lsm", student, teacher, k=1).abs().max() == 0
    for form in set(FORMS) - {"renormalised"}:
        assert mean("opd_topk", student, teacher, form=form, **settings).norm(dim=-1).min() > 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_only_renormalised_forms_are_blind_to_the_mass_outside(form):
    """Raising every student logit outside S by the same amount moves mass out of S and nothing within."""
    student, teacher = prefix_pair(8, SIZE)
    inside = top(teacher, 5) > 0
    moved = torch.where(inside, student, student + 1.0)
    settings = {"k": 5, "ranked_by": "teacher", "form": form}
    change = (loss("opd_topk", moved, teacher, **settings) - loss("opd_topk", student, teacher, **settings)).abs()
    if form == "renormalised":
        assert change.max() < 1e-12
        assert same(mean("opd_topk", moved, teacher, **settings), mean("opd_topk", student, teacher, **settings))
    else:
        assert change.min() > 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ranked_by", ["student", "teacher"])
def test_at_agreement_only_raw_moves_and_it_moves_mass_out_of_the_support(form, ranked_by):
    """Item 9: a step of descent lowers P_S although there is nothing to learn."""
    student, _ = prefix_pair(8, SIZE)
    gradient = mean("opd_topk", student, student, k=4, form=form, ranked_by=ranked_by)
    if form != "raw":
        assert gradient.abs().max() < 1e-14
        return
    inside = top(student, 4) > 0
    after = (student - 0.1 * gradient).softmax(-1)
    assert ((inside * after).sum(-1) < (inside * student.softmax(-1)).sum(-1)).all()


@pytest.mark.parametrize("name", ["opd_topk", "lsm", "rethinking_opd", "head_tail", "vopd_topk", "eopd", "aopd"])
def test_renaming_the_vocabulary_renames_the_gradient(name):
    student, teacher = prefix_pair(4, SIZE)
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(0))
    assert same(mean(name, student[:, order], teacher[:, order], k=4), mean(name, student, teacher, k=4)[:, order])
    renamed = variance(name, student[:, order], teacher[:, order], k=4)
    assert same(renamed, variance(name, student, teacher, k=4))


def test_the_tail_is_sampled_as_often_as_the_head_leaves_mass():
    """Item 11: the closed-form variance of head and tail is that of Δ masked outside S."""
    student, teacher = prefix_pair(8, SIZE, gap=2.0)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    for k in (1, 4, 20):
        tail = (1 - top(p, k)) * delta
        weight = 1 - 2 * p + p.square().sum(-1, keepdim=True)
        expected = (p * tail.square() * weight).sum(-1) - through(p, tail).square().sum(-1)
        assert same(variance("head_tail", student, teacher, k=k), expected)


def test_the_head_alone_is_the_stop_gradient_form_and_the_tail_what_it_lacks():
    """Item 11: dropping the sampled tail leaves a bias of exactly ∇ of the tail's Δ."""
    student, teacher = prefix_pair(8, SIZE, gap=2.0)
    p, delta = student.softmax(-1), student.log_softmax(-1) - teacher.log_softmax(-1)
    for k in (1, 4, 20):
        head = mean("opd_topk", student, teacher, k=k, form="stop_gradient")
        missing = through(p, (1 - top(p, k)) * delta)
        assert same(mean("head_tail", student, teacher, k=k) - head, missing)
        assert missing.norm(dim=-1).min() > 1e-3


@pytest.mark.parametrize("renormalise", [True, False])
def test_a_truncated_forward_kl_pulls_mass_into_its_support_at_agreement(renormalise):
    """EOPD and AOPD at p = q are not stationary unless S is the whole vocabulary; τ = 0 opens EOPD's gate."""
    student, _ = prefix_pair(8, SIZE)
    q = student.softmax(-1)
    for k in (4, 20, SIZE):
        inside = top(q, k)
        mass = (inside * q).sum(-1, keepdim=True)
        expected = q - inside * q / mass if renormalise else mass * q - inside * q
        found = mean("eopd", student, student, tau=0.0, alpha=1.0, k=k, renormalise=renormalise)
        assert same(found, expected)
        assert ((inside * found).sum(-1) <= 1e-12).all()
        assert (k == SIZE) == bool(found.abs().max() < 1e-12)
        if not renormalise:
            assert same(mean("aopd", student, student, k=k), expected)


def test_the_support_functions_agree_with_sums_written_out():
    """By hand on three tokens of four: p = ½ ¼ ⅛ (⅛), q = ¼ ¼ ¼ (¼)."""
    p, q = torch.tensor([[0.5, 0.25, 0.125]]).double(), torch.tensor([[0.25, 0.25, 0.25]]).double()
    support = Support(torch.tensor([[2, 0, 1]]), p.log(), q.log())
    ln2 = torch.tensor(2.0).double().log()
    assert same(supports.raw(support), 0.375 * ln2)
    assert same(supports.stop_gradient(support), 0.375 * ln2)
    assert same(supports.tail_bucket(support), 0.25 * ln2)
    mass = torch.tensor(0.875).double()
    assert same(supports.renormalised(support), 0.375 / mass * ln2 + (0.75 / mass).log())
    assert same(supports.candidate_score(support, torch.ones_like(p)), torch.zeros(1))
    assert same(supports.candidate_score(support, p), 0.375 * ln2)
    assert same(supports.forward_kl_on(support, renormalise=False), torch.zeros(1))
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert same(supports.forward_kl_on(support, renormalise=True), (third * (third / p[0]).log()).sum())
    assert support.contains(torch.tensor([1])).tolist() == [True]
    assert support.contains(torch.tensor([3])).tolist() == [False]


def test_the_support_is_chosen_without_a_gradient_and_only_once():
    """Two readers of the same top-k share the index; another k or ranking has its own."""
    (student,), (teacher,) = prefix_pair(1, SIZE)
    tokens = every_token(student, teacher)
    support = tokens.topk(4, "student")
    assert not support.ids.requires_grad
    assert tokens.topk(4, "student").ids is support.ids
    assert torch.equal(support.ids[0], student.topk(4).indices)
    assert torch.equal(tokens.topk(4, "teacher").ids[0], teacher.topk(4).indices)
    assert tokens.topk(SIZE + 7, "student").ids.shape == (SIZE, SIZE)


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
