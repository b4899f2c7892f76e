"""Named comparisons: each composes, sets what it says, and names methods and settings that there are."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from opd_bench import method_names
from opd_bench.configs import conf_dir, names


def of_experiment(name):
    """The configuration of one run and the sweep around it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("bench", overrides=[f"experiment={name}", "name=x"], return_hydra_config=True)
    run = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("models", "plan", "evaluation")}
    return config, run, dict(config.hydra.sweeper.params)


@pytest.mark.parametrize("name", names("experiment"))
def test_an_experiment_names_what_there_is(name):
    config, _, sweep = of_experiment(name)
    assert set(sweep["method"].split(",")) <= set(method_names())
    assert set(sweep["setting"].split(",")) <= set(names("setting"))
    assert sweep["seed"] == "range(0,5)"
    assert str(config.hydra.mode) == "RunMode.MULTIRUN"


def test_the_same_model_begins_from_the_teacher():
    config, run, _ = of_experiment("same_model")
    assert config.start == run["models"]["teacher"] == "embedded/teacher"


def test_an_experiment_may_set_whatever_a_run_has():
    fields = set(OmegaConf.load(conf_dir() / "bench.yaml")) - {"defaults", "hydra"}
    assert {"start", "ruleset", "published"} <= fields
    defaults = list(OmegaConf.load(conf_dir() / "bench.yaml").defaults)
    assert defaults.index("_self_") < defaults.index({"experiment": None})
