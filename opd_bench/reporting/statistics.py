"""What is said of accuracies: aggregates with 95 % intervals, paired differences, p-values, bands.

Scores are [runs, tasks]. A run is one seed, judged on every task, so runs are resampled whole and tasks are not. The
interval is  value ± t(n − 1, 97.5 %) · √(n/(n − 1)) · SD,  SD being the standard deviation over resamples of n runs;
of a mean this is Student's interval, and of anything else its like.

Measured coverage in %, of means on the left and of IQMs on the right (three tasks where not said otherwise; 4,000
repeats at 3 and 5 runs, 1,500 at 8, 2,400 and 800 at 20):

    runs                            3     5     8    20         3     5     8    20
    normal                       94.6  95.5  93.7  95.1      95.4  94.5  94.7  95.1
    one task                     95.0  95.3  95.7  95.1      94.6  97.0  96.6  93.8
    accuracies near 95 %         94.1  93.8  94.9  93.9      94.2  94.3  95.1  93.9
    paired accuracies            94.8  94.5  94.2  94.8      95.5  95.1  95.4  95.6
    heavy tails (t₃)             96.0  96.4  96.7  95.5      96.1  96.3  96.1  95.8
    skewed (log-normal, σ = ½)   92.2  91.8  90.9  92.8      91.3  91.5  89.8  92.2
    very skewed (exponential)    89.9  90.0  89.4  91.6      89.3  88.5  90.5  94.2
    two starts, 2σ apart         98.5  98.8  99.4  99.4      98.4  99.1  99.1  99.1
    the same, as strata          95.3  94.7  95.5  95.4      95.5  95.5  94.5  95.5

Their standard errors are 0.3 to 0.8. For means of five runs in the normal world the percentile interval covers 84 %
and BCa 84 %. What stays between the smallest and the largest run covers at most 1 − 2^(1 − n) of symmetric runs, 94 %
of five; Hesterberg's expanded percentile covers 92 %. The symmetric bootstrap-t covers 98 %, and 95 % of skewed runs,
but it is 40 % wider at the median, three times as wide at the 95th percentile, and infinite at three runs.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import fsum, isnan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from opd_bench.reporting.resampling import RESAMPLES, Array, in_order, resamples

TWO_SIDED = 0.975
NORMAL = 1.96
POSSIBLE = np.linspace(0, 1, 10_001)
"""Probabilities that an interval of one is searched in."""


class Estimate(NamedTuple):
    """A value and its 95 % interval, which one run does not have."""

    mean: float | None
    low: float | None = None
    high: float | None = None


def avg_at_k(solved: NDArray[np.int64], k: int) -> Array:
    """c/k per problem, c = `solved` being how many of its k samples are right."""
    _counts(solved, k, "k")
    return np.asarray(solved) / k


def pass_at_k(solved: NDArray[np.int64], n: int, k: int) -> Array:
    """1 − C(n − c, k)/C(n, k) per problem, unbiased for "one of k samples is right", c of n being right.

    As 1 − Π_{i<k} max(n − c − i, 0)/(n − i), of which every factor is between 0 and 1.
    """
    _counts(solved, n, "n")
    if not 1 <= k <= n:
        raise ValueError(f"k must be at least 1 and at most n = {n}: {k}")
    steps = np.arange(k)
    wrong = n - np.asarray(solved)[:, None]
    return np.asarray(1 - np.prod(np.maximum(wrong - steps, 0) / (n - steps), axis=-1))


def clustered_error(per_problem: Array) -> float:
    """Standard error of the mean over P problems, √(Σ (xᵢ − x̄)² / (P (P − 1))); NaN of fewer than two.

    xᵢ is the mean of all samples of problem i. They share its difficulty, so they are one draw and not k.
    """
    number = len(per_problem)
    return float(np.std(per_problem, ddof=1) / sqrt(number)) if number > 1 else float("nan")


def mean(scores: Array) -> Array:
    """Over the last two axes, runs and tasks."""
    return np.asarray(scores.mean((-2, -1)))


def iqm(scores: Array) -> Array:
    """The interquartile mean over the last two axes: of all m = runs × tasks values, without ⌊m/4⌋ at either end.

    Nothing is weighted by fractions, so of five single values the middle three are left, 60 % and not 50 %.
    """
    values = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut, last = values.shape[-1] // 4, values.shape[-1] - values.shape[-1] // 4
    kept = values[..., cut:last]
    return np.asarray(np.where(np.isnan(values).any(-1), np.nan, kept.mean(-1)))


def normalised(scores: Array, low: Array, high: Array) -> Array:
    """(scores − low)/(high − low) per task: 0 is the untrained student, 1 the teacher. NaN where high ≤ low."""
    span = np.subtract(high, low)
    return np.asarray((scores - low) / np.where(span > 0, span, np.nan))


def interval(
    scores: Array,
    seed: int,
    aggregate: Callable[[Array], Array] = mean,
    strata: Sequence[Hashable] | None = None,
) -> Estimate:
    """The aggregate of the runs and its 95 % interval; none where the runs are no more than the strata, or not finite.

    Strata: a label per run, such as the student that it started from. A resample has as many runs of each as the
    sample, and of H strata n − 1 becomes n − H, as with one variance in common. What is estimated is then the mean
    over these very starts. At 3 + 2 runs this covers 93 to 96 %, 92 % where one start has twice the noise of the other;
    it is 10 % wider where starts are alike, and 35 % narrower where they are 2σ apart. A task that no run has a value
    for is left out.
    """
    scores = scores[:, ~np.isnan(scores).all(0)]
    if not scores.size:
        return Estimate(None)
    scores, sizes = in_order(scores, strata)
    value, freedom = float(aggregate(scores)), len(scores) - len(sizes)
    if freedom < 1 or not np.isfinite(scores).all():
        return Estimate(value)
    drawn = resamples(sizes, seed)
    off = aggregate(scores[drawn.picks]) - value
    middle, square = (float((drawn.probability * power).sum()) for power in (off, off**2))
    reach = student(freedom) * sqrt(max(square - middle**2, 0) * len(scores) / freedom)
    return Estimate(value, value - reach, value + reach)


def student(freedom: int) -> float:
    """Student's 97.5 % point, to twelve places: the last ones depend on the machine."""
    return round(float(stdtrit(freedom, TWO_SIDED)), 12)


def paired(ours: Array, theirs: Array, seed: int, strata: Sequence[Hashable] | None = None) -> Estimate:
    """Mean of ours − theirs and its interval; row i of both ran with the same seed."""
    return interval(ours - theirs, seed, strata=strata)


def sign_flip(differences: Array, seed: int) -> float:
    """Two-sided p of a mean difference: how often it is as far from 0 with every sign by chance.

    p ≥ 2^(1 − n): with five seeds nothing is under 0.0625. Up to 13 seeds all signs are tried; above, 10,000 are
    drawn. NaN without differences.
    """
    from scipy.stats import permutation_test  # half a second, which --help and a table of one method must not wait for

    values = np.sort(differences)
    if not len(values) or np.isnan(values).any():
        return float("nan")
    if len(values) == 1:
        return 1.0
    generator = np.random.default_rng(seed)
    options = {"permutation_type": "samples", "vectorized": True, "n_resamples": RESAMPLES}
    return float(permutation_test((values,), np.mean, **options, random_state=generator).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values, max_{j ≤ i} min(1, (m − j + 1) p₍ⱼ₎); NaN and None stay and are not among the m."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None and not isnan(p))
    adjusted, largest = list(ps), 0.0
    for rank, (p, place) in enumerate(known):
        adjusted[place] = largest = max(largest, min(1.0, (len(known) - rank) * p))
    return adjusted


def improvement(ours: Array, theirs: Array) -> Estimate:
    """P(ours > theirs) + ½ P(=) over all pairs of runs, mean over tasks, and Newcombe's interval (2006, method 5).

    θ is in it when (estimate − θ)² ≤ 1.96² V(θ), with  V(θ) = θ(1 − θ) [1 + (N − 1)((1 − θ)/(2 − θ) + θ/(1 + θ))]/(nm)
    and  N = (n + m)/2.  It needs no resamples, and no seed. The bootstrap's interval is one point where all of ours are
    above all of theirs, and so covers 42 % when runs are 2.5σ apart, five of each. This one covers 94 to 97 % of one
    task with independent runs; it knows neither of several tasks nor of pairs, and then covers 97 to 100 %.
    """
    if not len(ours) or not len(theirs):
        return Estimate(None)
    value = float(np.mean(1 + np.sign(ours[:, None] - theirs)) / 2)
    if min(len(ours), len(theirs)) < 2 or isnan(value):
        return Estimate(value)
    within = (value - POSSIBLE) ** 2 <= NORMAL**2 * _spread(len(ours), len(theirs))
    low, high = POSSIBLE[within][[0, -1]]
    return Estimate(value, float(low), float(high))


def bands(
    scores: Mapping[str, Mapping[int, Array]], seed: int, strata: Mapping[int, Hashable] | None = None
) -> dict[str, int]:
    """Methods that can't be told apart share a band; in the order of their means, then names. The best has band 1.

    Every method has the scores [tasks] of at least one run, by seed; strata are by seed too. It opens the next band
    when its paired interval to the best of the band lies below 0, on the seeds that both have; fewer than two can't
    tell them apart. Nothing corrects for the best being the luckiest: of two equal methods with five seeds 5 % come
    below band 1, of ten 20 %, and of thirty 40 %. A band is a reading aid and no test.
    """
    found: dict[str, int] = {}
    best = ""
    for name in sorted(scores, key=lambda name: (-_mean(scores[name]), name)):
        opens = not found or _worse(scores[name], scores[best], seed, strata)
        found[name] = max(found.values(), default=0) + opens
        best = name if opens else best
    return found


def _worse(
    ours: Mapping[int, Array], theirs: Mapping[int, Array], seed: int, strata: Mapping[int, Hashable] | None
) -> bool:
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return False
    one, other = (np.array([runs[number] for number in common]) for runs in (ours, theirs))
    found = paired(one, other, seed, None if strata is None else [strata[number] for number in common])
    return found.high is not None and found.high < 0


def _mean(runs: Mapping[int, Array]) -> float:
    """Rounded once, so that the order of the runs doesn't matter even to the last bit."""
    values = np.concatenate([np.ravel(run) for run in runs.values()]).tolist()
    return fsum(values) / len(values)


def _spread(n: int, m: int) -> Array:
    """V(θ) of `improvement` at every possible θ."""
    pairs = (1 - POSSIBLE) / (2 - POSSIBLE) + POSSIBLE / (1 + POSSIBLE)
    return POSSIBLE * (1 - POSSIBLE) * (1 + ((n + m) / 2 - 1) * pairs) / (n * m)


def _counts(solved: NDArray[np.int64], samples: int, name: str) -> None:
    if samples < 1:
        raise ValueError(f"{name} must be at least 1: {samples}")
    for count in np.ravel(solved).tolist():
        if not 0 <= count <= samples:
            raise ValueError(f"solved must be at least 0 and at most {name} = {samples}: {count}")
