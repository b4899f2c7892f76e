"""The ruleset `tuned`: each method's learning rate is the best of its trials, which were judged on validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opd_bench.configs import listed
from opd_bench.reporting.figures import over_tasks
from opd_bench.reporting.protocol import TRIALS, VERSION
from opd_bench.reporting.record import Record, RecordError, find_records

SAME = ("task", "tests", "models", "student", "teacher", "prompts", "rollout", "start")
"""Parts of a configuration that a run shares with its trials, beside the method and the plan without its rate."""
FAILED = ("nan", "diverged")
"""What may become of a trial that counts: nothing was solved. Other failures are no trial."""


def with_rate(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as a run takes it: what is left open under `tuned`, the learning rate, is filled in."""
    plan = config["plan"]
    if config["ruleset"] != "tuned" or plan["learning_rate"] is not None:
        return dict(config)
    return {**config, "plan": {**plan, "learning_rate": best_rate(config)}}


def best_rate(config: Mapping[str, Any]) -> float:
    """Argmax over the rates tried of the mean share solved, over seeds and tasks; of equal ones the smallest."""
    name, everyone = config["name"], _trials(config)
    grid = {(_rate(trial), trial["seed"]) for trial in everyone}
    own = {(_rate(t), t["seed"]): t for t in everyone if t["config"]["method"] == config["method"]}
    missing = sorted(place for place in grid if place not in own or _solved(own[place]) is None)
    if missing or not grid:
        places = listed([f"{rate:g} (seed {seed})" for rate, seed in missing])
        raise RecordError(
            f"ruleset=tuned chooses plan.learning_rate by the trials in {config['results']}, and of {name} on "
            f"{config['protocol']} there are none{f' at {places}' if grid else ''}. Make them with experiment=trials "
            f"method={name}, the same setting and the same results, or say plan.learning_rate=NUMBER"
        )
    if used := [seed for _, seed in grid if seed == config["seed"]]:
        raise RecordError(f"seed {used[0]} chose the learning rate: under ruleset=tuned it can't be run, others can")
    rates = sorted({rate for rate, _ in grid})
    return max(rates, key=lambda rate: sum(_solved(own[place]) or 0.0 for place in grid if place[0] == rate))


def _trials(config: Mapping[str, Any]) -> list[Record]:
    """All methods' trials under what this run runs under."""
    folders = sorted(Path(config["results"]).glob(f"*-{config['protocol']}-trials-*"))
    return [trial for trial in find_records(folders)[0] if _is_alike(trial, config)]


def _is_alike(trial: Record, config: Mapping[str, Any]) -> bool:
    protocol, other = trial["protocol"], trial["config"]
    is_trial = (protocol.get("ruleset"), protocol["version"]) == (TRIALS, VERSION)
    plans = [{**one["plan"], "learning_rate": None} for one in (config, other)]
    return is_trial and plans[0] == plans[1] and all(config.get(part) == other.get(part) for part in SAME)


def _rate(trial: Record) -> float:
    return float(trial["config"]["plan"]["learning_rate"])


def _solved(trial: Record) -> float | None:
    """Mean share over tasks; None if the trial came to no end of its own."""
    if trial["status"] in FAILED:
        return 0.0
    return over_tasks(trial, "sampled") if trial["status"] == "finished" else None
