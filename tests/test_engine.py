"""How tokens are generated: against a fresh forward pass, and whatever batch, padding or configuration they come in."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from opd_bench.maths.divergences import log_probs
from opd_bench.models.network import Network, frozen
from opd_bench.rollouts import engine
from opd_bench.rollouts.choices import Alone, Corrected, Greedy, Law, Mixed, sampled
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import rollout
from opd_bench.tokens import Origin
from tests.models import END, LIMIT, VOCABULARY, network, prompts, writers

STUDENT = Alone(Origin.STUDENT)


def uniform(rows: int) -> torch.Tensor:
    return Draws(0, 0).uniform("tokens", rows, LIMIT, 2).double()


def written(choice=STUDENT, batch=None, **options):
    batch = batch or prompts()
    return writers(**options).write(batch.ids, batch.mask, choice, uniform(len(batch.ids)))


def scored(network, result):
    """log-probability of every token of a rollout by one forward pass over all of it."""
    logp = log_probs(network.logits(result.ids, result.mask)[:, :-1])
    return logp.gather(-1, result.ids[:, 1:, None])[..., 0]


@pytest.mark.parametrize(("writer", "seed"), [(Origin.STUDENT, 0), (Origin.TEACHER, 1)])
def test_log_probabilities_are_those_of_a_fresh_forward_pass(writer, seed):
    batch = prompts()
    result = rollout(batch.ids, batch.mask, written(Alone(writer)), range(len(batch.ids)))
    mask = result.response[:, 1:]
    expected = scored(network(seed), result)[mask].float()
    torch.testing.assert_close(result.behaviour_logp[:, 1:][mask], expected, rtol=1e-5, atol=1e-6)
    assert (result.origin[:, 1:][mask] == writer).all()


def test_tokens_don_t_depend_on_padding_or_on_the_rest_of_the_batch():
    batch, together = prompts(), written()
    for row in range(len(batch.ids)):
        alone = writers().write(
            batch.ids[row][batch.mask[row]][None],
            torch.ones(1, int(batch.mask[row].sum()), dtype=torch.bool),
            STUDENT,
            uniform(len(batch.ids))[row][None],
        )
        length = int(together.length[row])
        assert int(alone.length) == length
        assert torch.equal(alone.token[0, :length], together.token[row, :length])
        torch.testing.assert_close(alone.logp[0, :length], together.logp[row, :length], rtol=1e-5, atol=1e-6)


def test_padding_moves_no_position_of_a_model_that_counts_them_absolutely():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4, eos_token_id=END)
    model = Network(frozen(GPT2LMHeadModel(config).double()))
    batch = prompts()
    together = model.logits(batch.ids, batch.mask)
    for row in range(5):
        alone = model.logits(batch.ids[row][batch.mask[row]][None], batch.mask[row][batch.mask[row]][None])
        torch.testing.assert_close(together[row][batch.mask[row]], alone[0], rtol=1e-9, atol=1e-9)
    written(student=model)


@pytest.mark.parametrize("choice", [STUDENT, Corrected(5), Mixed(0.4)])
def test_dropping_finished_rows_changes_nothing(choice, monkeypatch):
    results = []
    for share in (0.0, 0.25, 2.0):
        monkeypatch.setattr(engine, "FINISHED_SHARE", share)
        results.append(written(choice))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert 0 < results[0].truncated.sum() < len(results[0].truncated)  # some ended by themselves, some did not


def test_responses_end_with_an_end_token_or_are_truncated_and_never_both():
    result = written()
    ends = (result.token == END) & result.mask
    assert torch.equal(ends.sum(-1) == 1, ~result.truncated)
    assert (result.length[result.truncated] == LIMIT).all()
    last = result.token[torch.arange(len(result.length)), result.length - 1]
    assert torch.equal(last == END, ~result.truncated)


def test_one_end_token_counts_when_padding_has_the_same_id():
    batch, result = prompts(), written(end=0)
    whole = rollout(batch.ids, batch.mask, result, range(len(batch.ids)))
    assert torch.equal(((whole.ids == 0) & whole.response).sum(-1), (~result.truncated).long())
    assert (~result.truncated).any()


def test_greedy_tokens_are_the_models_own_generate():
    batch = prompts()
    options = {"max_new_tokens": LIMIT, "do_sample": False, "pad_token_id": 0, "eos_token_id": END}
    theirs = network(0).model.generate(batch.ids, attention_mask=batch.mask.long(), **options)[:, batch.ids.shape[1] :]
    ours = written(Greedy(Origin.STUDENT))
    for row, length in enumerate(ours.length.tolist()):
        assert torch.equal(ours.token[row, :length], theirs[row, :length])


def test_a_models_own_generation_config_plays_no_part_and_is_told():
    student = network(0)
    plain = written(student=student)
    for name, value in {"temperature": 0.6, "top_k": 3, "top_p": 0.8, "repetition_penalty": 1.5}.items():
        setattr(student.model.generation_config, name, value)
    assert torch.equal(written(student=student).token, plain.token)
    told = {"temperature": 0.6, "top_k": 3, "top_p": 0.8, "repetition_penalty": 1.5}
    assert engine.ignored_settings(student.model) == told
    assert engine.ignored_settings(network(0).model) == {}


def test_dropout_is_off_while_generating_and_the_mode_comes_back():
    student = network(0, attention_dropout=0.5)
    student.model.train()
    policies, batch = writers(student=student), prompts()
    results = [policies.write(batch.ids, batch.mask, STUDENT, uniform(len(batch.ids))) for _ in range(2)]
    assert student.model.training
    assert torch.equal(results[0].token, results[1].token)


def test_a_sharper_teacher_writes_by_its_scaled_logits():
    batch, sharp = prompts(), network(1, scale=3.0)
    result = rollout(batch.ids, batch.mask, written(Alone(Origin.TEACHER), teacher=sharp), range(len(batch.ids)))
    logits = network(1).logits(result.ids, result.mask)[:, :-1]
    logp = log_probs(3 * logits).gather(-1, result.ids[:, 1:, None])[..., 0]
    mask = result.response[:, 1:]
    torch.testing.assert_close(result.behaviour_logp[:, 1:][mask], logp[mask].float(), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- laws of the choices


def grid(cells: int) -> torch.Tensor:
    """Uniforms [cells², 2] that fill the unit square evenly."""
    middle = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    return torch.cartesian_prod(middle, middle)


def law(choice, *logits: torch.Tensor, cells: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequencies of the tokens over the grid, and exp(logp) of each as the choice states it."""
    points = grid(cells)
    chosen = choice(tuple(Law(x.expand(len(points), -1)) for x in logits), points)
    frequency = torch.bincount(chosen.token, minlength=len(logits[0])).double() / len(points)
    stated = torch.zeros(len(logits[0]), dtype=torch.float64).scatter(0, chosen.token, chosen.logp.exp())
    return frequency, stated


@pytest.mark.parametrize(
    "choice", [STUDENT, Corrected(1), Corrected(3), Corrected(99), Mixed(0.0), Mixed(0.3), Mixed(1.0)]
)
def test_every_token_comes_as_often_as_its_stated_probability(choice):
    student, teacher = 1.5 * torch.randn(2, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    frequency, stated = law(choice, *(student, teacher)[: len(choice.readers)])
    torch.testing.assert_close(frequency, stated, rtol=0, atol=0.006)
    assert abs(float(stated.sum()) - 1) < 0.006


def test_a_mixture_is_the_mixture_and_its_coin_says_who_wrote():
    student, teacher = 1.5 * torch.randn(2, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    frequency, _ = law(Mixed(0.3), student, teacher)
    expected = 0.7 * student.softmax(-1) + 0.3 * teacher.softmax(-1)
    torch.testing.assert_close(frequency, expected, rtol=0, atol=0.006)
    points = grid(100)
    chosen = Mixed(0.3)(tuple(Law(x.expand(len(points), -1)) for x in (student, teacher)), points)
    assert float((chosen.origin == Origin.TEACHER).double().mean()) == pytest.approx(0.3)


def test_corrections_leave_what_the_teacher_finds_likely_alone():
    student, teacher = 1.5 * torch.randn(2, 9, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    points = grid(100)
    seen = tuple(Law(x.expand(len(points), -1)) for x in (student, teacher))
    chosen, proposed = Corrected(3)(seen, points), seen[0].drawn(points[:, 0])
    likely = torch.isin(proposed, teacher.topk(3).indices)
    assert torch.equal(chosen.token[likely], proposed[likely])
    assert torch.equal(chosen.origin == Origin.STUDENT, likely)


def test_no_token_of_probability_zero_is_ever_chosen():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(1001, -1)
    edge = torch.nextafter(torch.ones(1), torch.zeros(1))
    token = sampled(logits.log_softmax(-1), torch.cat([torch.linspace(0, 1, 1001)[:-1], edge]))
    assert set(token.tolist()) == {1, 3}


# ---------------------------------------------------------------- uniforms


def test_a_row_s_uniforms_depend_on_seed_stream_step_and_row_alone():
    draws = Draws(0, 5)
    whole = draws.uniform("tokens", 6, 4, 2)
    assert torch.equal(whole[2:5], Draws(0, 5, first_row=2).uniform("tokens", 3, 4, 2))
    assert torch.equal(whole[:, :3], draws.uniform("tokens", 6, 3, 2))
    for other in (Draws(1, 5), Draws(0, 6)):
        assert not torch.equal(whole, other.uniform("tokens", 6, 4, 2))
    assert not torch.equal(whole, draws.uniform("estimator", 6, 4, 2))
    assert draws.once("coin") == Draws(0, 5, first_row=3).once("coin")


def test_uniforms_are_uniform():
    values = Draws(0, 0).uniform("tokens", 2000, 10).flatten().double().sort().values
    even = (torch.arange(len(values)) + 0.5) / len(values)
    assert float((values - even).abs().max()) < 1.95 / len(values) ** 0.5  # Kolmogorov–Smirnov at 0.1 %
    assert float(values.min()) >= 0
    assert float(values.max()) < 1


def test_the_vocabulary_is_the_width_of_the_head():
    assert network(0).vocabulary == VOCABULARY
