"""Intervals cover as often as they say, equal methods are called equal, better ones are found, order is nothing.

Rates are checked against binomial bounds that a right method passes but once in 10⁶ draws of the random numbers.
"""

import itertools
import math
import random
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from opd_bench.reporting.resampling import resamples
from opd_bench.reporting.statistics import (
    avg_at_k,
    bands,
    clustered_error,
    holm,
    improvement,
    interval,
    iqm,
    mean,
    normalised,
    paired,
    pass_at_k,
    sign_flip,
)

RUNS = 5
TASKS = np.array([-1.0, 0.0, 1.0])  # symmetric, so mean and IQM of all worlds with symmetric noise are 0
STARTS = (0, 1, 0, 1, 0)


def runs(rng, *shape):
    """Scores [shape, tasks]: what a run is worth on all tasks, and noise of each."""
    shape = shape or (RUNS,)
    return TASKS + rng.normal(size=(*shape, 1)) + 0.7 * rng.normal(size=(*shape, len(TASKS)))


def pairs(rng, number=RUNS):
    """Two equal methods that share what a seed brings, of which there is much."""
    common = 3 * rng.normal(size=(number, 1))
    return common + runs(rng, number), common + runs(rng, number)


def covers(found, truth):
    return found.low <= truth <= found.high


def about(hits, low, high):
    """Whether a method whose rate is between low and high would have so many hits."""
    return binom.ppf(1e-6, len(hits), low) <= sum(hits) <= binom.ppf(1 - 1e-6, len(hits), high)


def spread(found):
    return found.high - found.low


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize(
    ("aggregate", "number", "repeats", "low", "high"),
    [
        (mean, 2, 6000, 0.95, 0.95),
        (mean, 3, 6000, 0.95, 0.95),
        (mean, 5, 20_000, 0.95, 0.95),
        (mean, 12, 300, 0.945, 0.955),
        (iqm, 3, 2000, 0.935, 0.965),
        (iqm, 5, 2000, 0.935, 0.965),
    ],
)
def test_an_interval_covers_the_truth_as_often_as_it_says(aggregate, number, repeats, low, high):
    rng = np.random.default_rng(number)
    hits = [covers(interval(runs(rng, number), 0, aggregate), 0) for _ in range(repeats)]
    assert about(hits, low, high), np.mean(hits)


@pytest.mark.parametrize("aggregate", [mean, iqm])
def test_an_interval_of_accuracies_near_the_top_covers_a_little_less(aggregate):
    rng = np.random.default_rng(1)

    def accuracies(*shape):
        return rng.binomial(200, rng.beta(95, 5, size=(*shape, 1)), size=(*shape, 3)) / 200

    truth = aggregate(accuracies(50_000, RUNS)).mean()
    hits = [covers(interval(accuracies(RUNS), 0, aggregate), truth) for _ in range(2000)]
    assert about(hits, 0.93, 0.965), np.mean(hits)


def test_a_difference_is_of_pairs():
    rng = np.random.default_rng(2)
    hits, widths, apart = [], [], []
    for _ in range(6000):
        ours, theirs = pairs(rng)
        found = paired(ours, theirs, 0)
        hits.append(covers(found, 0))
        widths.append(spread(found))
        apart.append(spread(paired(ours, theirs[rng.permutation(RUNS)], 0)))
    assert about(hits, 0.95, 0.95), np.mean(hits)
    assert np.median(widths) < np.median(apart) / 2


def test_the_interval_of_a_mean_is_students():
    scores = runs(np.random.default_rng(3))
    low, high = t.interval(0.95, RUNS - 1, scores.mean(), scores.mean(1).std(ddof=1) / math.sqrt(RUNS))
    assert interval(scores, 0) == pytest.approx((scores.mean(), low, high), rel=1e-10)
    many = runs(np.random.default_rng(3), 40)
    low, high = t.interval(0.95, 39, many.mean(), many.mean(1).std(ddof=1) / math.sqrt(40))
    assert spread(interval(many, 0)) == pytest.approx(high - low, rel=0.04)


def test_the_interval_of_a_mean_over_starts_has_their_common_variance():
    scores = runs(np.random.default_rng(4))
    groups = [scores[[0, 2, 4]].mean(1), scores[[1, 3]].mean(1)]
    variance = sum(((group - group.mean()) ** 2).sum() for group in groups) / 3
    reach = t.ppf(0.975, 3) * math.sqrt(variance / 5)
    found = interval(scores, 0, strata=STARTS)
    assert found == pytest.approx((scores.mean(), scores.mean() - reach, scores.mean() + reach), rel=1e-10)
    assert paired(scores, np.zeros_like(scores), 0, STARTS) == found


@pytest.mark.parametrize("aggregate", [mean, iqm])
def test_strata_take_the_difference_between_starts_out_of_the_interval(aggregate):
    rng = np.random.default_rng(5)
    shift = 3 * np.array(STARTS)[:, None]
    truth = aggregate(runs(rng, 50_000, RUNS) + shift).mean()
    hits, plain, widths = [], [], []
    for _ in range(1000):
        scores = runs(rng) + shift
        stratified, whole = interval(scores, 0, aggregate, STARTS), interval(scores, 0, aggregate)
        hits.append(covers(stratified, truth))
        plain.append(covers(whole, truth))
        widths.append((spread(stratified), spread(whole)))
    assert about(hits, 0.93, 0.965), np.mean(hits)
    assert about(plain, 0.985, 1), np.mean(plain)
    assert np.median(widths, 0)[0] < 0.75 * np.median(widths, 0)[1]


@pytest.mark.parametrize("sizes", [(1,), (2,), (4,), (5,), (3, 2), (1, 2, 2)])
def test_all_resamples_are_there_as_often_as_among_all_ordered_ones(sizes):
    ends = np.cumsum(sizes).tolist()
    ordered = itertools.product(
        *(range(end - size, end) for size, end in zip(sizes, ends, strict=True) for _ in range(size))
    )
    counts: dict[tuple[int, ...], int] = {}
    for rows in ordered:
        counts[tuple(sorted(rows))] = counts.get(tuple(sorted(rows)), 0) + 1
    found = resamples(sizes, 0)
    assert {tuple(sorted(rows)) for rows in found.picks.tolist()} == set(counts)
    assert len(found.picks) == len(counts)
    total = sum(counts.values())
    expected = [counts[tuple(sorted(rows))] / total for rows in found.picks.tolist()]
    np.testing.assert_allclose(found.probability, expected, rtol=1e-12)


def test_drawn_resamples_stay_in_their_strata_and_follow_the_seed():
    found, other = resamples((9, 3), 1), resamples((9, 3), 2)
    assert found.picks.shape == (10_000, 12)
    assert (found.picks[:, :9] < 9).all()
    assert (found.picks[:, 9:] >= 9).all()
    assert not np.array_equal(found.picks, other.picks)
    resamples.cache_clear()
    np.testing.assert_array_equal(resamples((9, 3), 1).picks, found.picks)
    scores = runs(np.random.default_rng(0), 12)
    assert interval(scores, 1) != interval(scores, 2)
    assert interval(scores[:8], 1) == interval(scores[:8], 2)  # all resamples, none drawn


@pytest.mark.parametrize("number", [5, 12])
@pytest.mark.parametrize("aggregate", [mean, iqm])
def test_the_order_of_the_runs_changes_nothing_at_all(number, aggregate):
    rng = np.random.default_rng(6)
    scores, theirs, starts = runs(rng, number), runs(rng, number), rng.integers(2, size=number)
    order = rng.permutation(number)
    assert interval(scores, 0, aggregate) == interval(scores[order], 0, aggregate)
    assert paired(scores, theirs, 0) == paired(scores[order], theirs[order], 0)
    renamed = ["zero" if start else "one" for start in starts[order]]
    assert interval(scores, 0, aggregate, starts.tolist()) == interval(scores[order], 0, aggregate, renamed)
    differences = (scores - theirs).mean(1)
    assert sign_flip(differences, 0) == sign_flip(np.sort(differences)[::-1], 0)


def test_where_there_is_no_interval_and_where_it_is_a_point():
    assert interval(np.zeros((0, 3)), 0) == (None, None, None)
    assert interval(np.full((1, 3), 0.5), 0) == (0.5, None, None)
    for equal in (interval(np.full((5, 3), 0.1), 0), interval(np.full((20, 3), 0.1), 0, iqm)):
        assert equal.low == equal.mean == equal.high == pytest.approx(0.1)
    assert interval(np.array([[0.1], [0.3]]), 0, strata="ab") == (0.2, None, None)
    assert interval(np.array([[0.1], [0.3]] * 3), 0, strata="ab" * 3) == pytest.approx((0.2, 0.2, 0.2), abs=1e-15)
    assert interval(np.array([[np.inf], [0.3]]), 0) == (math.inf, None, None)
    assert math.isnan(interval(np.array([[np.nan, 0.1], [0.3, 0.1]]), 0).mean)
    assert interval(np.array([[np.nan, 0.5], [np.nan, 0.5]]), 0) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="zip"):
        interval(np.zeros((3, 1)), 0, strata="ab")


# ---------------------------------------------------------------- problems and aggregates


def test_pass_at_k_is_the_share_of_all_subsets_with_a_right_one():
    for n, c in itertools.product(range(1, 7), range(7)):
        for k in range(1, n + 1) if c <= n else ():
            subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
            share = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(np.array([c]), n, k)[0] == pytest.approx(share, abs=1e-15)


def test_pass_at_k_of_many_samples_is_exact_and_of_one_the_share():
    solved = np.array([0, 1, 7, 5000, 10_000])
    exact = [1 - Fraction(math.comb(10_000 - c, 500), math.comb(10_000, 500)) for c in solved.tolist()]
    np.testing.assert_allclose(pass_at_k(solved, 10_000, 500), [float(value) for value in exact], rtol=1e-12)
    np.testing.assert_allclose(pass_at_k(solved, 10_000, 1), avg_at_k(solved, 10_000), rtol=1e-11)
    assert pass_at_k(np.array([0, 1, 5000, 9999]), 10_000, 10_000).tolist() == [0, 1, 1, 1]
    assert avg_at_k(np.array([0, 1, 4]), 4).tolist() == [0, 0.25, 1]


def test_pass_at_k_is_unbiased():
    rng = np.random.default_rng(0)
    found = pass_at_k(rng.binomial(8, 0.2, size=20_000), 8, 4)
    assert abs(found.mean() - (1 - 0.8**4)) < 5 * found.std() / math.sqrt(20_000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pass_at_k(np.array([1]), 4, 5), "k must be at least 1 and at most n = 4: 5"),
        (lambda: pass_at_k(np.array([1]), 4, 0), "k must be at least 1 and at most n = 4: 0"),
        (lambda: pass_at_k(np.array([1, 5]), 4, 2), "solved must be at least 0 and at most n = 4: 5"),
        (lambda: avg_at_k(np.array([-1]), 4), "solved must be at least 0 and at most k = 4: -1"),
        (lambda: avg_at_k(np.array([0]), 0), "k must be at least 1: 0"),
    ],
)
def test_counts_that_can_t_be_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_error_of_an_accuracy_counts_problems_and_not_samples():
    rng = np.random.default_rng(7)
    problems, samples = 60, 16
    means, clustered, naive = [], [], []
    for _ in range(2000):
        solved = rng.binomial(samples, rng.beta(0.5, 0.5, size=problems))  # most problems are easy or hard
        share = avg_at_k(solved, samples)
        means.append(share.mean())
        clustered.append(clustered_error(share))
        naive.append(math.sqrt(share.mean() * (1 - share.mean()) / (problems * samples)))
    assert np.mean(clustered) == pytest.approx(np.std(means), rel=0.08)  # five standard errors of 2,000 repeats
    assert np.mean(naive) < np.std(means) / 2
    assert math.isnan(clustered_error(np.array([0.5])))
    assert clustered_error(np.array([0.0, 1.0])) == pytest.approx(0.5)


def test_the_interquartile_mean_drops_a_quarter_at_either_end():
    values = np.array([9.0, 1, 2, 3, 100, -50, 4, 5])
    assert iqm(values.reshape(4, 2)) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert iqm(np.array([[0.0], [1], [2], [6], [99]])) == 3  # of five, one at either end
    assert iqm(np.stack([values.reshape(4, 2)] * 3)).tolist() == [3.5] * 3
    assert mean(np.stack([values.reshape(4, 2)] * 3)).tolist() == [values.mean()] * 3


def test_normalised_is_0_at_the_student_and_1_at_the_teacher_and_unknown_without_a_gap():
    low, high = np.array([0.2, 0.5, 0.5]), np.array([0.6, 0.5, 0.4])
    found = normalised(np.array([low, high, [0.4, 0.4, 0.4]]), low, high)
    np.testing.assert_allclose(found[:, 0], [0, 1, 0.5])
    assert np.isnan(found[:, 1:]).all()
    assert interval(found, 0).mean == pytest.approx(0.5)


# ---------------------------------------------------------------- p-values


def by_hand(differences):
    """p from all signs, in whole numbers."""
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(value >= sums[0] for value in sums) / len(sums)


def test_sign_flips_are_all_tried():
    rng = np.random.default_rng(8)
    for _ in range(60):
        differences = rng.integers(-20, 60, size=rng.integers(1, 8)).tolist()
        expected = by_hand(differences)
        for scale in (1, 200, 3):  # accuracies of so many problems: ties stay ties
            assert sign_flip(np.array(differences) / scale, 0) == pytest.approx(expected), differences


def test_no_p_of_five_seeds_is_below_a_sixteenth():
    assert sign_flip(np.array([0.1, 0.2, 0.15, 0.3, 0.2]), 0) == 0.0625
    assert sign_flip(np.array([0.3]), 0) == 1 == sign_flip(np.zeros(5), 0)
    assert math.isnan(sign_flip(np.array([]), 0))
    assert math.isnan(sign_flip(np.array([0.1, np.nan]), 0))


def test_p_is_uniform_without_a_difference():
    rng = np.random.default_rng(9)
    found = [sign_flip(rng.normal(size=8), 0) for _ in range(2000)]
    for level in (1 / 16, 1 / 4, 1 / 2):
        assert about([p <= level for p in found], level, level), level


def test_of_many_seeds_signs_are_drawn_by_the_seed():
    values = np.random.default_rng(10).normal(0.4, 1, size=20)
    assert sign_flip(values, 1) == sign_flip(values[::-1], 1)
    assert len({sign_flip(values, seed) for seed in range(5)}) > 1
    exact = by_hand(np.round(values[:16] * 1000).astype(int).tolist())
    assert sign_flip(values[:16], 0) == pytest.approx(exact, abs=5 * math.sqrt(exact / 10_000))


def test_holms_p_values_and_those_that_do_not_count():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = holm([0.02, None, math.nan, 0.6, 0.9])
    assert found[:1] + found[3:] == pytest.approx([0.06, 1, 1])
    assert found[1] is None
    assert math.isnan(found[2])
    assert holm([]) == []


# ---------------------------------------------------------------- improvement


def test_improvement_is_the_share_of_pairs_that_win_and_half_of_the_ties():
    ours, theirs = np.array([[0.5, 1], [0.7, 0]]), np.array([[0.5, 0], [0.6, 0], [0.8, 0]])
    wins = (0.5 + 0 + 0 + 1 + 1 + 0) / 6
    ties = (3 + 3 / 2) / 6
    assert improvement(ours, theirs).mean == pytest.approx((wins + ties) / 2)
    there, back = improvement(ours, theirs), improvement(theirs, ours)
    assert back == pytest.approx((1 - there.mean, 1 - there.high, 1 - there.low), abs=2e-4)


@pytest.mark.parametrize(("number", "gap"), [(5, 0.0), (5, 1.5), (5, 4.0), (8, 1.5)])
def test_improvement_covers_the_truth_also_near_its_ends(number, gap):
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(2000):
        ours, theirs = rng.normal(size=(2, number, 1))
        hits.append(covers(improvement(ours + gap, theirs), norm.cdf(gap / math.sqrt(2))))
    assert about(hits, 0.94, 0.99), np.mean(hits)


def test_improvement_of_clean_wins_and_of_too_few_runs():
    won = improvement(np.ones((5, 2)), np.zeros((5, 2)))
    assert won[::2] == (1, 1)
    assert 0.5 < won.low < 0.75
    assert improvement(np.zeros((5, 2)), np.ones((5, 2)))[:2] == (0, 0)
    equal = improvement(np.ones((5, 2)), np.ones((5, 2)))
    assert equal.mean == 0.5
    assert 0 < equal.low < 0.5 < equal.high < 1
    assert improvement(np.ones((1, 2)), np.zeros((5, 2))) == (1, None, None)
    assert improvement(np.ones((0, 2)), np.zeros((5, 2))) == (None, None, None)
    assert math.isnan(improvement(np.full((2, 1), np.nan), np.zeros((5, 1))).mean)


# ---------------------------------------------------------------- bands


def by_seed(scores, first=0):
    return dict(enumerate(scores, first))


def test_equal_methods_share_a_band_about_as_often_as_intervals_cover():
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(6000):
        ours, theirs = pairs(rng)
        hits.append(set(bands({"a": by_seed(ours), "b": by_seed(theirs)}, 0).values()) == {1})
    assert about(hits, 0.95, 0.95), np.mean(hits)


def test_a_method_that_is_better_by_three_sigma_is_found():
    rng = np.random.default_rng(13)
    hits = []
    for _ in range(1000):
        common, noise = rng.normal(size=(RUNS, 1)), rng.normal(size=(RUNS, 1))
        scores = {"worse": by_seed(common + TASKS), "better": by_seed(common + TASKS + 3 + noise)}
        hits.append(list(bands(scores, 0).items()) == [("better", 1), ("worse", 2)])
    assert about(hits, 0.98, 1), np.mean(hits)


def test_a_band_is_of_those_not_told_from_its_best():
    noise = np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0]])
    worth = {"a": 0.0, "b": -0.7, "c": -1.4, "d": -2.1, "e": -5.0}  # b is told neither from a nor from c
    scores = {name: by_seed(value + noise * (-1) ** place) for place, (name, value) in enumerate(worth.items())}
    scores |= {"c": by_seed(-1.4 + 0.1 * noise), "a": by_seed(0.1 * noise)}
    assert bands(scores, 0) == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}


def test_bands_pair_the_seeds_that_both_have_whatever_their_order():
    common = np.random.default_rng(14).normal(size=(8, 1))
    better = {seed: common[seed] + 0.1 for seed in (5, 3, 1, 4, 2)}
    worse = {seed: common[seed] + 0.001 * seed for seed in (1, 2, 3, 4, 5)}
    assert bands({"better": better, "worse": worse}, 0) == {"better": 1, "worse": 2}
    assert bands({"better": better, "worse": {5: worse[5] - 9, 7: worse[1] - 9}}, 0) == {"better": 1, "worse": 1}
    assert bands({"better": better, "worse": {7: worse[5] - 9}}, 0) == {"better": 1, "worse": 1}
    assert bands({}, 0) == {}


def test_bands_depend_on_no_order_and_ties_go_by_name():
    rng = np.random.default_rng(15)
    scores = {name: by_seed(runs(rng) + 4 * (number // 3)) for number, name in enumerate("gfedcba")}
    scores["z"] = scores["y"] = dict(reversed(scores["a"].items()))
    found = bands(scores, 0)
    assert set(found.values()) > {1, 2}
    assert [name for name in found if name in "ayz"] == ["a", "y", "z"]
    for seed in range(10):
        names = list(scores)
        random.Random(seed).shuffle(names)
        shuffled = {name: dict(random.Random(seed).sample(list(scores[name].items()), RUNS)) for name in names}
        assert list(bands(shuffled, 0).items()) == list(found.items())
    more = {name: {seed: np.append(row, 0.3) for seed, row in rows.items()} for name, rows in scores.items()}
    assert list(bands(more, 0).items()) == list(found.items())


def test_statistics_bring_no_training_stack_along():
    heavy = ("torch", "lightning", "transformers", "hydra", "omegaconf", "pandas", "matplotlib")
    code = f"import sys, opd_bench.reporting.statistics; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
