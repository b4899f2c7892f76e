"""Methods by name: conf/method/NAME.yaml says which estimator and which source."""

from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import get_class
from omegaconf import OmegaConf

from opd_bench.estimators.base import Estimator
from opd_bench.settings import Settings


class Method(NamedTuple):
    """What to learn from each token, and who writes the tokens."""

    estimator: Estimator
    source: Any


def conf_dir() -> Path:
    """The configuration folder: inside an installed package, or beside it in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def method_names() -> list[str]:
    """Every METHOD that has a YAML."""
    return sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))


def load_method(name: str, **overrides: Any) -> Method:
    """The estimator and the source of METHOD `name`, or of a YAML file of yours, with some fields changed.

    A field goes to whichever of the two has it: `load_method("tropd", k=8, extra=0.0)`.
    """
    config = OmegaConf.to_container(OmegaConf.load(_path(name)))
    if not isinstance(config, dict) or set(config) != {"estimator", "source"}:
        raise ValueError(f"{_path(name)} must have exactly the keys estimator and source")
    unclaimed = dict(overrides)
    parts = []
    for part in ("estimator", "source"):
        settings = dict(config[part])
        target = get_class(settings.pop("_target_"))
        known = _names(target)
        parts.append(_made(target, settings | {key: unclaimed.pop(key) for key in overrides if key in known}))
    if unclaimed:
        known = [field for part in parts for field in part.settings()]
        field = next(iter(unclaimed))
        raise ValueError(f"method {name} has no field {field!r}{_near(field, known)}; it has {_listed(known)}")
    estimator, source = parts
    if not isinstance(estimator, Estimator):
        raise TypeError(f"{_path(name)} names {type(estimator).__name__} as its estimator, which is not an Estimator")
    return Method(estimator, source)


def _path(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    if name not in (names := method_names()):
        raise ValueError(f"no method {name!r}{_near(name, names)}; there are {_listed(names)}")
    return conf_dir() / "method" / f"{name}.yaml"


def _made(target: type[Settings], settings: dict[str, Any]) -> Settings:
    known = _names(target)
    if wrong := sorted(set(settings) ^ set(known)):
        problem = "has no field" if wrong[0] in settings else "needs a value for field"
        raise ValueError(f"{target.__name__} {problem} {wrong[0]!r}; its YAML must list {_listed(known)}")
    return target(**settings)


def _names(target: type[Settings]) -> list[str]:
    return [field.name for field in fields(target)]


def _near(word: str, words: list[str]) -> str:
    matches = get_close_matches(word, words, n=3, cutoff=0.5)
    return f", did you mean {' or '.join(matches)}?" if matches else ""


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "none"
