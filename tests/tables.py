"""Leaderboards made by hand: records with their series, written and found as runs' records are."""

from pathlib import Path

import numpy as np

from opd_bench.reporting.files import SERIES, digests, packed_series
from opd_bench.reporting.leaderboard import Table, tables
from opd_bench.reporting.record import find_records, write_record

PROTOCOL = {"name": "mini_gsm-standard", "version": "1.0", "digest": "abc123", "family": "fam1", "tuned": {}}


def series(accuracy=0.8, norm=2.0, steps=40, seed=0):
    """Of a run that learns: a third of the steps noise, and validation every ten steps."""
    noise, at = np.random.default_rng([seed, int(1e4 * accuracy)]), np.arange(1, steps + 1)
    solved = 0.2 + (accuracy - 0.2) * (1 - np.exp(-4 * at / steps))
    return {
        "train/accuracy": np.clip(solved + noise.normal(0, 0.05, steps), 0, 1).round(4).tolist(),
        "eval/sampled": [float(value) if step % 10 == 0 else None for step, value in zip(at, solved, strict=True)],
        "grad/norm": (norm * np.exp(noise.normal(0, 0.3, steps))).tolist(),
    }


def run(method="opd", seed=0, accuracy=0.8, **changes):
    """What a run hands over: a record's content, with its series under a name of their own."""
    rate, steps = changes.pop("rate", 1e-3), changes.pop("steps", 40)
    gradient = {"relative_variance": changes.pop("variance", 3.0), "bias_reverse_kl": changes.pop("bias", 0.2)}
    norm, seconds, tokens = changes.pop("norm", 2.0), changes.pop("seconds", 30.0), changes.pop("tokens", 46_000.0)
    judged = {when: {"mini_gsm": {"sampled": value}} for when, value in (("before", 0.2), ("after", accuracy))}
    return {
        "status": "finished",
        "reason": "",
        "protocol": PROTOCOL | changes.pop("protocol", {}),
        "method": {
            "name": method,
            "warning": changes.pop("warning", ""),
            "settings": {},
            "source": {"name": "Student"},
        },
        "seed": seed,
        "start": "embedded/standard-0",
        "models": {},
        "tasks": {"mini_gsm": {"temperature": 1.0}},
        "budget": {"student_tokens": tokens, "teacher_tokens": 0.0},
        "training": {"gradient_norm": {"median": norm}, "gradient": gradient},
        "evaluation": judged | {"teacher": {"mini_gsm": {"sampled": 0.99}}},
        "config": {"plan": {"learning_rate": rate}},
        "environment": {},
        "timing": {"seconds": {"total": seconds}},
        "anchors": {},
        "supersedes": None,
        "series": series(accuracy, norm, steps, seed),
    } | changes


def nth(method, accuracy, seed, seeds=5):
    """Accuracy of one seed: around the method's, and not in step with other methods."""
    return accuracy + 0.01 * ((seed + sum(map(ord, method))) % seeds - (seeds - 1) / 2)


def many(method="opd", accuracy=0.8, seeds=5, **changes):
    """Several seeds of one method, as good as said in the mean."""
    return [run(method, seed, nth(method, accuracy, seed, seeds), **changes) for seed in range(seeds)]


def written(folder: Path, *runs) -> list[Table]:
    """Each in a folder of its own, and the tables of all."""
    for number, one in enumerate(runs):
        own = folder / f"{number:05d}"
        own.mkdir(parents=True)
        content = dict(one)
        columns = content.pop("series")
        files = {SERIES: packed_series(columns)} if columns is not None else {}
        for name, data in files.items():
            (own / name).write_bytes(data)
        write_record(own, {**content, "files": digests(files)})
    found, complaints = find_records([folder])
    assert not complaints
    return tables(found)


def crowd(methods, seeds=2, steps=40):
    """Many methods as they may well come out: some unbiased, some without variance, one known to be wrong."""
    random, found = np.random.default_rng(0), []
    for name in methods:
        wrong = name.startswith(("k1_", "k3_", "state_only"))
        variance = 0.0 if random.random() < 0.2 else float(10 ** random.uniform(-1.5, 1.5))
        bias = 0.0 if random.random() < 0.3 else float(random.uniform(0, 1.2))
        place = {"variance": variance, "bias": bias, "norm": float(10 ** random.uniform(-1.5, 1))}
        place |= {"seconds": float(random.uniform(20, 60)), "tokens": float(random.choice([46e3, 46e3, 58e3, 92e3]))}
        accuracy = float(random.uniform(0.05, 0.4) if wrong else random.uniform(0.3, 0.95))
        found += many(name, accuracy, seeds, steps=steps, warning="known" if wrong else "", **place)
    return found
