"""Who writes the tokens: every source's invariants on real, if small, models."""

from functools import cache

import pytest
import torch

from opd_bench import load_method, method_names
from opd_bench.rollouts.draws import Draws
from opd_bench.rollouts.source import Source
from opd_bench.rollouts.sources import Coin, Data, Interleaved, Mixture, Student, Teacher, TeacherPrefix
from opd_bench.tokens import Origin, Rollout
from tests.models import LIMIT, VOCABULARY, network, prompts, writers

TALKER = 5
"""A teacher some of whose answers end and some of whose are cut."""

SOURCES = [
    Student(),
    Teacher(),
    Data(),
    Coin(student_share=0.5, otherwise="teacher"),
    TeacherPrefix(length="ratio", extra=0.5),
    TeacherPrefix(length="cap", extra=0.5),
    Interleaved(k=5),
    Mixture(alpha=0.3),
]
every_source = pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)


def drawn(source: Source, progress: float = 0.3, draws: Draws = Draws(0, 0), policies=None) -> Rollout:  # noqa: B008
    return source.draw(policies or writers(), prompts(), progress, draws)


def same(one: Rollout, other: Rollout) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def rows(result: Rollout, part: slice) -> list[tuple[list[int], list[int]]]:
    """Response ids and origins of some rows, without padding."""
    fields = zip(result.ids[part], result.origin[part], result.response[part], strict=True)
    return [(ids[mask].tolist(), origin[mask].tolist()) for ids, origin, mask in fields]


@every_source
def test_a_rollout_is_its_prompts_with_responses_behind_them(source):
    result, batch = drawn(source), prompts()
    count, width = batch.ids.shape
    assert isinstance(source, Source)
    assert torch.equal(result.ids[:count, :width], batch.ids)
    assert torch.equal(result.mask[:count, :width], batch.mask)
    assert not result.response[:, :width].any()
    lengths = result.response.sum(-1)
    assert (lengths >= 1).all()
    assert (lengths <= LIMIT).all()
    assert torch.equal(result.response[:, width:], torch.arange(result.ids.shape[1] - width) < lengths[:, None])
    assert torch.equal(result.mask, result.mask & (result.response | (torch.arange(result.ids.shape[1]) < width)))
    assert set(result.origin[result.response].tolist()) <= {int(writer) for writer in source.origins}
    assert (result.behaviour_logp[result.response] <= 1e-6).all()


@every_source
def test_the_same_draws_give_the_same_rollout_and_others_another(source):
    assert same(drawn(source), drawn(source))
    if not isinstance(source, Data):
        policies = writers(seed=1)
        assert not same(drawn(source), drawn(source, draws=Draws(1, 0), policies=policies))


@pytest.mark.parametrize(
    "name", [name for name in method_names() if load_method(name).source.origins[0] == Origin.STUDENT]
)
def test_every_method_with_the_student_s_tokens_has_the_same_ones_at_a_seed(name):
    """Where the source is the student's alone or adds to it; sources that interfere with the tokens have their own."""
    source = load_method(name).source
    if isinstance(source, Student | TeacherPrefix):
        mine, plain = (written_by(type(one), tuple(one.settings().items())) for one in (source, Student()))
        assert mine == plain
        assert mine != written_by(type(source), tuple(source.settings().items()), seed=1)


@cache
def written_by(kind, settings, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """The student's rows of a source; many methods have the same one."""
    return rows(drawn(kind(**dict(settings)), draws=Draws(seed, 0)), slice(len(prompts().ids)))


@pytest.mark.parametrize("otherwise", ["teacher", "data"])
def test_a_coin_at_its_ends_is_one_source_or_the_other(otherwise):
    other = {"teacher": Teacher(), "data": Data()}[otherwise]
    for step in range(3):
        draws = Draws(0, step)
        assert same(drawn(Coin(student_share=1.0, otherwise=otherwise), draws=draws), drawn(Student(), draws=draws))
        assert same(drawn(Coin(student_share=0.0, otherwise=otherwise), draws=draws), drawn(other, draws=draws))


def test_a_coin_falls_as_often_as_it_should_and_for_the_whole_batch():
    coin, policies, three = Coin(student_share=0.3, otherwise="data"), writers(), prompts(3)
    written = [coin.draw(policies, three, 0.3, Draws(0, step)) for step in range(200)]
    by_student = [set(result.origin[result.response].tolist()) for result in written]
    assert all(len(writers) == 1 for writers in by_student)
    assert 40 <= by_student.count({Origin.STUDENT}) <= 80


def test_interleaving_with_the_whole_vocabulary_never_corrects():
    assert same(drawn(Interleaved(k=VOCABULARY)), drawn(Student()))
    few, many = (drawn(Interleaved(k=k)) for k in (1, 20))
    share = [float((x.origin[x.response] == Origin.TEACHER).double().mean()) for x in (few, many)]
    assert share[0] > share[1] > 0


def test_a_mixture_at_its_ends_is_one_model_alone():
    assert same(drawn(Mixture(alpha=0.0)), drawn(Student()))
    assert set(drawn(Mixture(alpha=1.0)).origin.unique().tolist()) == {Origin.STUDENT, Origin.TEACHER}  # prompts are 0
    result = drawn(Mixture(alpha=1.0))
    assert (result.origin[result.response] == Origin.TEACHER).all()


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("length", ["ratio", "cap"])
def test_guided_rows_open_with_the_teacher_s_answer_and_go_on_as_the_student(length, progress):
    source, count = TeacherPrefix(length=length, extra=0.5), len(prompts().ids)
    policies = writers(teacher=network(TALKER))
    answers = rows(drawn(Teacher(), policies=policies), slice(None))
    assert {ids[-1] == 2 for ids, _ in answers} == {True, False}  # some ended by themselves, some did not
    openings = {tuple(ids) for ids, _ in answers}
    result = drawn(source, progress, policies=policies)
    guided = rows(result, slice(count, None))
    assert len(guided) == count // 2
    for ids, origin in guided:
        head = origin.index(Origin.STUDENT)  # at least one token is the student's
        assert set(origin[head:]) == {Origin.STUDENT}
        matching = [answer for answer in openings if list(answer[:head]) == ids[:head]]
        ended = [len(answer) - (answer[-1] == 2) for answer in matching]
        share = source.share(progress)
        expected = [int(share * n) if length == "ratio" else min(n, int(share * LIMIT)) for n in ended]
        assert min(head, LIMIT - 1) in [min(n, LIMIT - 1) for n in expected]


def test_a_guided_row_s_own_tokens_have_the_student_s_log_probabilities():
    result = drawn(TeacherPrefix(length="ratio", extra=1.0), 0.4)
    for writer, model in ((Origin.STUDENT, network(0)), (Origin.TEACHER, network(1))):
        logp = model.logits(result.ids, result.mask)[:, :-1].log_softmax(-1)
        logp = logp.gather(-1, result.ids[:, 1:, None])[..., 0].float()
        mask = (result.response & (result.origin == writer))[:, 1:]
        assert mask.any()
        torch.testing.assert_close(result.behaviour_logp[:, 1:][mask], logp[mask], rtol=1e-5, atol=1e-6)


def test_a_prefix_of_length_zero_is_the_plain_student():
    result, count = drawn(TeacherPrefix(length="ratio", extra=0.5), progress=1.0), len(prompts().ids)
    assert (result.origin[result.response] == Origin.STUDENT).all()
    draws, batch = Draws(0, 0), prompts()
    picked = draws.uniform("guided", count).argsort()[: count // 2]
    uniform = draws.uniform("guided tokens", count // 2, LIMIT, 2)
    from opd_bench.rollouts.choices import Alone

    alone = writers().write(batch.ids[picked], batch.mask[picked], Alone(Origin.STUDENT), uniform)
    tokens = [row[:length].tolist() for row, length in zip(alone.token, alone.length.tolist(), strict=True)]
    assert [ids for ids, _ in rows(result, slice(count, None))] == tokens
    assert torch.equal(result.truncated[count:], alone.truncated)


def test_without_extra_samples_there_is_no_guidance():
    assert same(drawn(TeacherPrefix(length="cap", extra=0.0)), drawn(Student()))


def test_a_guided_row_is_as_long_as_any_other_at_most_and_says_if_it_was_cut():
    result = drawn(TeacherPrefix(length="ratio", extra=1.0), 0.1)
    lengths = result.response.sum(-1)
    last = result.ids[torch.arange(len(lengths)), result.ids.shape[1] - 1 - result.response.flip(-1).long().argmax(-1)]
    assert torch.equal(last == 2, ~result.truncated)
    assert (lengths[result.truncated] == LIMIT).all()


def test_a_teacher_s_answer_is_made_once_and_depends_on_its_prompt_alone():
    policies, batch = writers(), prompts()
    first = policies.answers(batch, Origin.TEACHER)
    policies.networks[Origin.TEACHER].model.get_input_embeddings().weight.data.zero_()  # a new answer would differ
    again = policies.answers(batch, Origin.TEACHER)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    some = type(batch)(*(field[5:9] for field in batch))
    fresh = writers().answers(some, Origin.TEACHER)
    for row in range(4):
        length = int(fresh.length[row])
        assert int(first.length[5 + row]) == length
        assert torch.equal(fresh.token[row, :length], first.token[5 + row, :length])


def test_references_come_as_they_are_and_say_if_they_were_cut():
    batch, result = prompts(), drawn(Data())
    expected = [
        row[: min(n, LIMIT)].tolist() for row, n in zip(batch.answer, batch.answer_length.tolist(), strict=True)
    ]
    assert [ids for ids, _ in rows(result, slice(None))] == expected
    assert torch.equal(result.truncated, batch.answer_length > LIMIT)
    assert result.truncated.any()
