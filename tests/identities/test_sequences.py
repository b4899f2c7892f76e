"""Whole sequences enumerated: three tokens of three symbols, parameters a table of logits per prefix."""

from itertools import pairwise, product

import pytest
import torch

from opd_bench import load_method
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Origin, Signals
from tests.identities.common import same, through

SYMBOLS, LENGTH = 3, 3
PREFIXES = [prefix for length in range(LENGTH) for prefix in product(range(SYMBOLS), repeat=length)]
SEQUENCES = list(product(range(SYMBOLS), repeat=LENGTH))
TABLE = torch.randn(2, len(PREFIXES), SYMBOLS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
ROWS = torch.tensor([[PREFIXES.index(sequence[:t]) for t in range(LENGTH)] for sequence in SEQUENCES])
TOKENS = torch.tensor(SEQUENCES)


def log_probs(table):
    """[27, 3] log-probability of every token of every sequence."""
    return table.log_softmax(-1)[ROWS].gather(-1, TOKENS[..., None])[..., 0]


CHANCE = log_probs(TABLE[0]).sum(-1).exp()


def one_sequence(table, index, sampled, response=None):
    """A batch of the one sequence, its logits looked up in the table."""
    shape = (1, LENGTH)
    return ScoredBatch(
        student=table[ROWS[index]][None],
        teacher=TABLE[1][ROWS[index]][None],
        token=TOKENS[index][None],
        response=torch.ones(shape, dtype=torch.bool) if response is None else response,
        origin=torch.full(shape, Origin.STUDENT),
        behaviour_logp=sampled[index][None],
        uniform=torch.full(shape, 0.5, dtype=torch.float64),
    )


def expected_gradient(name, sampler=None, **fields):
    """Σ over sequences of chance · gradient of the step on that sequence, times its length, in the table."""
    estimator = load_method(name, **fields).estimator
    sampled = log_probs(TABLE[0]) if sampler is None else sampler
    table = TABLE[0].clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for index in range(len(SEQUENCES)):
        step = batch_loss(estimator, [one_sequence(table, index, sampled)], 0.0)
        total = total + sampled[index].sum().exp() * LENGTH * step
    return torch.autograd.grad(total, table)[0]


def sequence_level():
    """∇KL of the two distributions over sequences."""
    table = TABLE[0].clone().requires_grad_()
    student, teacher = log_probs(table).sum(-1), log_probs(TABLE[1]).sum(-1)
    return torch.autograd.grad((student.exp() * (student - teacher)).sum(), table)[0]


def token_level():
    """Σ over visited prefixes of ∇KL at the prefix, the chance of the prefix held fixed."""
    table = TABLE[0].clone().requires_grad_()
    student, teacher = table.log_softmax(-1), TABLE[1].log_softmax(-1)
    per_prefix = (student.exp() * (student - teacher)).sum(-1)
    return torch.autograd.grad((CHANCE[:, None] * per_prefix[ROWS]).sum(), table)[0]


def test_the_two_objectives_are_different():
    """Item 15: what every estimator without a return targets is not the gradient of the sequence-level KL."""
    error = (token_level() - sequence_level()).norm() / sequence_level().norm()
    assert error > 0.1


@pytest.mark.parametrize("name", ["opd", "vopd", "opd_full", "head_tail", "opd_plus"])
def test_estimators_without_a_return_are_unbiased_for_the_token_level_objective(name):
    """Item 15, γ = 0."""
    assert same(expected_gradient(name), token_level())


def test_minillm_is_the_sequence_level_gradient():
    """Item 15: the exact step and the FUTURE return."""
    assert same(expected_gradient("minillm", gamma=1.0, length_norm=False), sequence_level())


def test_minillm_without_a_future_is_the_token_level_gradient():
    assert same(expected_gradient("minillm", gamma=0.0, length_norm=False), token_level())


def test_a_return_that_keeps_the_current_reward_counts_the_token_twice():
    """Item 15: why the return starts after the step. The current reward alone is worth token_level."""
    future = expected_gradient("minillm", gamma=1.0, length_norm=False)
    assert same(future + expected_gradient("opd"), sequence_level() + token_level())


def test_length_normalisation_divides_by_the_steps_to_come():
    """R of the paper on one sequence of four, by hand."""
    reward = torch.tensor([1.0, 2.0, 4.0, 8.0])
    estimator = load_method("minillm").estimator
    signals = Signals(values={"log_ratio": reward}, sequence=torch.zeros(4).long(), position=torch.arange(4))
    assert estimator.weigh(signals, 0.0).tolist() == pytest.approx([14 / 3, 12 / 2, 8.0, 0.0])


def test_signals_look_before_after_and_across_within_a_sequence_only():
    signals = Signals(
        values={},
        sequence=torch.tensor([0, 0, 0, 1, 1]),
        position=torch.tensor([0, 1, 2, 0, 1]),
    )
    values = torch.tensor([1.0, 2.0, 4.0, 10.0, 20.0])
    assert signals.before(values).tolist() == [0, 1, 3, 0, 10]
    assert signals.total(values).tolist() == [7, 7, 7, 30, 30]
    assert signals.after(values, 1.0).tolist() == [6, 4, 0, 20, 0]
    assert signals.after(values, 0.5).tolist() == [2, 2, 0, 10, 0]
    assert signals.top_share(values, 0.4).tolist() == [False, False, False, True, True]


def discounted(gamma, length_norm, behaviour):
    """The gradient that MiniLLM should have, by recursion over prefixes, without autograd.

    At a prefix reached with chance P̃ under the behaviour policy p̃ it is P̃ · p ⊙ (c − E_p c), where
    c(v) = Δ(v) + γ W(v) / (1, or the steps to come), and W(v) = Σ p̃ (Δ + γ W) at the prefix that v leads to.
    """
    student, teacher = TABLE.log_softmax(-1)
    delta = student - teacher
    to_come = torch.zeros_like(delta)
    for row, prefix in reversed(list(enumerate(PREFIXES))):
        if len(prefix) == LENGTH - 1:
            continue
        for symbol in range(SYMBOLS):
            child = PREFIXES.index((*prefix, symbol))
            to_come[row, symbol] = (behaviour[child].exp() * (delta[child] + gamma * to_come[child])).sum()
    rows = []
    for row, prefix in enumerate(PREFIXES):
        reached = sum((behaviour[PREFIXES.index(prefix[:t])][prefix[t]] for t in range(len(prefix))), torch.zeros(()))
        steps = max(1, LENGTH - 1 - len(prefix)) if length_norm else 1
        rows.append(reached.exp() * through(student[row].exp(), delta[row] + gamma * to_come[row] / steps))
    return torch.stack(rows)


STUDENT, TEACHER = TABLE.log_softmax(-1)
MIXTURE = (0.2 * TEACHER.exp() + 0.8 * STUDENT.exp()).log()


@pytest.mark.parametrize("length_norm", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("behaviour", [STUDENT, MIXTURE], ids=["student", "mixture"])
def test_every_discount_has_the_gradient_of_its_own_recursion(gamma, length_norm, behaviour):
    """Item 15, with the sampler's chances where the sampler acts: the prefix and the steps to come."""
    sampled = behaviour[ROWS].gather(-1, TOKENS[..., None])[..., 0]
    found = expected_gradient("minillm", sampler=sampled, gamma=gamma, length_norm=length_norm)
    assert same(found, discounted(gamma, length_norm, behaviour), 1e-12)


def test_the_recursion_ends_at_both_objectives():
    assert same(discounted(0.0, False, STUDENT), token_level(), 1e-12)
    assert same(discounted(1.0, False, STUDENT), sequence_level(), 1e-12)


def test_a_discount_and_length_normalisation_and_the_mixture_are_biases():
    """Item 15: the per-token ratio mends the scored token, not the prefix before it nor the return after it."""
    exact = sequence_level()
    for gamma, length_norm, behaviour in ((0.5, False, STUDENT), (1.0, True, STUDENT), (1.0, False, MIXTURE)):
        error = (discounted(gamma, length_norm, behaviour) - exact).norm() / exact.norm()
        assert 0.01 < error < 1
    between = [(discounted(gamma, False, STUDENT) - exact).norm() for gamma in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(later < earlier for earlier, later in pairwise(between))


def test_minillm_is_the_sequence_level_gradient_of_answers_that_end_early():
    """Symbol 0 ends an answer; what stands after it is padding, and neither read nor counted."""
    ended = (TOKENS == 0).cumsum(-1) - (TOKENS == 0).long() == 0
    answers = [row for row in range(len(TOKENS)) if not TOKENS[row][~ended[row]].any()]
    assert len(answers) == 15
    table = TABLE[0].clone().requires_grad_()
    chance = (log_probs(table) * ended).sum(-1)
    gap = chance - (log_probs(TABLE[1]) * ended).sum(-1)
    (exact,) = torch.autograd.grad((chance.exp() * gap)[answers].sum(), table, retain_graph=True)
    assert float(chance[answers].exp().sum().detach()) == pytest.approx(1)
    estimator = load_method("minillm", gamma=1.0, length_norm=False).estimator
    total = torch.zeros((), dtype=torch.float64)
    for row in answers:
        batch = one_sequence(table, row, log_probs(TABLE[0]), ended[row][None])
        total = total + chance[row].detach().exp() * ended[row].sum() * batch_loss(estimator, [batch], 0.0)
    assert same(torch.autograd.grad(total, table)[0], exact, 1e-12)
