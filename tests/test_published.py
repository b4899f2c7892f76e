"""What papers print, beside what was measured here, and never in one ranking."""

import argparse
import csv
import hashlib
import io
import math
import subprocess
import sys

import pytest
import yaml
from rich.console import Console

from opd_bench.catalogue import load_method
from opd_bench.configs import conf_dir, names
from opd_bench.reporting.published import (
    FIELDS,
    Comparison,
    Stated,
    add_arguments,
    beside,
    beside_markdown,
    beside_terminal,
    chosen,
    compared,
    counterparts,
    differences,
    groups,
    here,
    markdown,
    metrics,
    numbers,
    reference_of,
    setup,
    show,
    terminal,
)
from opd_bench.reporting.published.files import EVERY, FOLDER, lines
from opd_bench.reporting.published.results import COLUMNS, parsed
from opd_bench.reporting.published.tables import NEVER
from tests.runs import composed, configured

SMALL = {"paper": "vOPD", "table": "main math", "setting": "Qwen3-1.7B->Qwen3-1.7B-Base"}
SCIENCE = {"paper": "vOPD", "table": "science", "setting": "SciKnowEval-chemistry"}
REPEATED = {"paper": "OPD+", "table": "third-party repro", "setting": "Qwen3-4B-Instruct-2507->Qwen3-0.6B-Base GSM8K"}
MODELS = ("(student before)", "(teacher)")
HEAD = ",".join(COLUMNS)


def place(group):
    return {"paper": group.paper, "table": group.table, "setting": group.setting}


def group_of(reference):
    (found,) = groups(chosen(numbers(), **reference))
    return found


def record_of(tmp_path, *overrides):
    """As much of a run's record as is read, with the configuration of a real one."""
    config = configured(tmp_path, "vopd", *overrides)
    models = {"student": {"name": "embedded/standard-0"}, "teacher": {"name": "embedded/teacher"}}
    return {"config": config, "models": models, "budget": {"steps": config["plan"]["steps"]}}


def printed(*tables, width=200):
    console = Console(width=width, file=io.StringIO())
    console.print(*tables)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def nothing(method, metric):
    return None


# ---------------------------------------------------------------- the numbers


def test_the_file_is_as_it_was_collected():
    digest = hashlib.sha256((FOLDER / "results.csv").read_bytes()).hexdigest()
    assert digest == "5ca5e8dec430f71a84c44ae136dcca2d4b9b29184eb4131ecdad0f22da18c1d3"


def test_every_number_is_read_and_found_again_in_its_table():
    found = numbers()
    assert len(found) == 541
    assert {paper: sum(one.paper == paper for one in found) for paper in ("vOPD", "Veto", "TrOPD", "OPD+")} == {
        "vOPD": 271,
        "Veto": 24,
        "TrOPD": 184,
        "OPD+": 62,
    }
    shown = {
        (g.paper, g.table, g.setting, method, metric, value)
        for g in groups()
        for method, row in zip(g.methods, g.values, strict=True)
        for metric, value in zip(g.metrics, row, strict=True)
        if value is not None
    }
    assert shown == {tuple(one)[:-1] for one in found}


def test_numbers_survive_being_written_again():
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(numbers())
    assert parsed(text.getvalue(), "again") == numbers()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("p,t,s,m,x,lots,paper", "f.csv, line 3: value 'lots' is not a number"),
        ("p,t,s,m,x,nan,paper", "f.csv, line 3: value 'nan' is not a number"),
        ("p,t,s,m,x,1e999,paper", "f.csv, line 3: value '1e999' is not a number"),
        ("p,t,s,m,x,1_0,paper", "f.csv, line 3: value '1_0' is not a number"),
        ("p,t,s,m,x,1", "f.csv, line 3: 6 cells, not 7"),
        ("", "f.csv, line 3: 0 cells, not 7"),
        ("p,,s,m,,1,paper", "f.csv, line 3: no table, metric"),
        ("a,b,c,d,e,2,paper", "f.csv, line 3: the same paper, table, setting, method and metric as line 2"),
    ],
)
def test_a_damaged_line_is_named(line, complaint):
    with pytest.raises(ValueError, match=r"^f\.csv") as error:
        parsed(f"{HEAD}\na,b,c,d,e,1,paper\n{line}\nq,t,s,m,x,1,paper\n", "f.csv")
    assert str(error.value) == complaint


def test_all_damaged_lines_are_named_at_once_and_a_line_is_one_of_the_file():
    text = f'{HEAD}\n"a\nb",t,s,m,x,no,paper\np,t,s,m,x,never,paper\n'
    with pytest.raises(ValueError, match=r"line 3: value 'no'.*\n.*line 4: value 'never'"):
        parsed(text, "f.csv")


@pytest.mark.parametrize("text", ["", "paper,table\n", HEAD.replace("value", "worth") + "\n"])
def test_other_columns_are_refused(text):
    with pytest.raises(ValueError, match=r"f\.csv, line 1: expected the columns paper,"):
        parsed(text, "f.csv")


def test_a_setting_may_be_missing_and_in_one_table_is():
    assert parsed(f"{HEAD}\np,t,,m,x,1,paper\n", "f.csv")[0].setting == ""
    assert [(group.paper, group.table) for group in groups() if not group.setting] == [("vOPD", "teachers")]


def test_a_number_that_two_tables_print_is_the_same_but_for_means_of_other_columns():
    found = {}
    for one in numbers():
        found.setdefault((one.paper, one.setting, one.method, one.metric), set()).add(one.value)
    differing = {(paper, method, metric) for (paper, _, method, metric), values in found.items() if len(values) > 1}
    assert differing == {("TrOPD", "base", "avg"), ("TrOPD", "OPD", "avg")}


# ---------------------------------------------------------------- the names


def test_every_name_of_a_paper_has_a_line_and_every_line_a_name():
    assert set(counterparts()) == {(one.paper, one.method) for one in numbers()}
    assert set(metrics()) == {one.metric for one in numbers()}


@pytest.mark.parametrize("one", counterparts().values(), ids=lambda one: f"{one.paper} {one.name}")
def test_every_method_of_ours_exists_and_has_the_fields_that_change(one):
    assert one.method or one.note
    assert one.method in ("", *MODELS, *names("method"))
    if one.changes:
        estimator, source = load_method(one.method)
        changes = {field: yaml.safe_load(value) for field, _, value in map(parts, one.changes.split(", "))}
        shipped = estimator.settings() | source.settings()
        assert all(field in shipped and shipped[field] != value for field, value in changes.items())
        load_method(one.method, **{field: value for field, value in changes.items() if field in estimator.settings()})


def parts(change):
    return change.partition("=")


def test_a_method_that_needs_other_fields_has_a_name_of_its_own():
    known = counterparts()
    assert known["vOPD", "vOPD-topk"].ours == "vopd_topk"
    assert known["vOPD", "vOPD-top5"].ours == "vopd_topk[k=5]"
    assert known["OPD+", "GRPO"].ours == ""


def test_what_the_notes_say_of_our_fields_is_so():
    assert load_method("opd_topk").estimator.settings()["k"] == load_method("vopd_topk").estimator.settings()["k"] == 20
    assert load_method("skd").source.settings()["k"] == 25
    assert load_method("veto").estimator.settings()["beta"] == 0.8
    assert load_method("aopd").estimator.settings()["k"] == 16
    assert load_method("entropy_opd").estimator.settings()["share"] == 0.2
    assert load_method("reopold").estimator.settings()["floor"] == pytest.approx(math.log(0.3) / 0.7)
    assert load_method("tropd_clip").estimator.settings()["floor"] == pytest.approx(math.log(0.1) / 0.9)
    for name in ("tropd", "tropd_mask", "tropd_clip"):
        settings = load_method(name).estimator.settings()
        assert (settings["k"], settings["beta"]) == (64, 0.001)


def test_no_two_methods_of_a_table_have_the_same_name_here():
    for group in groups():
        ours = [name for name in group.our_names if name and name not in MODELS]
        assert len(set(ours)) == len(ours), group.title


def test_metrics_say_their_task_and_figure():
    known = metrics()
    assert known["math500_avg@8"][1:4] == ("math500", "avg@8", "percent")
    assert known["gsm8k_best_avg@4"].unit == "share"
    for one in known.values():
        theirs = {"aime24_25": "aime24+25"}.get(one.task, "gpqa" if one.metric == "gpqa" else one.task)
        assert one.metric == "_".join(filter(None, (theirs, one.figure)))
        assert one.unit in ("percent", "share", "seconds", "number")


# ---------------------------------------------------------------- the set-ups


def test_every_line_of_a_set_up_or_remark_is_of_a_known_field_and_table():
    setups = lines("setups.csv", ("paper", "table", "setting", "field", "value", "source", "note"))
    remarks = lines("remarks.csv", ("paper", "table", "setting", "remark"))
    places = [place(group) for group in groups()]
    for line in setups + remarks:
        assert any(all(line[key] in (EVERY, at[key]) for key in at) for at in places), line
    assert {line["field"] for line in setups} == set(FIELDS)
    assert len({tuple(line.values())[:4] for line in setups}) == len(setups)
    known = [line["value"] not in ("not stated", "does not apply") for line in setups]
    assert known == [bool(line["source"]) for line in setups]


@pytest.mark.parametrize("group", groups(), ids=lambda group: group.title)
def test_every_set_up_says_of_every_field_what_is_known_or_that_it_is_not(group):
    fields = ("paper", "table", "setting", "field", "value", "source", "note")
    own = [line for line in lines("setups.csv", fields) if line["paper"] == group.paper]
    told = {line["field"] for line in own if line["table"] in (EVERY, group.table)}
    assert told == set(FIELDS)
    assert list(group.setup) == list(FIELDS)
    assert all(stated.value for stated in group.setup.values())


def test_a_line_that_names_more_overrules_one_that_names_less():
    olmo = setup("vOPD", "main math", "Olmo-3-7B-Think->Olmo-3-7B-Base")
    assert (olmo["learning rate"].value, olmo["prompts per step"].value) == ("2e-5", "64")
    assert setup(*SMALL.values())["learning rate"].value == "1e-5"
    assert setup(*SCIENCE.values())["learning rate"].value == "not stated"
    assert setup("vOPD", "teachers", "")["learning rate"].value == "does not apply"


def test_where_a_value_is_from_is_said_unless_it_is_the_paper():
    assert Stated("1", "paper", "").text == "1"
    assert Stated("1", "code", "one").text == "1 [code] (one)"
    assert Stated("not stated", "", "3 epochs").text == "not stated (3 epochs)"


def test_the_set_up_of_a_run_of_ours(tmp_path):
    found = here(record_of(tmp_path))
    assert list(found) == list(FIELDS)
    assert found == {
        "student": "embedded/standard-0",
        "teacher": "embedded/teacher",
        "training prompts": "MiniGSM",
        "trained parameters": "all",
        "precision": "32-true",
        "steps": "6",
        "prompts per step": "8",
        "rollouts per prompt": "1",
        "learning rate": "0.001",
        "optimiser": "AdamW",
        "schedule": "linear, to 0.05 of the learning rate",
        "warm-up steps": "4",
        "weight decay": "0.0",
        "gradient clip": "1.0",
        "response limit": "40",
        "sampling temperature": "1.0",
        "sampling top-p": "1.0",
        "loss normalisation": "tokens of the global batch",
        "evaluation samples": "2",
        "evaluation temperature": "1.0",
        "evaluation top-p": "1.0",
        "evaluation limit": "40",
        "checkpoint": "last",
        "hardware": "1 × cpu",
    }


def test_the_less_plain_values_of_a_run(tmp_path):
    record = record_of(tmp_path, "setting=mismatch", "plan.decay=constant") | {"budget": {"steps": 2}}
    found = here(record)
    assert found["gradient clip"] == "none"
    assert found["teacher"] == "embedded/teacher, logits × 3.0"
    assert found["schedule"] == "constant"
    assert found["steps"] == "6 (2 done)"
    assert here(record_of(tmp_path, "plan.floor=0"))["schedule"] == "linear"


def test_what_learns_in_which_type_and_how_it_was_judged(tmp_path):
    found = here(record_of(tmp_path, "student.lora_rank=64", "student.lora_alpha=128", "setting=real"))
    assert found["trained parameters"] == "LoRA of rank 64, alpha 128"
    assert found["precision"] == "bf16-mixed; weights float32 (student), bfloat16 (teacher)"
    more = ("student.lora_rank=8", "student.lora_dropout=0.05", "student.lora_layers='q_proj,v_proj'")
    found = here(record_of(tmp_path, *more, "setting=real", "student.dtype=bfloat16"))
    assert found["trained parameters"] == "LoRA of rank 8, alpha 16, dropout 0.05, of q_proj,v_proj"
    assert found["precision"] == "bf16"
    law = ("plan.temperature=0.5", "plan.top_p=0.5", "evaluation.temperature=0.6", "evaluation.top_p=0.95")
    found = here(record_of(tmp_path, *law, "evaluation.top_k=20", "evaluation.response_limit=4096"))
    assert [found[field] for field in ("sampling temperature", "sampling top-p")] == ["0.5", "0.5"]
    assert [found[f"evaluation {field}"] for field in ("temperature", "top-p", "limit")] == [
        *("0.6", "0.95, top-k 20", "4096")
    ]
    tests = ("+task@tests.one=gpqa_diamond", "+task@tests.two=dialogsum", "+task@tests.three=dialogsum")
    assert here(record_of(tmp_path, *tests))["evaluation samples"] == "2"
    found = here(record_of(tmp_path, *tests, "evaluation.samples=8", "+evaluation.samples_of={two: 32}"))
    assert found["evaluation samples"] == "8 (one, three), 32 (two)"
    assert here(record_of(tmp_path, "trainer=zero2", "trainer.num_nodes=2"))["hardware"] == "all × gpu on 2 nodes"


@pytest.mark.parametrize(
    "record",
    [{}, {"config": {}}, {"config": None}, {"config": {"task": {}, "models": {}}, "models": [], "budget": 3}],
)
def test_what_a_record_lacks_is_not_recorded(record):
    assert set(here(record).values()) == {"not recorded"}


def test_a_record_with_nothing_but_a_plan_says_what_always_holds_or_held():
    found = here({"config": {"plan": {}}})
    assert {field for field, value in found.items() if value != "not recorded"} == {
        *("trained parameters", "optimiser", "sampling temperature", "sampling top-p"),
        *("loss normalisation", "evaluation temperature", "evaluation top-p", "checkpoint"),
    }


def test_nothing_in_the_configuration_changes_what_is_said_to_hold_always():
    def keys(value):
        return {*value, *(key for item in value.values() for key in keys(item))} if isinstance(value, dict) else set()

    found = keys(composed("bench", "method=opd", "name=opd"))
    assert not [key for key in found for word in ("optimiser", "optimizer", "reduction", "best") if word in key]


def test_differences_are_what_is_not_the_same_or_not_known_in_the_order_of_the_fields(tmp_path):
    record = record_of(
        tmp_path, "plan.steps=219", "plan.prompts=64", "plan.learning_rate=0.00001", "plan.decay=cosine", "plan.floor=0"
    )
    record["models"]["student"]["name"] = "Qwen/qwen3-1.7B-base"
    found = differences(setup(*SMALL.values()), here(record))
    assert [difference.field for difference in found] == [
        *("teacher", "training prompts", "trained parameters", "precision", "warm-up steps", "gradient clip"),
        *("response limit", "evaluation samples", "evaluation temperature", "evaluation top-p"),
        *("evaluation limit", "checkpoint", "hardware"),
    ]
    assert found[4] == ("warm-up steps", "0 [code]", "4")
    assert ("gradient clip", "not stated", "1.0") in found


def test_what_is_unknown_on_both_sides_is_a_difference_and_what_does_not_apply_is_none():
    found = differences(setup("vOPD", "teachers", ""), here({}))
    assert {difference.here for difference in found} == {"not recorded"}
    assert "steps" not in {difference.field for difference in found}
    assert len(differences(setup("Veto", "main", "Qwen2-7B-IT->Qwen2-0.5B-IT"), here({}))) == len(FIELDS)


@pytest.mark.parametrize(
    ("paper", "ours", "same"),
    [
        ("1e-5", "0.00001", True),
        ("1e-5", "1e-05", True),
        ("0", "0.0", True),
        ("1e-5", "2e-5", False),
        ("1", "none", False),
        ("Qwen3-1.7B", "Qwen/Qwen3-1.7B", True),
        ("Qwen3-1.7B", "Qwen/Qwen3-1.7B-Base", False),
        ("constant", "Constant", True),
        ("not stated", "not stated", False),
    ],
)
def test_numbers_are_compared_as_numbers_and_names_without_their_owner(paper, ours, same):
    stated = dict.fromkeys(FIELDS, Stated("does not apply", "", "")) | {"student": Stated(paper, "paper", "")}
    assert differences(stated, dict.fromkeys(FIELDS, "") | {"student": ours}) == (
        [] if same else [("student", paper, ours)]
    )


# ---------------------------------------------------------------- beside ours


def test_every_number_of_a_table_has_ours_beside_it_in_the_paper_s_order():
    ours = {("opd", "math500", "avg@8"): 60.25, ("(student before)", "math500", "avg@8"): 40.0}
    rows = beside(SMALL, lambda method, metric: ours.get((method, metric.task, metric.figure)))
    assert len(rows) == 54
    assert rows[0] == ("math500_avg@8", "(student before)", "Student", 42.3, 40.0)
    assert [row.paper_method for row in rows[::9]] == group_of(SMALL).methods
    assert [(row.paper_method, row.here) for row in rows if row.here is not None][1:] == [("OPD", 60.25)]


def test_ours_is_in_the_paper_s_unit_and_the_paper_s_is_never_changed():
    rows = beside(REPEATED, lambda method, metric: 50.0 if metric.task == "gsm8k" else None)
    assert {row.here for row in rows if row.metric == "gsm8k_best_avg@4" and row.method} == {0.5}
    published = {(one.method, one.metric): one.value for one in chosen(numbers(), **REPEATED)}
    assert {(row.paper_method, row.metric): row.paper_value for row in rows} == published


def test_what_has_no_method_here_is_not_asked_for():
    asked = set()
    rows = beside(REPEATED, lambda method, metric: asked.add(method))
    assert "" not in asked
    assert [row.here for row in rows if row.paper_method == "GRPO"] == [None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paper": "vopd"}, "nothing published of paper 'vopd', did you mean 'vOPD'"),
        ({"table": "main maths"}, "nothing published of table 'main maths', did you mean 'main math'?"),
        ({"table": "T3"}, "nothing published of table 'T3'; there are 'main math', 'k ablation', 'teachers'"),
        ({"setting": "Qwen3-17B->Qwen3-1.7B-Base"}, "setting .*, did you mean 'Qwen3-1.7B->Qwen3-1.7B-Base'"),
        ({"seting": ""}, "published: expected the fields paper, table, setting, got paper, table, setting, seting"),
        ({"table": None}, "nothing published of table 'None'"),
    ],
)
def test_an_unknown_reference_is_named_with_what_is_near(change, message):
    with pytest.raises(ValueError, match=message):
        beside(SMALL | change, nothing)


def test_a_reference_is_what_the_experiment_names():
    assert reference_of({"config": {"published": SMALL}}) == SMALL
    assert reference_of({"config": {"published": None}}) is reference_of({"config": {}}) is None


# ---------------------------------------------------------------- shown

SCIENCE_BESIDE = """\
# Paper beside here

## vOPD, science: SciKnowEval-chemistry

| in the paper | method | gpqa_diamond |
|---|---|---:|
| Student | (student before) | 20.4 / — |
| OPD | opd | 24.7 / 30.2 |
| OPD-topk | opd_topk | 24.1 / — |
| OPD-fullV | opd_full | 28.7 / — |
| vOPD-topk | vopd_topk | 28.6 / — |
| vOPD-fullV | vopd | 28.4 / — |

- paper / here. In the paper's order; another set-up than ours, so never in one ranking with our numbers.
- Not measured here: sciknoweval.
- OPD: the authors' code corrects for the sampler's probabilities by default; ours draws and scores with the same ones.
- OPD-topk: k = 20 in both.
- OPD-fullV: the authors' code divides this loss by each micro-batch's own tokens; ours by those of the global batch.
- vOPD-topk: k = 20 in the paper and here; the authors' code has 100.

| field | in the paper | here |
|---|---|---|
| student | not stated | embedded/standard-0 |
| teacher | not stated | embedded/teacher |
| training prompts | SciKnowEval chemistry (1,890) | MiniGSM |
| trained parameters | LoRA of rank 64, alpha 128 | all |
| precision | bf16 | 32-true |
| steps | not stated (at most 10 epochs) | 6 |
| prompts per step | 64 | 8 |
| learning rate | not stated (1e-5 for Qwen3, 2e-5 for Olmo-3) | 0.001 |
| schedule | cosine [code] | linear, to 0.05 of the learning rate |
| warm-up steps | 0 [code] | 4 |
| gradient clip | not stated | 1.0 |
| response limit | 2048 | 40 |
| evaluation samples | not stated | 2 |
| evaluation temperature | 0.6 | 1.0 |
"""


def measured(method, metric):
    return 30.16 if (method, metric.task) == ("opd", "gpqa_diamond") else None


def test_paper_beside_here_as_markdown(tmp_path):
    text = beside_markdown([compared(SCIENCE, measured, record_of(tmp_path))])
    assert text.startswith(SCIENCE_BESIDE)


def test_paper_beside_here_at_a_terminal(tmp_path):
    text = printed(*beside_terminal(compared(SCIENCE, measured, record_of(tmp_path)), 200))
    assert "24.7 / 30.2" in text
    assert "Not measured here: sciknoweval." in text
    assert "Differences in set-up" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  warm-up")] == [
        ["warm-up", "steps", "0", "[code]", "4"]
    ]


def test_where_nothing_was_measured_the_paper_stands_alone(tmp_path):
    text = beside_markdown([compared(SCIENCE, nothing, record_of(tmp_path))])
    assert "| OPD | opd | 29.3 | 24.7 |" in text
    assert "- Not measured here: sciknoweval, gpqa_diamond." in text


def test_the_order_is_the_paper_s_whatever_was_measured(tmp_path):
    texts = [
        beside_markdown([compared(SCIENCE, lambda method, _, sign=sign: sign * len(method), record_of(tmp_path))])
        for sign in (1, -1)
    ]
    orders = [[line.split(" | ")[1] for line in text.splitlines() if line.count(" | ") == 3] for text in texts]
    assert orders[0] == orders[1] == ["method", *group_of(SCIENCE).our_names]
    assert all(NEVER in text for text in texts)


SCIENCE_PAGE = """\
# Published numbers

## vOPD, science: SciKnowEval-chemistry

| in the paper | method | sciknoweval | gpqa_diamond |
|---|---|---:|---:|
| Student | (student before) | 26.1 | 20.4 |
| OPD | opd | 29.3 | 24.7 |
"""


def test_a_page_has_every_table_note_and_set_up():
    assert markdown([group_of(SCIENCE)]).startswith(SCIENCE_PAGE)
    text = markdown(groups())
    assert text.count("\n## ") == len(groups()) == 17
    assert text.count("\n| field | in the paper |\n") == 17
    assert text.count(NEVER) == 17
    assert "- Source: third-party." in text


def test_numbers_are_shown_as_printed_and_never_rounded():
    for group in groups():
        text = markdown([group])
        for row in group.values:
            for value in row:
                assert value is None or any(f"{value:.{n}f} |" in text for n in range(5)), (group.title, value)
    assert "| 85.0 |" in markdown([group_of(SMALL)])


REPEATED_AT_80 = """\
  in the paper  method                  avg@4       norm  advantage
 ───────────────────────────────────────────────────────────────────
  SFT-init      (student before)        0.331          —          —
  RKL           opd                     0.494       15.4          6
  RKL+          opd_plus               0.4725         18          7
  FKL           fdiv_stopgrad_fkl       0.331     1941.7     2026.6
  FKL+          opd_plus_fkl             0.45       13.8      171.7
  JSD           fdiv_stopgrad_jsd       0.331       92.7         65
  JSD+          opd_plus_jsd             0.46       1.25       2.01
  GRPO                                  0.404          —          —
"""


def test_a_table_at_a_terminal():
    assert REPEATED_AT_80 in printed(*terminal(group_of(REPEATED), 80), width=80)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 130, 200])
def test_a_narrow_terminal_gets_more_tables_and_loses_nothing(width):
    for group in groups():
        *tables, _ = terminal(group, width)
        assert sum(len(table.columns) - 2 for table in tables) == len(group.metrics)
        if width >= 80:
            assert "…" not in printed(*tables, width=width)
    assert len(terminal(group_of(SMALL), 200)) == 2


def test_nothing_that_is_shown_is_taken_for_markup(tmp_path):
    record = record_of(tmp_path)
    record["models"]["student"]["name"] = "a[bold]|b\n<i>\x1b[31m"
    group = group_of(SCIENCE)._replace(table="[red]t|<b>", methods=["m[bold]|<b>"] * 6, remarks=["[link=x]|\nlost"])
    comparison = Comparison(group, [], differences(group.setup, here(record)))
    text = beside_markdown([comparison])
    assert "## vOPD, [red]t\\|\\<b>: SciKnowEval-chemistry\n" in text
    assert "| m[bold]\\|\\<b> | opd |" in text
    assert "\n- [link=x]\\| lost\n" in text
    assert "| student | not stated | a[bold]\\|b \\<i> [31m |" in text
    shown = printed(*beside_terminal(comparison, 200))
    assert "\x1b" not in text + shown
    for word in ("[red]t|<b>", "m[bold]|<b>", "[link=x]", "a[bold]|b <i> [31m"):
        assert word in shown


# ---------------------------------------------------------------- the command


def told(capsys, *arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    code = show(parser.parse_args(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def test_all_is_shown_unless_something_is_chosen(capsys):
    code, out, err = told(capsys)
    assert (code, err) == (0, "")
    assert all(paper in out for paper in ("vOPD, main math", "Veto, main", "TrOPD, T3", "OPD+, T2"))
    assert "Set-up of" not in out


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        (("--paper", "Veto"), ["Veto, main: Qwen2-7B-IT->Qwen2-0.5B-IT"]),
        (("--table", "teachers"), ["vOPD, teachers"]),
        (("--paper", "vOPD", "--setting", "Qwen3-4B->Qwen3-4B-Base"), ["vOPD, main math: Qwen3-4B->Qwen3-4B-Base"]),
        (("--setting", ""), ["vOPD, teachers"]),
        (("--method", "GRPO"), [group_of(REPEATED).title]),
        (("--method", "opd_plus_jsd"), [group.title for group in groups() if group.paper == "OPD+"]),
    ],
)
def test_what_is_chosen_is_shown_alone(capsys, arguments, titles):
    code, out, _ = told(capsys, *arguments, "--markdown")
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("## ")] == [f"## {title}" for title in titles]
    assert ("Set-up of" in told(capsys, *arguments)[1]) == (len(titles) == 1)


def test_a_method_is_one_of_ours_or_what_a_paper_calls_it(capsys):
    ours = told(capsys, "--markdown", "--table", "T2", "--method", "opd")[1]
    assert "| RKL OPD | opd |" in ours
    assert "| RKL+ |" not in ours
    of_all = told(capsys, "--markdown", "--method", "vopd_topk")[1]
    assert "| vOPD-topk | vopd_topk |" in of_all
    assert "| vOPD-top5 | vopd_topk[k=5] |" in of_all
    assert "| Student |" not in of_all


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paper", "TROPD"), "nothing published of paper 'TROPD', did you mean 'TrOPD'"),
        (("--paper", "Veto", "--method", "vto"), "nothing published of method 'vto', did you mean 'Veto' or 'veto'?"),
        (("--table", "x"), "nothing published of table 'x'; there are 'main math', 'k ablation'"),
        (("--method", ""), "nothing published of method ''; there are"),
    ],
)
def test_an_unknown_choice_is_refused_with_suggestions(capsys, arguments, message):
    code, out, err = told(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


# ---------------------------------------------------------------- the room


def test_published_numbers_bring_no_training_stack_along():
    heavy = ("torch", "lightning", "transformers", "hydra", "omegaconf", "yaml", "scipy", "matplotlib")
    code = f"import sys, opd_bench.reporting.published; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_every_file_of_the_folder_goes_into_the_package():
    assert conf_dir().parent in FOLDER.parents  # beside the code, where hatchling takes everything
    assert {path.name for path in FOLDER.glob("*.csv")} == {
        *("results.csv", "methods.csv", "metrics.csv", "setups.csv", "remarks.csv")
    }
