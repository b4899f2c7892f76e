"""What two runs must share to be compared, and the numbers that PROTOCOL.md names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from opd_bench.reporting.record import short_digest

VERSION = "2.0"
"""Major.Minor of PROTOCOL.md. Records of different versions are never ranked together."""
RANKED = 5
"""Finished seeds that a row needs to be ranked."""
REFERENCE = "opd"
"""The METHOD that differences are taken to."""
COMPARED = ("task", "tests", "models", "student", "teacher", "prompts", "evaluation")
"""Parts of a configuration that are the same for all methods, beside plan and precision; older records have fewer."""
TRIALS = "trials"
RESULTS_OF = ("fixed", "tuned")
RULESETS = (*RESULTS_OF, TRIALS)
"""One learning rate for all methods; one for each, which then counts among its settings; and where that is chosen."""


def split_of(ruleset: str) -> Literal["validation", "test"]:
    """What students are judged on at the end: trials choose, and must not see the test."""
    return "validation" if ruleset == TRIALS else "test"


def protocol_of(config: Mapping[str, Any], task: str, task_version: str, weights: Sequence[str]) -> dict[str, Any]:
    """By name and digest; `family` is the digest with the learning rate left out."""
    if config["ruleset"] not in RULESETS:
        raise ValueError(f"ruleset must be one of {', '.join(RULESETS)}, got {config['ruleset']!r}")
    is_setting, plan = config["ruleset"] != "fixed", dict(config["plan"])
    rate = {"learning_rate": plan.pop("learning_rate")}
    same = [VERSION, config["ruleset"], task_version, *weights]
    same += [{key: config[key] for key in COMPARED if key in config}, plan, config["trainer"]["precision"]]
    same += [config["rollout"]["_target_"]] if "rollout" in config else []  # what draws, which may draw other numbers
    family = short_digest(same)
    return {
        "name": f"{task}-{config['protocol']}" + (f"-{config['ruleset']}" if is_setting else ""),
        "version": VERSION,
        "digest": family if is_setting else short_digest([*same, rate]),
        "family": family,
        "ruleset": config["ruleset"],
        "tuned": rate if is_setting else {},
        "task": task,
        "task_version": task_version,
        "setting": config["protocol"],
        "weights": list(weights),
    }


def folder_of(protocol: Mapping[str, Any], config: Mapping[str, Any]) -> Path:
    """Where a run is kept: by protocol, by method with all of its settings, by seed."""
    more = [config["start"]] if config["start"] else []
    own = [config["method"], *more, *protocol["tuned"].values()]
    method = f"{config['name']}-{short_digest(own if len(own) > 1 else config['method'])}"
    return Path(f"{protocol['name']}-{protocol['digest']}") / method / f"seed-{config['seed']}"
