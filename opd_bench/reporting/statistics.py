"""What is said of accuracies: aggregates with 95 % intervals, paired differences, p-values, bands.

Scores are [runs, tasks]. A run is one seed, judged on every task, so runs are resampled whole and tasks are not. The
interval is  value ± t(n − 1, 97.5 %) · √(n/(n − 1)) · SD,  SD being the standard deviation over resamples of n runs;
of a mean this is Student's interval, and of anything else its like.

COVERAGE
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import fsum, isnan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]
from scipy.stats import permutation_test, trim_mean  # type: ignore[import-untyped]

from opd_bench.reporting.figures import RESAMPLES, Estimate
from opd_bench.reporting.resampling import Array, in_order, resamples

TWO_SIDED = 0.975
NORMAL = 1.96
POSSIBLE = np.linspace(0, 1, 10_001)
"""Probabilities that an interval of one is searched in."""


def avg_at_k(solved: NDArray[np.int64], k: int) -> Array:
    """c/k per problem, c = `solved` being how many of its k samples are right."""
    _counts(solved, k, "k")
    return np.asarray(solved) / k


def pass_at_k(solved: NDArray[np.int64], n: int, k: int) -> Array:
    """1 − C(n − c, k)/C(n, k) per problem, unbiased for "one of k samples is right", c of n being right.

    As 1 − Π_{i<k} (n − c − i)/(n − i), which neither overflows nor cancels.
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
    return np.asarray(trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


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
    over these very starts. A task without a value in any run is left out.
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
    variance = max(float(drawn.probability @ off**2 - (drawn.probability @ off) ** 2), 0)
    reach = float(stdtrit(freedom, TWO_SIDED)) * sqrt(variance * len(scores) / freedom)
    return Estimate(value, value - reach, value + reach)


def paired(ours: Array, theirs: Array, seed: int, strata: Sequence[Hashable] | None = None) -> Estimate:
    """Mean of ours − theirs and its interval; row i of both ran with the same seed."""
    return interval(ours - theirs, seed, strata=strata)


def sign_flip(differences: Array, seed: int) -> float:
    """Two-sided p of a mean difference: how often it is as far from 0 with every sign by chance.

    p ≥ 2^(1 − n): with five seeds nothing is under 0.0625. Up to 13 seeds all signs are tried; above, 10,000 are
    drawn. NaN without differences.
    """
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
    and  N = (n + m)/2.  It needs no resamples, and no seed: the bootstrap's interval is one point when all of ours are
    above all of theirs. Tasks are taken for one, so with several it is on the wide side.
    """
    if not len(ours) or not len(theirs):
        return Estimate(None)
    value = float(np.mean(1 + np.sign(ours[:, None] - theirs)) / 2)
    if min(len(ours), len(theirs)) < 2 or isnan(value):
        return Estimate(value)
    within = (value - POSSIBLE) ** 2 <= NORMAL**2 * _spread(len(ours), len(theirs))
    low, high = POSSIBLE[within][[0, -1]]
    return Estimate(value, float(low), float(high))


def bands(scores: Mapping[str, Mapping[int, Array]], seed: int) -> dict[str, int]:
    """Bands of methods, each with its scores [tasks] by seed, in the order of their means and then names; the best
    opens band 1.

    A method opens the next band when its paired interval to the best of the band lies below 0, on the seeds that both
    have. Fewer than two can't tell them apart.
    """
    found: dict[str, int] = {}
    best = ""
    for name in sorted(scores, key=lambda name: (-_mean(scores[name]), name)):
        opens = not found or _worse(scores[name], scores[best], seed)
        found[name] = max(found.values(), default=0) + opens
        best = name if opens else best
    return found


def _worse(ours: Mapping[int, Array], theirs: Mapping[int, Array], seed: int) -> bool:
    common = sorted(ours.keys() & theirs.keys())
    if len(common) < 2:
        return False
    one, other = (np.array([runs[number] for number in common]) for runs in (ours, theirs))
    found = paired(one, other, seed)
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
