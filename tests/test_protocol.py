"""PROTOCOL.md and the code name the same numbers, and what is compared is what it says."""

import re
from pathlib import Path

import pytest

from opd_bench.reporting.protocol import RANKED, REFERENCE, VERSION
from opd_bench.reporting.record import STATUSES
from tests.runs import small_run

TEXT = (Path(__file__).parents[1] / "PROTOCOL.md").read_text()


def test_the_page_and_the_code_name_the_same_numbers():
    assert TEXT.startswith(f"# Protocol {VERSION}\n")
    assert f"needs **{RANKED}** finished seeds" in TEXT
    assert f"Differences are to `{REFERENCE}`" in TEXT
    assert set(re.findall(r"^\| `([a-z ]+)` \|", TEXT, re.MULTILINE)) == {*STATUSES} - {"finished"}


@pytest.mark.parametrize(
    ("changed", "is_the_same", "is_of_the_family"),
    [
        ("method.estimator.k=8", True, True),
        ("seed=3", True, True),
        ("start=embedded/teacher", True, True),
        ("watch.checkpoint_every=1", True, True),
        ("results=elsewhere", True, True),
        ("plan.learning_rate=0.5", False, True),
        ("plan.steps=7", False, False),
        ("models.teacher_scale=2.0", False, False),
        ("evaluation.problems=5", False, False),
        ("task.largest=50", False, False),
        ("ruleset=tuned", False, False),
        ("rollout.look_every=3", True, True),
        ("rollout=transformers", False, False),
    ],
)
def test_what_must_be_shared_to_be_compared(tmp_path, changed, is_the_same, is_of_the_family):
    one, other = small_run(tmp_path, "tropd").protocol, small_run(tmp_path, "tropd", changed).protocol
    assert (one["digest"] == other["digest"]) is is_the_same
    assert (one["family"] == other["family"]) is is_of_the_family
    assert (one["version"], one["weights"]) == (VERSION, other["weights"])


def test_a_tuned_learning_rate_is_a_setting_of_the_method(tmp_path):
    one, other = (small_run(tmp_path, "opd", "ruleset=tuned", f"plan.learning_rate={rate}") for rate in (0.1, 0.2))
    assert one.protocol["digest"] == other.protocol["digest"]
    assert one.protocol["tuned"] == {"learning_rate": 0.1}
    assert one.folder.parents[1] == other.folder.parents[1]
    assert one.folder != other.folder


def test_runs_that_differ_are_kept_apart_and_unknown_rulesets_refused(tmp_path):
    folders = [
        small_run(tmp_path, "opd", *changed).folder
        for changed in ((), ("seed=2",), ("start=embedded/teacher",), ("method=vopd",), ("plan.learning_rate=0.5",))
    ]
    assert len(set(folders)) == 5
    with pytest.raises(ValueError, match="ruleset must be one of fixed, tuned, trials, got 'free'"):
        small_run(tmp_path, "opd", "ruleset=free")
