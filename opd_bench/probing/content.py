"""A probe's record, from what was measured of every method."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opd_bench.reporting.gradients import Measured, estimates, ratio
from opd_bench.reporting.protocol import REFERENCE
from opd_bench.training.summary import environment

if TYPE_CHECKING:
    from opd_bench.probing.run import Probe, Row

Part = Mapping[str, Any]


def content(probe: "Probe", parts: Mapping[str, Part], seconds: float) -> dict[str, Any]:
    """Everything but what `write_record` adds."""
    config = probe.config
    return {
        "status": "finished",
        "reason": "",
        "protocol": {
            "name": f"{probe.task.name}-{config['protocol']}",
            "task": probe.task.name,
            "task_version": probe.task.version,
            "setting": config["protocol"],
            "digest": probe.protocol,
        },
        "checkpoint": {"name": probe.name, "digest": probe.student, "progress": probe.progress, "step": probe.step},
        "seed": probe.seed,
        "probe": extent(probe),
        "methods": {row.key: told(row, parts, probe) for row in probe.rows},
        "config": dict(config),
        "environment": environment(config["trainer"]),
        "timing": {"seconds": seconds},
    }


def extent(probe: "Probe") -> dict[str, Any]:
    """How much was drawn, how long a gradient is, and how much of it was kept."""
    tokens = [int(one.response.sum()) for one in probe.bank()]
    return {
        **probe.lab.settings(),
        "prompts": len(probe.subject.prompts.ids),
        "tokens": sum(tokens) / len(tokens),  # of a set
        "parameters": probe.parameters,
        "numbers": probe.sketch.size,
        "sketch_error": probe.sketch.error(probe.parameters),
    }


def told(row: "Row", parts: Mapping[str, Part], probe: "Probe") -> dict[str, Any]:
    """One method: who it is, and its figures with intervals."""
    part, estimator = parts[row.key], row.method.estimator
    about = {
        "status": part["status"],
        "reason": part["reason"],
        "rollouts": "own" if row.own else "common",
        "title": estimator.about.title,
        "warning": estimator.about.warning,
        "settings": estimator.settings(),
    }
    if part["status"] != "measured":
        return about | {"estimates": {}, "exact": {}}
    reference = None if row.own else parts[REFERENCE]
    found = {name: value._asdict() for name, value in figures(part, reference, probe).items()}
    return about | {"estimates": found, "exact": part["exact"], "seconds": part["seconds"]}


def figures(part: Part, reference: Part | None, probe: "Probe") -> dict[str, Measured]:
    """From the inner products; the variance also relative to the reference's on the same rollouts."""
    products = np.asarray(part["products"])
    within = None if part["within"] is None else np.asarray(part["within"])
    found = estimates(products, within, probe.seed)
    if reference is not None and reference["status"] == "measured":
        base = np.asarray(reference["products"])
        found[f"variance_to_{REFERENCE}"] = ratio(products[0, :, 0], base[0, :, 0], probe.seed)
    return found
