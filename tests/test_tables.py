"""Tables of synthetic records: what they claim is true about as often as they say, and depends on nothing else."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opd_bench.reporting.formats import as_csv, markdown, runs_csv
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.verdicts import of_problems
from tests.synthetic import PROTOCOL, run, runs, written

GOLDEN = Path(__file__).parent / "data" / "leaderboard.md"
ROOT = Path(__file__).parents[1]


def world(seed, methods, noise=0.03, start=0.05, seeds=5):
    """Runs of methods with these true means: a seed's own luck is shared, and so is its start's."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, noise, seeds) + start * (np.arange(seeds) % 2)
    return [
        one | {"id": f"{seed}-{name}-{number}", "files": {}, "folder": "nowhere"}
        for name, mean in methods.items()
        for number, one in enumerate(runs(name, (mean + shared + rng.normal(0, noise, seeds)).tolist()))
    ]


def rows(records):
    (table,) = tables(records)
    return {row.method: row for row in table.rows}


def test_intervals_bracket_the_truth_about_as_often_as_they_say():
    truth, hits = 0.5, {"accuracy": 0, "difference": 0}
    for seed in range(300):
        found = rows(world(seed, {"opd": truth, "vopd": truth + 0.1}, start=0.0))
        hits["accuracy"] += found["opd"].accuracy.low <= truth <= found["opd"].accuracy.high
        hits["difference"] += found["vopd"].difference.low <= 0.1 <= found["vopd"].difference.high
    assert all(274 <= count <= 296 for count in hits.values()), hits  # 91 and 99 %


def test_equal_methods_are_called_equal_about_95_percent_of_the_time():
    equal = covered = 0
    for seed in range(5000, 5800):
        found = rows(world(seed, {"opd": 0.5, "vopd": 0.5}))
        difference = found["vopd"].difference
        equal += found["opd"].band == found["vopd"].band == 1
        covered += difference.low <= 0 <= difference.high
    assert 740 <= equal <= 780  # 92.5 and 97.5 %
    assert covered == equal  # of two methods the band says what the interval says


def test_a_better_method_is_found():
    found = [rows(world(seed, {"opd": 0.5, "vopd": 0.65})) for seed in range(100)]
    assert sum(own["vopd"].band == 1 and own["opd"].band == 2 for own in found) >= 95
    assert sum(own["vopd"].better.mean > 0.9 for own in found) >= 90
    assert all(own["vopd"].p == pytest.approx(0.0625) for own in found if own["vopd"].difference.low > 0.02)


def test_the_table_is_as_it_was(tmp_path):
    """Golden: if this changes on purpose, look at the difference."""
    records = written(tmp_path, some_records())
    text = markdown(tables(records))
    assert text == GOLDEN.read_text(encoding="utf-8")


def some_records():
    rng = np.random.default_rng(7)
    means = {"opd": 0.6, "vopd": 0.72, "opd_full": 0.85, "gkd": 0.85, "tropd": 0.7}
    found = [one for name, mean in means.items() for one in runs(name, (mean + rng.normal(0, 0.02, 5)).tolist())]
    found += runs("veto", [0.8, 0.81])  # too few seeds
    wrong = runs("state_only", [0.05] * 5)
    for one in wrong:
        one["method"]["warning"] = "the mean gradient is 0"
    broken = run("tropd", 5, 0.0, status="nan", reason="loss is nan at step 3")
    broken["evaluation"]["after"] = {}
    check = run("opd", 0, 0.95)
    check["config"] = check["config"] | {"start": "embedded/teacher"}
    check["start"] = "embedded/teacher"
    other = [one | {"protocol": PROTOCOL | {"digest": "other1"}} for one in runs("opd", [0.1, 0.2])]
    return [*found, *wrong, broken, check, *other]


def test_neither_order_nor_another_protocol_nor_a_rebuild_changes_a_byte(tmp_path):
    records = written(tmp_path, some_records())
    texts = set()
    for seed in range(4):
        random.Random(seed).shuffle(records)
        found = tables(records)
        texts.add(tuple(write(found) for write in (markdown, as_csv, runs_csv)))
    assert len(texts) == 1
    alone = tables([record for record in records if record["protocol"]["digest"] == "abc123"])
    assert markdown([tables(records)[0]]) == markdown(alone)


def test_what_one_more_task_changes_is_nothing_of_the_others(tmp_path):
    """Records of a protocol with another task, beside these: each table is what it was."""
    records = written(tmp_path / "one", some_records())
    other = [
        one | {"protocol": PROTOCOL | {"name": "else-standard"}, "tasks": {"else": {"samples": 4, "problems": 2}}}
        for one in runs("opd", [0.3, 0.4])
    ]
    for one in other:
        one["evaluation"] = {when: {"else": judged["mini_gsm"]} for when, judged in one["evaluation"].items()}
    more = records + written(tmp_path / "two", other)
    text = markdown(tables(records))
    assert set(text.splitlines()) <= set(markdown(tables(more)).splitlines())


def test_several_tasks_count_equally_and_each_has_its_figures():
    records = []
    for one in world(0, {"opd": 0.4, "vopd": 0.6}):
        easy = {when: judged | {"easy": {"sampled": 0.9}} for when, judged in one["evaluation"].items()}
        records.append(one | {"tasks": one["tasks"] | {"easy": {"samples": 1}}, "evaluation": easy})
    (table,) = tables(records)
    plain = rows(world(0, {"opd": 0.4, "vopd": 0.6}))
    for row in table.rows:
        assert row.accuracy.mean == pytest.approx((plain[row.method].accuracy.mean + 0.9) / 2)
        assert row.means["evaluation.after.easy.sampled"] == pytest.approx(0.9)
    assert [row.method for row in table.rows] == ["vopd", "opd"]
    assert table.rows[0].difference.mean == pytest.approx(plain["vopd"].difference.mean / 2)


def test_a_correction_takes_the_place_of_what_it_supersedes():
    records = world(0, {"opd": 0.5})
    better = records[0] | {"id": "new", "supersedes": records[0]["id"], "created": "2020-01-01T00:00:00+00:00"}
    better["evaluation"] = {**better["evaluation"], "after": {"mini_gsm": {"sampled": 0.99}}}
    (table,) = tables([*records, better])
    assert [found["id"] for found in table.rows[0].runs] == ["new", *(record["id"] for record in records[1:])]
    assert not [note for note in table.notes if "older" in note]


def test_a_check_and_a_known_wrong_method_are_ranked_with_no_number_of_seeds():
    checks = world(0, {"opd": 0.9})
    for one in checks:
        one |= {"id": f"check-{one['id']}", "config": one["config"] | {"start": "embedded/teacher"}}
        one["start"] = "embedded/teacher"
        one["evaluation"] = one["evaluation"] | {"before": {"mini_gsm": {"sampled": 0.9}}}
    wrong = world(1, {"state_only": 0.8})
    for one in wrong:
        one["method"] = one["method"] | {"warning": "no signal"}
    (table,) = tables([*world(0, {"opd": 0.5}), *checks, *wrong])
    assert [(row.method, row.band) for row in table.rows] == [
        ("opd", 1),
        ("state_only", None),
        ("opd[start=embedded/teacher]", None),
    ]
    assert table.rows[2].difference.mean is None
    assert table.start.mean == pytest.approx(0.2)  # of the protocol's own starts alone
    assert table.rows[0].means["evaluation.after.mini_gsm.sampled"] < 0.6


def test_other_versions_of_the_protocol_are_never_ranked_together():
    old = [
        record | {"id": f"old-{record['id']}", "protocol": PROTOCOL | {"version": "0.9"}}
        for record in world(0, {"vopd": 0.9})
    ]
    found = tables([*world(0, {"opd": 0.5}), *old])
    assert [(table.title, [row.method for row in table.rows]) for table in found] == [
        ("mini_gsm-standard (abc123, protocol 0.9)", ["vopd"]),
        ("mini_gsm-standard (abc123, protocol 1.0)", ["opd"]),
    ]


# VmHWM is of this program alone; Linux begins ru_maxrss at the size of whoever started it.
MEASURED = """
import re, sys, time
from pathlib import Path
from opd_bench.report import main
start = time.perf_counter()
main([sys.argv[1], "--out", sys.argv[2]])
seconds, status = time.perf_counter() - start, Path("/proc/self/status").read_text()
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 2**20)
"""


@pytest.mark.slow
def test_ten_thousand_records_build_in_a_minute_and_a_gigabyte(tmp_path):
    rng = np.random.default_rng(0)
    records = [
        one
        for number in range(2000)
        for one in runs(f"method_{number:04d}", (0.5 + rng.normal(0, 0.1) + rng.normal(0, 0.02, 5)).tolist())
    ]
    written(tmp_path / "in", records)
    call = [sys.executable, "-c", MEASURED, str(tmp_path / "in"), str(tmp_path / "out")]
    result = subprocess.run(call, capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, gigabytes = map(float, result.stdout.split()[-2:])
    assert seconds < 60
    assert gigabytes < 1
    assert len((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()) > 2000


def test_pairs_are_of_one_seed_wherever_it_stands():
    ours = [one for one in world(0, {"vopd": 0.6}) if one["seed"] in (1, 2, 4)]
    theirs = [one for one in world(3, {"opd": 0.5}) if one["seed"] in (0, 2, 3, 4)]
    found = rows([*ours, *theirs])

    def accuracy(records, seed):
        (record,) = (one for one in records if one["seed"] == seed)
        return record["evaluation"]["after"]["mini_gsm"]["sampled"]

    differences = [accuracy(ours, seed) - accuracy(theirs, seed) for seed in (2, 4)]
    assert found["vopd"].difference.mean == pytest.approx(sum(differences) / 2)


def test_normalised_accuracy_is_of_each_run_s_own_start():
    records = world(0, {"opd": 0.5}, noise=0.0, start=0.0)
    for one, before in zip(records, (0.1, 0.3, 0.1, 0.3, 0.1), strict=True):
        one["evaluation"] = one["evaluation"] | {"before": {"mini_gsm": {"sampled": before}}}
    normal = sorted((0.5 - before) / (0.95 - before) for before in (0.1, 0.3, 0.1, 0.3, 0.1))
    assert rows(records)["opd"].middle.mean == pytest.approx(sum(normal[1:4]) / 3)


def test_samples_of_one_problem_count_as_one_in_its_standard_error():
    answers = [(True, True), (False, False), (True, True), (False, False)]
    lines = [{"responses": [{"correct": True}, *({"correct": each} for each in pair)]} for pair in answers]
    found = of_problems(lines)
    assert found["solved"] == "2 0 2 0"
    assert found["sampled_error"] == pytest.approx((1 / 3 / 4) ** 0.5)  # four problems and not eight samples
