"""Whole sequences enumerated: three tokens of three symbols, parameters a table of logits per prefix."""

from itertools import product

import pytest
import torch

from opd_bench import load_method
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import Origin, Signals
from tests.identities.common import same

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


def expected_gradient(name, sampler=None, **fields):
    """Σ over sequences of chance · gradient of the step on that sequence, times its length, in the table."""
    estimator = load_method(name, **fields).estimator
    sampled = log_probs(TABLE[0]) if sampler is None else sampler
    table = TABLE[0].clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for index in range(len(SEQUENCES)):
        shape = (1, LENGTH)
        batch = ScoredBatch(
            student_logits=table[ROWS[index]][None],
            teacher_logits=TABLE[1][ROWS[index]][None],
            token=TOKENS[index][None],
            response=torch.ones(shape, dtype=torch.bool),
            origin=torch.full(shape, Origin.STUDENT),
            behaviour_logp=sampled[index][None],
            uniform=torch.full(shape, 0.5, dtype=torch.float64),
        )
        total = total + sampled[index].sum().exp() * LENGTH * batch_loss(estimator, [batch], 0.0)
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
