"""Methods by name: conf/method/NAME.yaml says which estimator and which source."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from hydra.utils import get_class
from omegaconf import OmegaConf

from opd_bench.configs import conf_dir, known, listed, names, near
from opd_bench.estimators.base import Estimator
from opd_bench.rollouts.source import Source
from opd_bench.settings import Settings

__all__ = ["Method", "conf_dir", "load_method", "made", "made_method", "method_names"]


class Method(NamedTuple):
    """What to learn from each token, and who writes the tokens."""

    estimator: Estimator
    source: Source


def method_names() -> list[str]:
    """Every METHOD that has a YAML."""
    return names("method")


def load_method(name: str, **overrides: Any) -> Method:
    """The estimator and the source of METHOD `name`, or of a YAML file of yours, with some fields changed.

    A field goes to whichever of the two has it: `load_method("tropd", k=8, extra=0.0)`.
    """
    path = name if name.endswith((".yaml", ".yml")) else known("method", name)
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    if not isinstance(config, dict) or set(config) != {"estimator", "source"}:
        raise ValueError(f"{path} must have exactly the keys estimator and source")
    unclaimed = dict(overrides)
    for part in config.values():
        part |= {field: unclaimed.pop(field) for field in overrides if field in part and field != "_target_"}
    if unclaimed:
        fields_known = [field for part in config.values() for field in part if field != "_target_"]
        field = next(iter(unclaimed))
        raise ValueError(
            f"method {name} has no field {field!r}{near(field, fields_known)}; it has {listed(fields_known)}"
        )
    return made_method(config)


def made_method(config: Mapping[str, Any]) -> Method:
    """From the configuration's two parts."""
    estimator, source = made(config["estimator"]), made(config["source"])
    if not isinstance(estimator, Estimator):
        raise TypeError(f"{type(estimator).__name__} is named as an estimator and is not an Estimator")
    if not isinstance(source, Source):
        raise TypeError(f"{type(source).__name__} is named as a source and is not a Source")
    return Method(estimator, source)


def made(config: Mapping[str, Any]) -> Any:
    """Whatever `_target_` names, with the fields beside it: all of its fields, and no others."""
    settings = dict(config)
    target: type[Settings] = get_class(settings.pop("_target_"))
    expected = [field.name for field in fields(target)]
    if wrong := sorted(set(settings) ^ set(expected)):
        problem = "has no field" if wrong[0] in settings else "needs a value for field"
        suggestion = near(wrong[0], expected) if wrong[0] in settings else ""
        raise ValueError(f"{target.__name__} {problem} {wrong[0]!r}{suggestion}; its YAML must list {listed(expected)}")
    return target(**settings)
