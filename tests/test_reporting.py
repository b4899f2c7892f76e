"""Records that can't be damaged unnoticed, and tables that are a function of them."""

import csv
import io
import json
import math
import random
import subprocess
import sys

import pytest

from opd_bench.report import main
from opd_bench.reporting.formats import as_csv, markdown
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import RecordError, find_records, outcome, read_record, write_record

PROTOCOL = {"name": "mini_gsm-standard", "version": "1.0", "digest": "abc123"}


def on_task(figures):
    return {"mini_gsm": figures}


def content(method="opd", seed=0, sampled=0.5, **changes):
    """What a run would hand over."""
    after = {"sampled": sampled, "greedy": sampled + 0.1}
    return {
        "status": "finished",
        "reason": "",
        "protocol": PROTOCOL,
        "method": {"name": method, "warning": "", "settings": {"k": 8}, "source": {"name": "Student"}},
        "seed": seed,
        "start": "embedded/standard-0",
        "supersedes": None,
        "models": {},
        "tasks": {"mini_gsm": {"problems": 4, "samples": 2, "version": "1"}},
        "files": {},
        "anchors": {},
        "budget": {},
        "training": {
            "auc": 0.4,
            "gradient_norm": {"median": 2.0},
            "gradient": {"relative_variance": 3.0, "bias_reverse_kl": 0.0},
        },
        "evaluation": {"before": on_task({"sampled": 0.2}), "after": on_task(after), "teacher": {}},
        "config": {},
        "environment": {},
        "timing": {"seconds": {"total": 10.0}},
    } | changes


def written(folder, *contents):
    """Each in a run folder of its own."""
    records = []
    for number, one in enumerate(contents):
        (folder / str(number)).mkdir(parents=True)
        records.append(read_record(write_record(folder / str(number), one)))
    return records


# ---------------------------------------------------------------- records


def test_a_record_comes_back_as_it_was_written(tmp_path):
    (record,) = written(tmp_path, content(training={"worst": math.inf, "none": math.nan, "list": (1, -math.inf)}))
    assert record["training"] == {"worst": "inf", "none": "nan", "list": [1, "-inf"]}
    assert outcome(record).keys() == content().keys() - {"timing", "environment"} | {"schema"}
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"sampled": 0.5', '"sampled": 0.9'), "changed after it was written"),
        (lambda text: text[: len(text) // 2], "not a record"),
        (lambda text: text.replace('"schema": 2', '"schema": 99'), "not a record of schema 1 or 2"),
        (lambda text: text.replace('"seed"', '"sead"'), "changed after it was written"),
        (lambda text: text.replace("0.5", "NaN"), "NaN is not JSON"),
        (lambda text: "[]", "not a record of schema 1 or 2"),
        (lambda text: "", "not a record"),
    ],
)
def test_a_damaged_record_is_refused_by_name_and_the_others_are_read(tmp_path, damage, message):
    written(tmp_path, content(), content(seed=1))
    path = tmp_path / "1" / "record.json"
    path.write_text(damage(path.read_text()))
    records, complaints = find_records([tmp_path])
    assert [record["seed"] for record in records] == [0]
    assert len(complaints) == 1
    assert str(path) in complaints[0]
    assert message in complaints[0]


def test_a_record_that_can_t_be_written_leaves_no_half_one(tmp_path):
    written(tmp_path, content())
    path = tmp_path / "0" / "record.json"
    path.rename(tmp_path / "0" / "kept")
    path.mkdir()  # a folder can't be replaced by a file, whoever asks
    with pytest.raises(RecordError, match=r"record\.json can't be written"):
        write_record(tmp_path / "0", content(seed=5))
    assert sorted(entry.name for entry in (tmp_path / "0").iterdir()) == ["kept", "record.json"]
    with pytest.raises(RecordError, match="can't be written"):
        write_record(tmp_path / "nowhere", content())


# ---------------------------------------------------------------- tables


def many(methods, seeds=5, noise=0.01):
    rng = random.Random(0)
    return [content(name, seed, mean + rng.gauss(0, noise)) for name, mean in methods.items() for seed in range(seeds)]


def test_methods_come_in_the_order_of_their_accuracy_with_intervals_that_bracket_it(tmp_path):
    means = {"opd": 0.63, "vopd": 0.74, "opd_full": 0.9, "tropd": 0.7}
    (table,) = tables(written(tmp_path, *many(means)))
    assert [row.method for row in table.rows] == ["opd_full", "vopd", "tropd", "opd"]
    for row in table.rows:
        assert row.accuracy.low < row.accuracy.mean < row.accuracy.high
        assert abs(row.accuracy.mean - means[row.method]) < 0.02
        if row.method != "opd":
            assert row.difference.mean == pytest.approx(row.accuracy.mean - table.rows[-1].accuracy.mean)
            assert row.difference.low > 0
    assert table.start.mean == pytest.approx(0.2)


def test_the_order_of_the_records_changes_no_byte(tmp_path):
    records = written(tmp_path, *many({"opd": 0.6, "vopd": 0.7}), content("opd", 3, 0.1, status="crash", reason="x"))
    texts = set()
    for seed in range(5):
        random.Random(seed).shuffle(records)
        texts.add((markdown(tables(records)), as_csv(tables(records))))
    assert len(texts) == 1


def test_few_seeds_and_warnings_are_shown_and_not_ranked(tmp_path):
    known_wrong = [content("k1_direct", seed, 0.99) for seed in range(5)]
    for one in known_wrong:
        one["method"] |= {"warning": "the mean gradient is 0"}
    records = written(tmp_path, *many({"opd": 0.6}), content("vopd", 0, 0.9), *known_wrong)
    (table,) = tables(records)
    assert [(row.method, row.ranked) for row in table.rows] == [("opd", True), ("k1_direct", False), ("vopd", False)]
    shown = markdown([table])
    assert "| 1 | opd |" in shown
    assert "| — | k1_direct ⚠ |" in shown


def test_failures_stay_in_the_table_with_their_reason(tmp_path):
    broken = content("vopd", 5, status="diverged", reason="loss is nan at step 3")
    broken["evaluation"] = {"before": on_task({"sampled": 0.2}), "after": {}, "teacher": {}}
    (table,) = tables(written(tmp_path, *many({"vopd": 0.7}), broken))
    assert (table.rows[0].finished, table.rows[0].attempted) == (5, 6)
    assert "vopd, seed 5: diverged, loss is nan at step 3" in table.notes
    assert "5 of 6" in markdown([table])


def test_other_settings_are_other_rows_and_other_protocols_other_tables(tmp_path):
    other = content("opd", 0, 0.4)
    other["method"] |= {"settings": {"k": 2}}
    elsewhere = content("opd", 0, 0.9, protocol=PROTOCOL | {"digest": "fff000"})
    found = tables(written(tmp_path, content("opd", 0, 0.5), other, elsewhere))
    titles = [f"mini_gsm-standard ({digest}, protocol 1.0)" for digest in ("abc123", "fff000")]
    assert [table.title for table in found] == titles
    assert [row.method for row in found[0].rows] == ["opd[k=8]", "opd[k=2]"]


def test_the_newest_record_of_a_run_counts(tmp_path):
    records = written(tmp_path, content(sampled=0.1), content(sampled=0.6))
    records[1]["created"] = "2999-01-01T00:00:00+00:00"
    (table,) = tables(records)
    assert table.rows[0].accuracy.mean == 0.6
    assert table.notes == ["1 older record(s) of the same runs left out"]


def test_bars_and_brackets_in_a_name_break_no_table(tmp_path, capsys):
    written(
        tmp_path,
        content("a|[b]", 0, reason="[red]no[/red]", status="crash") | {"evaluation": {"before": {}, "after": {}}},
    )
    assert main([str(tmp_path)]) == 0
    assert "a|[b]" in capsys.readouterr().out
    assert "a\\|[b]" in (tmp_path / "leaderboard.md").read_text()
    row = next(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert (row["method"], row["finished"], row["accuracy"]) == ("a|[b]", "0", "")


def test_no_records_is_a_clear_end(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path)])
    assert caught.value.code == 1
    assert "make bench METHOD=tropd makes one" in capsys.readouterr().err


def test_the_report_needs_no_training_stack(tmp_path):
    written(tmp_path, content())
    code = f"""
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "lightning", "transformers", "hydra", "omegaconf", "deepspeed"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from opd_bench.report import main
sys.exit(main([{str(tmp_path)!r}]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "0" / "record.json").read_text())["id"]
