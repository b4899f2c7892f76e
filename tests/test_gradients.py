"""Moments from inner products: unbiased where the obvious ones are not; intervals cover as often as they say."""

import math

import numpy as np
import pytest
import torch

from opd_bench.maths.moments import StreamingMoments
from opd_bench.reporting import gradients
from opd_bench.reporting.gradients import estimates, ratio, same_mean

SETS, WIDTH, REPEATS = 8, 20, 200
MEAN_G, MEAN_H, MEAN_F = (np.eye(WIDTH)[0], np.eye(WIDTH)[:2].sum(0), np.eye(WIDTH)[2])
TRUE = {
    "variance": 0.2 * WIDTH,
    "signal": 1.0,
    "snr": 1 / (0.2 * WIDTH),
    "relative_variance": 0.1 * WIDTH,
    "token_variance": 0.1 * WIDTH,
    "token_share": 0.5,
    "bias_squared_reverse_kl": 0.5,
    "cosine_reverse_kl": math.sqrt(0.5),
    "bias_squared_forward_kl": 2.0,
    "cosine_forward_kl": 0.0,
}


def draw(seed: int, sets: int = SETS) -> tuple[np.ndarray, np.ndarray]:
    """Gradients g, h, f [3, R, WIDTH] of sets with prefixes in common, and the variances within the sets [R]."""
    rng = np.random.default_rng(seed)
    prefix, token, other = rng.normal(scale=math.sqrt(0.1), size=(3, sets, WIDTH))
    within = 0.1 * WIDTH * rng.chisquare(60, size=sets) / 60
    return np.stack([MEAN_G + prefix + token, MEAN_H + prefix, MEAN_F + other]), within


def gram(draws: np.ndarray) -> np.ndarray:
    return np.einsum("aid,bjd->aibj", draws, draws)


@pytest.fixture
def _few(monkeypatch):
    monkeypatch.setattr(gradients, "RESAMPLES", 300)


def standard_errors_off(values, true: float) -> float:
    return abs(np.mean(values) - true) / (np.std(values, ddof=1) / math.sqrt(len(values)))


@pytest.mark.usefixtures("_few")
def test_unbiased_where_the_obvious_estimates_are_not():
    ours: dict[str, list[float]] = {"variance": [], "signal": [], "apart": [], "across": []}
    naive: dict[str, list[float]] = {name: [] for name in ours}
    for seed in range(REPEATS):
        draws, _ = draw(seed)
        found, means = estimates(gram(draws), None, 0), draws.mean(1)
        h_squared = found["variance"].value / found["relative_variance"].value
        ours["variance"].append(found["variance"].value)
        ours["signal"].append(found["signal"].value)
        ours["apart"].append(found["bias_squared_reverse_kl"].value * h_squared)
        ours["across"].append((found["signal"].value + h_squared - ours["apart"][-1]) / 2)
        naive["variance"].append(draws[0].var(0).sum())
        naive["signal"].append(means[0] @ means[0])
        naive["apart"].append(np.sum((means[0] - means[1]) ** 2))
        naive["across"].append(means[0] @ means[1])
    true = {"variance": 0.2 * WIDTH, "signal": 1.0, "apart": 1.0, "across": 1.0}
    for name, value in true.items():
        assert standard_errors_off(ours[name], value) < 3, name
        assert standard_errors_off(naive[name], value) > 5, name


@pytest.mark.usefixtures("_few")
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    hits: dict[str, list[bool]] = {name: [] for name in TRUE}
    for seed in range(300):
        draws, within = draw(seed, sets=16)
        found = estimates(gram(draws), within, seed)
        for name, true in TRUE.items():
            hits[name].append(found[name].low <= true <= found[name].high)
    for name, hit in hits.items():
        assert 0.91 <= np.mean(hit) <= 0.99, (name, np.mean(hit))


@pytest.mark.usefixtures("_few")
def test_a_resampled_set_is_not_paired_with_its_copies():
    """Where the signal is 0, a bootstrap that keeps such pairs finds one in nearly every world."""
    seen, naive_seen = [], []
    for seed in range(100):
        draws, _ = draw(seed, sets=16)
        products = gram(draws - np.stack([MEAN_G, MEAN_H, MEAN_F])[:, None])
        low = estimates(products, None, seed)["signal"].low
        weights = np.random.default_rng(seed).multinomial(16, np.full(16, 1 / 16), size=300) / 16
        naive = np.percentile(((weights @ products[0, :, 0]) * weights).sum(-1), 2.5)
        assert naive > low
        seen.append(low > 0)
        naive_seen.append(naive > 0)
    assert np.mean(seen) < 0.06
    assert np.mean(naive_seen) > 0.94


def test_variance_and_signal_are_those_of_the_streamed_moments():
    draws, _ = draw(0)
    moments = StreamingMoments()
    moments.add(torch.from_numpy(draws[0]))
    found = estimates(gram(draws), None, 0)
    assert found["variance"].value == pytest.approx(moments.unbiased_variance.item())
    assert found["signal"].value == pytest.approx(moments.signal.item())
    assert found["snr"].value == pytest.approx((moments.signal / moments.unbiased_variance).item())
    assert found["norm"].value == pytest.approx(np.linalg.norm(draws[0], axis=-1).mean())


@pytest.mark.parametrize("seed", range(3))
def test_a_deterministic_gradient_has_no_variance(seed):
    """Nor where its products are rounded, nor where a resample is six times one set and has no pairs."""
    draws, _ = draw(0, sets=6)
    draws[0] = draws[0, 0]
    rounded = gram(draws) * (1 + 1e-15 * np.random.default_rng(seed).normal(size=(3, 6, 3, 6)))
    found = estimates((rounded + rounded.transpose(2, 3, 0, 1)) / 2, np.zeros(6), seed)
    assert found["variance"] == found["relative_variance"] == found["token_variance"] == (0, 0, 0)
    assert found["snr"] == (math.inf, math.inf, math.inf)
    assert found["signal"].low == pytest.approx(found["signal"].high)


def test_the_exact_gradient_has_bias_0_and_cosine_1():
    draws, _ = draw(0)
    draws[0] = draws[1]
    found = estimates(gram(draws), None, 0)
    assert found["bias_reverse_kl"] == (0, 0, 0)
    assert found["cosine_reverse_kl"] == pytest.approx((1, 1, 1))
    assert found["cosine_single_reverse_kl"] == pytest.approx((1, 1, 1))
    assert found["bias_forward_kl"].low > 0.5


def test_a_negative_squared_bias_is_kept_raw_and_shown_as_0():
    draws, _ = draw(5)
    draws[0] += MEAN_H - MEAN_G
    found = estimates(gram(draws), None, 0)
    raw, shown = found["bias_squared_reverse_kl"], found["bias_reverse_kl"]
    assert raw.low < raw.value < 0 < raw.high
    assert shown == pytest.approx((0, 0, math.sqrt(raw.high)))


def test_what_is_lost_in_the_noise_is_nan():
    draws, _ = draw(0)
    draws[0] -= draws[0].mean(0)  # the mean is 0, so the estimate of its square is below
    found = estimates(gram(draws), None, 0)
    assert found["signal"].value < 0
    assert np.isnan(found["cosine_reverse_kl"]).all()
    assert np.isnan(found["token_variance"]).all()
    assert np.isfinite(found["cosine_single_reverse_kl"]).all()


@pytest.mark.parametrize("above", [0.001, 0.05], ids=["also with one set less", "in many resamples"])
def test_an_end_that_the_sets_do_not_bound_is_as_far_as_it_goes(above):
    """Where ‖E h‖² may well be 0, nothing is too large to be a variance relative to it, and h may point anywhere."""
    draws, _ = draw(0)
    spread = draws[1].var(0, ddof=1).sum()
    draws[1] += math.sqrt((spread / SETS + above) / WIDTH) - draws[1].mean(0)  # ‖E h‖² is estimated as this little
    found = estimates(gram(draws), None, 0)
    relative, cosine = found["relative_variance"], found["cosine_reverse_kl"]
    assert relative.low == 0 < relative.value < relative.high == math.inf
    assert (cosine.low, cosine.high) == (-1, 1)


def test_a_cosine_does_not_depend_on_which_vector_comes_first():
    products = gram(draw(0)[0])
    swapped = products[[1, 0, 2]][:, :, [1, 0, 2]]
    one, other = (estimates(each, None, 0)["cosine_reverse_kl"] for each in (products, swapped))
    assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("sets", [2, 3, 5])
def test_few_sets_have_estimates_and_no_intervals(sets):
    draws, within = draw(0, sets)
    for name, found in estimates(gram(draws), within, 0).items():
        assert np.isnan([found.low, found.high]).all(), name
    assert estimates(gram(draws), within, 0)["variance"].value > 0


def test_the_order_of_the_sets_changes_only_what_is_resampled():
    draws, within = draw(0, sets=16)
    order = np.random.default_rng(0).permutation(16)
    one, other = estimates(gram(draws), within, 0), estimates(gram(draws[:, order]), within[order], 0)
    for name, found in one.items():
        assert other[name].value == pytest.approx(found.value), name
        assert other[name] == pytest.approx(found, rel=0.1, abs=0.05), name
    assert estimates(gram(draws), within, 0) == one


def test_the_ratio_of_variances_is_paired():
    products = gram(draw(0, sets=16)[0])
    method, exact = products[0, :, 0], products[1, :, 1]
    paired, unpaired = ratio(method, exact, 0), ratio(method[::-1, ::-1], exact, 0)
    assert paired.low < 2 < paired.high  # g has the variance of its prefixes, which is h's, and as much again
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.high - paired.low < unpaired.high - unpaired.low
    assert ratio(4 * method, method, 0) == pytest.approx((4, 4, 4))


@pytest.mark.usefixtures("_few")
def test_two_methods_of_one_mean_are_told_from_two_of_different_means():
    same, different = [], []
    for seed in range(100):
        draws, _ = draw(seed, sets=16)
        equal = draws[:2] + np.stack([MEAN_H - MEAN_G, 0 * MEAN_H])[:, None]
        same.append(same_mean(gram(equal), seed).low <= 0)
        different.append(same_mean(gram(draws[:2]), seed).low > 0)
    assert np.mean(same) > 0.92
    assert np.mean(different) > 0.92
