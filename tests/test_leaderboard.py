"""Tables in the less plain cases: what is one row, what is compared with what, what is shown. See test_reporting."""

import csv
import io
import math
import random
import subprocess
import sys

import pytest
from rich.console import Console

from opd_bench.report import main
from opd_bench.reporting.figures import figures, means
from opd_bench.reporting.formats import as_csv, markdown, runs_csv, terminal
from opd_bench.reporting.leaderboard import tables
from tests.test_reporting import PROTOCOL, content, many, on_task, written


def method(name="opd", seed=0, sampled=0.5, **fields):
    """A run of `name` with other fields of its method."""
    one = content(name, seed, sampled)
    one["method"] |= fields
    return one


def shown(table, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal(table, console.width))
    return console.file.getvalue()


def test_a_narrow_terminal_shows_whole_rows_and_says_what_it_leaves_out(tmp_path):
    (table,) = tables(written(tmp_path, *many({"opd": 0.5, "vopd": 0.7})))
    lines = shown(table, 80).splitlines()
    assert any(line.split()[1:2] == ["vopd"] and line.count("]") == 2 for line in lines)
    assert "reverse KL" in shown(table, 80)  # in the caption alone
    assert not any("solved" in line and "reverse KL" in line for line in lines)
    assert any("solved" in line and "reverse KL" in line for line in shown(table, 200).splitlines())


# ---------------------------------------------------------------- figures


def test_figures_are_all_numbers_by_name(tmp_path):
    training = {"auc": 0.4, "worst": math.inf, "list": [1.0, 2.0], "kept": True, "cause": "none", "x": None}
    (record,) = written(tmp_path, content(training=training))
    names = ("training.auc", "training.worst", "evaluation.before.mini_gsm.sampled")
    names += ("evaluation.after.mini_gsm.sampled", "evaluation.after.mini_gsm.greedy", "timing.seconds.total")
    assert figures(record) == dict(zip(names, (0.4, math.inf, 0.2, 0.5, 0.6, 10.0), strict=True))


def test_a_mean_is_of_the_runs_that_know_and_hides_no_infinity(tmp_path):
    records = written(
        tmp_path, *(content(seed=s, training=t) for s, t in enumerate(({"a": 1.0, "b": 1.0}, {"a": 3.0})))
    )
    assert (means(records)["training.a"], means(records)["training.b"]) == (2.0, 1.0)
    wild = content(seed=2, training={"gradient_norm": {"median": math.inf}})
    (table,) = tables(written(tmp_path / "more", content(), wild))
    assert "| inf |" in markdown([table])


# ---------------------------------------------------------------- what is one row, and what is compared


def test_other_sources_and_estimators_are_other_rows(tmp_path):
    kinds = [{"source": {"name": "Teacher"}}, {"source": {"name": "Student"}}, {"estimator": "Mine"}]
    (table,) = tables(written(tmp_path, *(method("gkd", **kind) for kind in kinds)))
    names = ["gkd[estimator=Mine, source=Student]", "gkd[estimator=null, source=Student]"]
    assert [row.method for row in table.rows] == [*names, "gkd[estimator=null, source=Teacher]"]


def test_fields_that_are_lists_stay_whole(tmp_path):
    runs = [method("gkd", settings={"k": [1, 2], "b": "x, y"}), method("gkd", settings={"k": [1, 3], "b": "x, y"})]
    (table,) = tables(written(tmp_path, *runs))
    assert [row.method for row in table.rows] == ["gkd[k=[1, 2]]", "gkd[k=[1, 3]]"]


def test_differences_pair_the_seeds_that_both_have(tmp_path):
    ours = [content("vopd", seed, sampled) for seed, sampled in ((0, 0.6), (1, 0.7), (2, 0.0))]
    theirs = [content("opd", seed, sampled) for seed, sampled in ((0, 0.5), (1, 0.5), (7, 1.0))]
    (table,) = tables(written(tmp_path, *ours, *theirs))
    by_name = {row.method: row for row in table.rows}
    assert by_name["vopd"].difference.mean == pytest.approx(0.15)
    assert by_name["opd"].difference.mean is None


def test_no_difference_is_taken_to_a_reference_that_is_two(tmp_path):
    (table,) = tables(written(tmp_path, method(settings={"k": 1}), method(settings={"k": 2}), content("vopd")))
    assert all(row.difference.mean is None for row in table.rows)
    assert table.notes == ["opd ran at several settings, so there are no differences to it"]


def test_copies_of_a_record_are_one_and_not_older_ones(tmp_path):
    (record,) = written(tmp_path, content())
    (table,) = tables([record, dict(record)])
    assert (table.rows[0].attempted, table.notes) == (1, [])


def test_the_untrained_student_counts_once_per_start_and_the_teacher_once(tmp_path):
    runs = []
    for name in ("opd", "vopd", "tropd"):
        for seed in range(4):  # two starts, so two independent values
            before = {"sampled": 0.1 + 0.1 * (seed % 2), "greedy": 0.3}
            after = {"sampled": 0.5, "greedy": 0.5}
            judged = {"before": before, "after": after, "teacher": {"sampled": 0.9, "greedy": 0.95}}
            evaluation = {when: on_task(figures) for when, figures in judged.items()}
            runs.append(content(name, seed, start=f"standard-{seed % 2}", evaluation=evaluation))
    (table,) = tables(written(tmp_path, *runs))
    assert table.start.mean == pytest.approx(0.15)
    text = markdown([table])
    assert "|  | (student before) |  | 15.0 |  |" in text
    assert "|  | (teacher) |  | 90.0 |  |" in text
    assert text.index("| opd |") < text.index("(student before)") < text.index("(teacher)")


def test_what_a_failed_run_measured_is_in_its_line_and_in_no_mean(tmp_path):
    wild = content(seed=1, status="diverged", training={"gradient_norm": {"median": 1e6}})
    (table,) = tables(written(tmp_path, content(), wild))
    assert table.rows[0].means["training.gradient_norm.median"] == 2.0
    assert "1000000.0" in runs_csv([table])


def test_a_protocol_where_everything_failed_is_still_a_table(tmp_path):
    nothing = {"before": {}, "after": {}, "teacher": {}}
    failed = content("opd", 0, status="out of memory", reason="8 GiB", evaluation=nothing, training={}, timing={})
    (table,) = tables(written(tmp_path, failed))
    assert f"| — | opd | 0 of 1 {'| — ' * 10}|" in markdown([table])
    assert "opd, seed 0: out of memory, 8 GiB" in shown(table)
    (line,) = csv.DictReader(io.StringIO(runs_csv([table])))
    assert (line["status"], line["reason"]) == ("out of memory", "8 GiB")


def test_the_sheets_have_everything_in_full_precision(tmp_path):
    third = [content("opd", seed, (1 / 3 + seed) / 9) for seed in range(5)] + [
        content("vopd", 0, 0.1, status="diverged")
    ]
    found = tables(written(tmp_path, *third))
    opd, vopd, before = csv.DictReader(io.StringIO(as_csv(found)))
    assert (opd["band"], vopd["band"], vopd["attempted"], vopd["accuracy"]) == ("1", "", "1", "")
    assert (before["method"], float(before["accuracy"])) == ("(student before)", 0.2)
    assert float(opd["training.gradient_norm.median"]) == 2.0
    runs = list(csv.DictReader(io.StringIO(runs_csv(found))))
    assert [(run["method"], run["seed"]) for run in runs] == [("opd", str(s)) for s in range(5)] + [("vopd", "0")]
    assert float(runs[0]["evaluation.after.mini_gsm.sampled"]) == 1 / 27


def test_no_output_depends_on_the_order_of_the_records(tmp_path):
    runs = [*many({"opd": 0.6, "vopd": 0.7}), content("opd", 3, 0.1, status="crash", reason="x"), content("sft")]
    runs += [content("opd", seed, protocol=PROTOCOL | {"name": "other"}, start=f"s{seed}") for seed in range(3)]
    records = written(tmp_path, *runs)
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(records)
        found = tables(records)
        texts.add((markdown(found), as_csv(found), runs_csv(found), *map(shown, found)))
    assert len(texts) == 1


def test_nothing_in_a_record_is_taken_for_markup(tmp_path):
    protocol = PROTOCOL | {"name": "a[red]b :bug:\n|", "digest": "d"}
    bad = content("m[bold]|\\|<b>", status="crash", reason="<lambda> [link=x]\nlost", protocol=protocol)
    (table,) = tables(written(tmp_path, bad))
    for text, times in (("a[red]b :bug:", 1), ("m[bold]|\\|<b>", 2), ("<lambda> [link=x]", 1)):
        assert shown(table).count(text) == times
    text = markdown([table])
    assert "## a[red]b :bug: \\| (d, protocol 1.0)\n" in text
    assert "| m[bold]\\|\\\\\\|\\<b> |" in text
    assert "- m[bold]\\|\\\\\\|\\<b>, seed 0: crash, \\<lambda> [link=x] lost\n" in text


def test_the_row_of_one_finished_run(tmp_path):
    ((row,),) = (table.rows for table in tables(written(tmp_path, content("vopd", 3, 0.7))))
    assert (row.method, row.finished, row.accuracy, row.ranked) == ("vopd", 1, (0.7, None, None), False)


def test_a_damaged_record_is_named_and_the_rest_is_written_where_it_is_said(tmp_path, capsys):
    written(tmp_path / "in", content(), content("vopd"))
    damaged = tmp_path / "in" / "1" / "record.json"
    damaged.write_text("{")
    out = tmp_path / "new" / "place"
    assert main([str(tmp_path / "in"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"left out: {damaged}: not a record")
    names = ["leaderboard.csv", "leaderboard.md", "plots", "report.html", "runs.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert all(str(out / name) in said.out for name in names)
    assert "vopd" not in (out / "runs.csv").read_text()


def test_a_place_that_can_t_be_written_is_named(tmp_path, capsys):
    written(tmp_path, content())
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path), "--out", str(tmp_path / "file")])
    assert f"{tmp_path / 'file'} can't be written: File exists; choose another" in capsys.readouterr().err


def test_reporting_brings_no_training_stack_along():
    """What is absent when all are imported is brought along by none."""
    heavy = ("torch", "lightning", "transformers", "hydra", "omegaconf", "pandas")
    modules = ", ".join(f"opd_bench.reporting.{module}" for module in ("record", "figures", "leaderboard", "formats"))
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
