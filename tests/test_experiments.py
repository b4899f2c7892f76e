"""Named comparisons: each composes, sets what it says, and names methods and settings that there are."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from opd_bench import method_names
from opd_bench.catalogue import load_method
from opd_bench.configs import conf_dir, names

EMBEDDED = ("compare", "diagnostics", "official", "same_model", "tuned", "veto_beta")
TRIALS = "trials"


def of_experiment(name, *overrides):
    """The configuration of one run and the sweep around it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        chosen = [f"experiment={name}", "name=x", *overrides]
        config = compose("bench", overrides=chosen, return_hydra_config=True)
    run = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("models", "plan", "evaluation")}
    return config, run, dict(config.hydra.sweeper.params or {})


@pytest.mark.parametrize("name", names("experiment"))
def test_an_experiment_names_what_there_is(name):
    config, _, sweep = of_experiment(name)
    assert {method.strip() for method in sweep.get("method", "opd").split(",")} <= set(method_names())
    assert set(sweep.get("setting", "real").split(",")) <= set(names("setting"))
    assert set(config.evaluation.samples_of) <= set(config.tests)


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_runs_on_the_embedded_models_is_a_sweep_of_five_seeds(name):
    config, _, sweep = of_experiment(name)
    assert sweep["seed"] == "range(0,5)"
    assert str(config.hydra.mode) == "RunMode.MULTIRUN"


@pytest.mark.parametrize("name", sorted({*names("experiment")} - {*EMBEDDED, TRIALS}))
def test_all_others_are_one_run_unless_they_are_asked_for_as_a_sweep_and_then_one_after_the_other(name):
    config, _, _ = of_experiment(name)
    assert config.hydra.mode is None
    assert config.hydra.launcher["_target_"].endswith("BasicLauncher")


def test_who_runs_an_experiment_picks_the_machine_and_any_field():
    config, _, _ = of_experiment("vopd_qwen3_1.7b", "trainer=zero2", "plan.steps=3", "task=gsm8k")
    assert (config.trainer.strategy, config.trainer.accelerator, config.trainer.precision) == (
        *("zero2", "gpu", "bf16-mixed"),
    )
    assert config.plan.steps == 3
    assert config.task["_target_"].endswith("GSM8K")
    assert set(config.tests) == {"math500", "minerva", "amc23", "aime24_25"}


FIELDS = [tuple(name.rsplit("-", 1)) for name in names("fields")]


@pytest.mark.parametrize(("name", "method"), FIELDS)
def test_fields_of_one_method_are_set_in_its_experiment_alone_and_may_be_set_again(name, method):
    (kind, fields), *others = OmegaConf.load(conf_dir() / "fields" / f"{name}-{method}.yaml").items()
    assert not others
    shipped = load_method(method)
    for field, value in fields.items():
        config, _, sweep = of_experiment(name, f"method={method}")
        assert method in sweep["method"].split(",")
        assert config.method[kind][field] == value != getattr(shipped, kind).settings()[field]
        assert of_experiment("compare", f"method={method}")[0].method[kind][field] != value
        assert of_experiment(name, f"method={method}", f"method.{kind}.{field}=0.5")[0].method[kind][field] == 0.5


def test_the_same_model_begins_from_the_teacher():
    config, run, _ = of_experiment("same_model")
    assert config.start == run["models"]["teacher"] == "embedded/teacher"


def test_an_experiment_may_set_whatever_a_run_has():
    fields = set(OmegaConf.load(conf_dir() / "bench.yaml")) - {"defaults", "hydra"}
    assert {"start", "ruleset", "published"} <= fields
    defaults = list(OmegaConf.load(conf_dir() / "bench.yaml").defaults)
    assert defaults.index("_self_") < defaults.index({"experiment": None})
