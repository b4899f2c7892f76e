"""What every method must hold to, found by globbing conf/method: a new YAML is covered without a line here."""

import random
import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from opd_bench import exact_moments, load_method
from opd_bench.catalogue import Method
from opd_bench.configs import conf_dir
from opd_bench.maths.divergences import LOG_ZERO
from opd_bench.scoring import ScoredBatch, batch_loss
from opd_bench.tokens import READS, Cost, Origin, TokenBatch, TokenLoss
from tests.oracles import ORACLES
from tests.prefixes import prefix_pair

ROOT = Path(__file__).parents[1]
VOCABULARY = 97  # larger than any method's top k, so that none is exact by accident
PROGRESS = (0.0, 0.5, 1.0)
NAMES = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))

every_method = pytest.mark.parametrize("name", NAMES)


# ---------------------------------------------------------------- batches


def tokens_of(method: Method, count: int = 24, vocabulary: int = VOCABULARY, **changes: Any) -> TokenBatch:
    """Random tokens of every origin that the method learns from."""
    student, teacher = prefix_pair(count, vocabulary)
    generator = torch.Generator().manual_seed(1)
    given = {
        "student_logits": student,
        "teacher_logits": teacher,
        "token": torch.randint(vocabulary, (count,), generator=generator),
        "origin": torch.tensor(sorted(method.estimator.learns_from)).repeat(count)[:count],
        "behaviour_logp": torch.full((count,), -1.5, dtype=torch.float64),
        "uniform": torch.rand(count, generator=generator, dtype=torch.float64),
        "weight": torch.rand(count, generator=generator, dtype=torch.float64) if method.estimator.signals else None,
    } | changes
    given["student_logits"] = given["student_logits"].clone().requires_grad_()
    return TokenBatch(**given)


def loss_and_gradient(method: Method, tokens: TokenBatch, progress: float = 0.3) -> tuple[Tensor, Tensor]:
    result = method.estimator.token_loss(tokens, progress)
    loss = result.loss if result.weight is None else result.weight * result.loss
    return loss.detach(), torch.autograd.grad(loss.sum(), tokens.student_logits)[0]


def batch_of(method: Method, lengths: tuple[int, ...] = (6, 3, 5, 1), width: int = 6) -> ScoredBatch:
    """Right-padded sequences, all of whose tokens the method learns from."""
    shape = (len(lengths), width)
    student, teacher = (logits.view(*shape, VOCABULARY) for logits in prefix_pair(len(lengths) * width, VOCABULARY))
    generator = torch.Generator().manual_seed(2)
    writers = torch.tensor(sorted(method.estimator.learns_from))
    return ScoredBatch(
        student=student.clone().requires_grad_(),
        teacher=teacher,
        token=torch.randint(VOCABULARY, shape, generator=generator),
        response=torch.arange(width) < torch.tensor(lengths)[:, None],
        origin=writers[torch.randint(len(writers), shape, generator=generator)],
        behaviour_logp=torch.full(shape, -1.5, dtype=torch.float64),
        uniform=torch.rand(shape, generator=generator, dtype=torch.float64),
    )


def step(method: Method, batches: list[ScoredBatch], progress: float = 0.7, chunk: int | None = None) -> tuple:
    """The step's loss and its gradient in every batch's logits."""
    loss = batch_loss(method.estimator, batches, progress, chunk)
    return loss.detach(), torch.autograd.grad(loss, [batch.student for batch in batches])


def changed(batch: ScoredBatch, change: Any) -> ScoredBatch:
    """`change` applied to every field; the logits are a new leaf."""
    moved = ScoredBatch(*(change(field.detach()) for field in batch))
    return moved._replace(student=moved.student.clone().requires_grad_())


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- values


@every_method
def test_one_value_per_token(name):
    method = load_method(name)
    tokens = tokens_of(method)
    for progress in PROGRESS:
        result = method.estimator.token_loss(tokens, progress)
        assert isinstance(result, TokenLoss)
        assert result.loss.shape == tokens.token.shape
        assert result.loss.requires_grad
        for value in [*result.stats.values(), *([] if result.weight is None else [result.weight])]:
            assert value.shape == tokens.token.shape
            assert not value.requires_grad


def hostile_pairs(dtype: torch.dtype) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits [V, V] with what breaks naive code in them."""
    student, teacher = (logits.to(dtype) for logits in prefix_pair(12, 12, gap=3.0))
    holes = torch.arange(12) % 3 == 0
    certain = torch.full_like(teacher, -torch.inf).fill_diagonal_(0.0)
    return {
        "teacher holes": (student, teacher.masked_fill(holes, -torch.inf)),
        "holes in both": (student.masked_fill(holes, -torch.inf), teacher.masked_fill(holes, -torch.inf)),
        "certain teacher": (student, certain),
        "certain teacher elsewhere": (student, certain.flip(0)),
        "far apart": (40 * student, 40 * teacher),
        "agreeing": (student, student),
        "one token": (student[:, :1], teacher[:, :1]),
    }


@every_method
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_loss_and_gradient_are_finite_at_the_edges(name, dtype):
    method = load_method(name)
    for case, (student, teacher) in hostile_pairs(dtype).items():
        token = student.float().argmax(-1)  # the student could have written it
        for progress in PROGRESS:
            behaviour = torch.full((12,), -1.5)
            tokens = tokens_of(
                method, 12, student_logits=student, teacher_logits=teacher, token=token, behaviour_logp=behaviour
            )
            result = method.estimator.token_loss(tokens, progress)
            weight = 1.0 if result.weight is None else result.weight
            (gradient,) = torch.autograd.grad((weight * result.loss).sum(), tokens.student_logits)
            assert torch.isfinite(result.loss).all(), case
            assert torch.isfinite(gradient).all(), case
            assert all(torch.isfinite(value).all() for value in result.stats.values()), case


@every_method
def test_half_precision_logits_are_widened_before_any_softmax(name):
    method = load_method(name)
    student, teacher = (logits.bfloat16() for logits in prefix_pair(24, VOCABULARY))
    narrow = tokens_of(method, student_logits=student, teacher_logits=teacher)
    wide = tokens_of(method, student_logits=student.float(), teacher_logits=teacher.float())
    assert narrow.student_logits.dtype == narrow.teacher_logits.dtype == torch.float32
    assert torch.equal(*(method.estimator.token_loss(tokens, 0.3).loss for tokens in (narrow, wide)))


@every_method
def test_pure(name):
    method = load_method(name)
    tokens = tokens_of(method)
    before = (dict(vars(method.estimator)), torch.get_rng_state(), random.getstate())
    inputs = {
        field.name: value.clone()
        for field in fields(tokens)
        if isinstance(value := getattr(tokens, field.name), Tensor)
    }
    first = loss_and_gradient(method, tokens)
    second = loss_and_gradient(method, tokens_of(method))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert vars(method.estimator) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    assert all(torch.equal(getattr(tokens, field), value) for field, value in inputs.items())


@every_method
def test_teacher_gets_no_gradient(name):
    method = load_method(name)
    teacher = prefix_pair(24, VOCABULARY)[1].requires_grad_()
    tokens = tokens_of(method, teacher_logits=teacher)
    method.estimator.token_loss(tokens, 0.3).loss.sum().backward()
    assert teacher.grad is None


@every_method
@pytest.mark.parametrize("model", ["student_logits", "teacher_logits"])
def test_shifting_either_models_logits_changes_nothing(name, model):
    method = load_method(name)
    plain = tokens_of(method)
    shift = torch.linspace(-5, 5, 24, dtype=torch.float64)[:, None]
    moved = tokens_of(method, **{model: getattr(plain, model).detach() + shift})
    results = [loss_and_gradient(method, tokens) for tokens in (plain, moved)]
    for one, other in zip(*results, strict=True):
        close(one, other)
    close(results[0][1].sum(-1), torch.zeros(24, dtype=torch.float64))


# ---------------------------------------------------------------- batches into one number


@every_method
def test_masked_and_foreign_tokens_get_no_gradient(name):
    method = load_method(name)
    batch = batch_of(method)
    foreign = torch.tensor([[one not in method.estimator.learns_from for one in Origin]]).all()
    origin = batch.origin.clone()
    others = sorted(set(Origin) - method.estimator.learns_from)
    if others:
        origin[:, ::2] = others[0]
    batch = batch._replace(origin=origin)
    _, (gradient,) = step(method, [batch], progress=0.0)
    scored = batch.response & torch.isin(origin, torch.tensor(sorted(method.estimator.learns_from)))
    assert not foreign
    assert gradient[~scored].abs().max() == 0
    assert gradient[scored].abs().max() > 0


@every_method
def test_padding_changes_nothing_even_if_it_is_nan(name):
    method = load_method(name)
    batch = batch_of(method)
    plain, (gradient,) = step(method, [batch])

    def padded(values: Tensor) -> Tensor:
        rows = values.new_zeros(len(values) + 1, values.shape[1] + 3, *values.shape[2:])
        rows[: len(values), : values.shape[1]] = values
        return rows

    wide = changed(batch, padded)
    noise = wide.student.detach().masked_fill(~wide.response[..., None], torch.nan)
    wide = wide._replace(
        student=noise.requires_grad_(),
        teacher=wide.teacher.masked_fill(~wide.response[..., None], torch.nan),
    )
    loss, (same,) = step(method, [wide])
    close(plain, loss)
    close(gradient, same[: len(gradient), : gradient.shape[1]])


@every_method
def test_permuting_the_batch_permutes_the_gradient(name):
    method = load_method(name)
    batch = batch_of(method)
    order = torch.tensor([2, 0, 3, 1])
    plain, (gradient,) = step(method, [batch])
    loss, (moved,) = step(method, [changed(batch, lambda values: values[order])])
    close(plain, loss)
    close(gradient[order], moved)


@every_method
@pytest.mark.parametrize("progress", PROGRESS)
def test_cutting_into_chunks_and_micro_batches_changes_nothing(name, progress):
    method = load_method(name)
    batch = batch_of(method)
    plain, (gradient,) = step(method, [batch], progress)
    for chunk in (1, 4):
        loss, (same,) = step(method, [batch], progress, chunk)
        close(plain, loss)
        close(gradient, same)
    pieces = [changed(batch, lambda values, rows=rows: values[rows]) for rows in (slice(0, 1), slice(1, 4))]
    loss, gradients = step(method, pieces, progress, chunk=3)
    close(plain, loss)
    close(gradient, torch.cat(gradients))


@every_method
def test_a_batch_without_tokens_is_zero_and_not_nan(name):
    method = load_method(name)
    batch = batch_of(method)
    loss, (gradient,) = step(method, [batch._replace(response=torch.zeros_like(batch.response))])
    assert loss == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


# ---------------------------------------------------------------- expected gradients


@every_method
@pytest.mark.parametrize("progress", PROGRESS)
def test_mean_gradient_is_the_stated_target(name, progress):
    """At every prefix, for every writer that the method learns from; without a target it is neither KL's."""
    estimator = load_method(name).estimator
    student, teacher = prefix_pair(6, VOCABULARY, gap=1.5)
    for origin in sorted(estimator.learns_from):
        moments = exact_moments(estimator, student, teacher, progress=progress, origin=origin.name.lower())
        if estimator.claims.target is None:
            assert estimator.claims.bias, "state the bias of a method that has no target"
            assert moments.bias_reverse_kl.max() > 1e-6
            assert moments.bias_forward_kl.max() > 1e-6
        else:
            assert estimator.claims.target in ORACLES, "a new target needs its closed form in tests/oracles.py"
            oracle = ORACLES[estimator.claims.target]
            exact = oracle(student.softmax(-1), teacher.softmax(-1), estimator, progress, origin)
            assert (moments.mean - exact).abs().max() < 1e-9


@every_method
def test_stationary_where_the_models_agree_if_and_only_if_stated(name):
    estimator = load_method(name).estimator
    student, _ = prefix_pair(6, VOCABULARY)
    for origin in sorted(estimator.learns_from):
        moments = exact_moments(estimator, student, student, origin=origin.name.lower())
        assert (moments.mean.abs().max() < 1e-12) == estimator.claims.stationary


@every_method
def test_cost_class_is_the_stated_one(name):
    estimator = load_method(name).estimator
    pair = prefix_pair(4, VOCABULARY)
    measured = Cost("nothing", "nothing")
    for origin in sorted(estimator.learns_from):
        for progress in PROGRESS:
            measured = measured | exact_moments(estimator, *pair, origin=origin.name.lower(), progress=progress).cost
    assert measured == estimator.claims.cost


@every_method
def test_what_it_does_not_say_it_reads_may_be_nan(name):
    method = load_method(name)
    for progress in PROGRESS:
        clean = tokens_of(method)
        expected = method.estimator.token_loss(clean, progress).loss
        poisoned = tokens_of(method)
        poisoned._index = clean._index
        chosen = torch.cat([clean.token[:, None], *clean._index.values()], -1)
        for model, read in zip(("student", "teacher"), method.estimator.claims.cost, strict=True):
            vars(poisoned)[f"{model}_logsumexp"] = getattr(clean, f"{model}_logsumexp")
            kept = {"nothing": chosen[:, :0], "sampled": chosen[:, :1], "top-k": chosen}
            if read in kept:
                logits = torch.full_like(clean.teacher_logits, torch.nan)
                setattr(
                    poisoned,
                    f"{model}_logits",
                    logits.scatter(-1, kept[read], getattr(clean, f"{model}_logits").gather(-1, kept[read])),
                )
        assert torch.equal(method.estimator.token_loss(poisoned, progress).loss, expected)


# ---------------------------------------------------------------- settings, words and files


@every_method
def test_yaml_keys_are_the_constructors_fields_and_python_has_no_second_default(name):
    config = OmegaConf.load(conf_dir() / "method" / f"{name}.yaml")
    method = load_method(name)
    for part, made in zip(("estimator", "source"), method, strict=True):
        assert set(config[part]) - {"_target_"} == {field.name for field in fields(made)}
        assert all(field.default is MISSING and field.default_factory is MISSING for field in fields(made))
    assert not set(method.estimator.settings()) & set(method.source.settings())


def bad_values(hint: Any) -> list[Any]:
    """Values that a field of this type must refuse."""
    if NoneType in get_args(hint):
        hint = next(arg for arg in get_args(hint) if arg is not NoneType)
    if get_origin(hint) is Literal:
        return ["nonsense", 17]
    if hint is bool:
        return ["maybe", 2]
    assert get_origin(hint) is Annotated, "a number needs a bound"
    kind, bound = get_args(hint)
    outside = [bound.low - 1, bound.high + 1] + ([bound.low, bound.high] if bound.strict else [])
    finite = [kind(value) for value in outside if abs(value) < float("inf")]
    return [*finite, float("nan"), "many", True, *([1.5] if kind is int else [])]


@every_method
def test_hyperparameters_out_of_range_are_refused_with_field_bound_and_value(name):
    for made in load_method(name):
        hints = get_type_hints(type(made), include_extras=True)
        for field in fields(made):
            for value in bad_values(hints[field.name]):
                message = f"{type(made).__name__}.{field.name} must be .+, got {value!r}"
                with pytest.raises(ValueError, match=re.escape(message).replace(re.escape(".+"), ".+")):
                    load_method(name, **{field.name: value})


@every_method
def test_settings_are_set_once(name):
    for made in load_method(name):
        for field in fields(made):
            with pytest.raises(AttributeError, match="set once"):
                setattr(made, field.name, getattr(made, field.name))


@every_method
def test_the_source_brings_tokens_that_the_estimator_learns_from(name):
    method = load_method(name)
    assert method.source.origins[0] in Origin
    assert method.estimator.learns_from & set(method.source.origins)


@every_method
def test_the_file_says_what_it_is(name):
    """A formula, what carries gradient, the proof, where it comes from; at most 60 lines."""
    estimator = load_method(name).estimator
    source = Path(__import__(type(estimator).__module__, fromlist=["_"]).__file__)
    doc = type(estimator).__doc__
    assert len(source.read_text().splitlines()) <= 60
    assert "radient" in doc
    assert re.search(r"ℓ|loss =|K1 ", doc)
    assert all((estimator.about.title, estimator.about.paper, estimator.about.provenance))
    for path, test in re.findall(r"(tests/\S+?\.py)(?:::(\w+))?", doc):
        assert f"def {test}" in (ROOT / path).read_text()


def test_there_are_methods_and_costs_are_ordered():
    assert len(NAMES) >= 46
    assert Cost("sampled", "full") | Cost("top-k", "nothing") == Cost("top-k", "full")
    assert READS.index("nothing") < READS.index("sampled") < READS.index("top-k") < READS.index("full")
    assert torch.tensor(LOG_ZERO, dtype=torch.float64).exp() == 0
