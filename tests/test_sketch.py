"""The sketch keeps inner products on average, with the stated error, and is the same wherever it is made."""

import math

import pytest
import torch

from opd_bench.maths import sketch as module
from opd_bench.maths.sketch import Sketch

SIZE, SEEDS = 64, 400


def vectors(count: int = 2, coordinates: int = 500) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shared = 1 + torch.randn(coordinates, generator=generator, dtype=torch.float64)  # sums that only signs cancel
    return [shared + torch.randn(coordinates, generator=generator, dtype=torch.float64) for _ in range(count)]


def sketched_products(a, b) -> torch.Tensor:
    sketches = [Sketch(SIZE, seed) for seed in range(SEEDS)]
    return torch.stack([sketch.of([a]) @ sketch.of([b]) for sketch in sketches])


@pytest.mark.parametrize("second", [0, 1], ids=["squared norm", "inner product"])
def test_inner_products_are_unbiased_and_as_exact_as_stated(second):
    a, b = vectors()[0], vectors()[second]
    products = sketched_products(a, b)
    assert abs(products.mean() - a @ b) < 3 * products.std() / math.sqrt(SEEDS)
    stated = ((a @ a * (b @ b) + (a @ b) ** 2) / SIZE).sqrt()
    assert 0.85 * stated < products.std() < 1.1 * stated


def test_the_relative_error_of_a_squared_norm():
    (a,) = vectors(1)
    assert Sketch(SIZE, 0).error(len(a)) == pytest.approx(math.sqrt(2 / SIZE))
    assert sketched_products(a, a).std() / (a @ a) < 1.1 * Sketch(SIZE, 0).error(len(a))


def test_a_gradient_that_fits_stays_as_it_is():
    gradients = [torch.randn(3, 4), torch.randn(5)]
    sketch = Sketch(20, 0)
    assert torch.equal(sketch.of(gradients)[:17], torch.cat([g.flatten() for g in gradients]).double())
    assert not sketch.of(gradients)[17:].any()
    assert sketch.error(17) == 0


def test_linear():
    a, b = vectors()
    sketch = Sketch(SIZE, 0)
    torch.testing.assert_close(sketch.of([2 * a - b]), 2 * sketch.of([a]) - sketch.of([b]))


@pytest.mark.parametrize("block", [1, 7, 100, 499])
def test_the_same_whatever_the_blocks(block, monkeypatch):
    (a,) = vectors(1)
    whole = Sketch(SIZE, 3).of([a])
    monkeypatch.setattr(module, "BLOCK", block)
    torch.testing.assert_close(Sketch(SIZE, 3).of([a]), whole)


def test_parameters_count_only_as_their_concatenation():
    (a,) = vectors(1)
    parts = (part for part in (a[:120].reshape(3, 40), a[120].reshape(()), a[121:].reshape(-1, 1)))
    torch.testing.assert_close(Sketch(SIZE, 3).of(parts), Sketch(SIZE, 3).of([a]))


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone():
    (a,) = vectors(1)
    state = torch.get_rng_state()
    assert torch.equal(Sketch(SIZE, 3).of([a]), Sketch(SIZE, 3).of([a]))
    assert not torch.equal(Sketch(SIZE, 3).of([a]), Sketch(SIZE, 4).of([a]))
    assert torch.equal(torch.get_rng_state(), state)


def test_short_floats_are_added_up_in_long_ones():
    short = torch.ones(100_000, dtype=torch.bfloat16, requires_grad=True)
    sketch = Sketch(1, 0).of([short])  # all signs added up: beyond 256, ones are lost in bfloat16
    assert sketch.dtype == torch.float64
    assert not sketch.requires_grad
    assert torch.equal(sketch, Sketch(1, 0).of([short.double()]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_any_device():
    (a,) = vectors(1)
    torch.testing.assert_close(Sketch(SIZE, 3).of([a.cuda()]).cpu(), Sketch(SIZE, 3).of([a]))
