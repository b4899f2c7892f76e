"""Where the configuration is and what it offers, by name."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """The configuration folder: inside an installed package, or beside it in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "conf"


def names(group: str) -> list[str]:
    """Every choice of a group: one per YAML."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def groups() -> list[str]:
    """What there is to choose."""
    return sorted(path.name for path in conf_dir().iterdir() if path.is_dir())


def near(word: str, words: list[str]) -> str:
    """ ", did you mean …?", or nothing."""
    matches = get_close_matches(word, words, n=3, cutoff=0.5)
    return f", did you mean {' or '.join(matches)}?" if matches else ""


def listed(words: list[str]) -> str:
    """With commas."""
    return ", ".join(words) or "none"


def known(group: str, name: str) -> Path:
    """The YAML of a choice, or an error that suggests others."""
    if name not in (choices := names(group)):
        raise ValueError(f"no {group} {name!r}{near(name, choices)}; there are {listed(choices)}")
    return conf_dir() / group / f"{name}.yaml"


def check_choices(arguments: list[str]) -> None:
    """Refuse GROUP=NAME where there is no such name, before anything else happens."""
    for argument in arguments:
        group, equals, choices = argument.partition("=")
        if equals and group in groups() and choices != "null":
            for choice in choices.split(","):
                known(group, choice)


def made(config: Mapping[str, Any]) -> Any:
    """Whatever `_target_` names, with the fields beside it: all of its fields, and no others."""
    settings = dict(config)
    module, _, name = str(settings.pop("_target_")).rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_ must name a class, got {config['_target_']!r}: {error}") from error
    expected = [field.name for field in fields(target)]
    if wrong := sorted(set(settings) ^ set(expected)):
        problem = "has no field" if wrong[0] in settings else "needs a value for field"
        suggestion = near(wrong[0], expected) if wrong[0] in settings else ""
        raise ValueError(f"{name} {problem} {wrong[0]!r}{suggestion}; its YAML must list {listed(expected)}")
    return target(**settings)
