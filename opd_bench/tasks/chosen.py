"""The tasks of a run: what it trains on, and what it is judged on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from opd_bench.configs import made
from opd_bench.tasks.base import Task


class Tasks(NamedTuple):
    """Tests by name; without any, the training task's own test split is the test."""

    train: Task
    tests: Mapping[str, Task]
    version: str
    """Of all problems and verdicts."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Tasks":
        """As a configuration has them; older ones have no tests."""
        train = _made("task", config["task"])
        others = {name: _made(f"tests.{name}", test) for name, test in config.get("tests", {}).items()}
        versions = [train.version, *(f"{name} {test.version}" for name, test in others.items())]
        return cls(train, others or {train.name: train}, ", ".join(versions))


def targets(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parts of a configuration that tasks are made of."""
    return [config["task"], *config.get("tests", {}).values()]


def _made(place: str, config: Mapping[str, Any]) -> Task:
    task = made(config)
    if not isinstance(task, Task):
        raise TypeError(f"{place}: {config['_target_']} is no task")
    return task
