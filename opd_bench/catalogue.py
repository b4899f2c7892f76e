"""Methods by name: conf/method/NAME.yaml says which estimator and which source."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from opd_bench.configs import known, listed, made, names, near
from opd_bench.estimators.base import Estimator
from opd_bench.rollouts.source import Source


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
    from omegaconf import OmegaConf  # here, for whoever makes methods in another way need not have it

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
