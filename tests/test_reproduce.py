"""An official row run again: what matches, what does not, and what is said."""

import gzip
import shutil
from contextlib import redirect_stdout
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import t

from opd_bench.reporting.comparison import judged
from opd_bench.reporting.files import RESPONSES, SERIES, digests
from opd_bench.reporting.protocol import VERSION
from opd_bench.reporting.record import find_records, read_record, write_record
from opd_bench.reproduce import Asked, Row, main, official_row, told
from tests.results import content
from tests.runs import small_run

TINY = (
    "plan.steps=2",
    "plan.prompts=4",
    "evaluation.problems=8",
    "evaluation.samples=1",
    "evaluation.every=0",
    "watch.checkpoint_every=0",
)
SAMPLED = "evaluation", "after", "mini_gsm", "sampled"
KL = "training", "reverse_kl", "last"
ELSEWHERE = {("environment", "torch"): "0.1", ("training", "auc"): 0.123}
OTHERWISE = ELSEWHERE | {("files", RESPONSES): "0" * 64}
"""Elsewhere, and with other answers."""


def at(record: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        record = record[key]
    return record


def edited(record, folder, changes) -> dict:
    """A record with other values and the right hash, in a folder of its own with its series."""
    new = deepcopy({key: value for key, value in record.items() if key not in ("id", "created", "folder")})
    for path, value in changes.items():
        at(new, path[:-1])[path[-1]] = value
    folder.mkdir(parents=True)
    shutil.copyfile(Path(record["folder"]) / SERIES, folder / SERIES)
    return found(write_record(folder, new))


def found(path) -> dict:
    return read_record(path) | {"folder": str(path.parent)}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A real row of seed 0, and others like it, whose KL is spread with a standard deviation of 0.0129."""
    folder = tmp_path_factory.mktemp("official")
    run = small_run(folder / VERSION, "opd", *TINY)
    run.perform()
    record = found(run.folder / "record.json")
    for seed in range(1, 5):
        changes = {("seed",): seed, ("config", "seed"): seed, KL: at(record, KL) + seed / 100}
        edited(record, run.folder.with_name(f"seed-{seed}"), changes)
    return folder


@pytest.fixture(scope="module")
def again(official, tmp_path_factory):
    """What the command says and returns, and the record that it made."""
    out, said = tmp_path_factory.mktemp("results") / "reproduced", StringIO()
    (row,) = official.rglob("seed-0/record.json")
    left = out / f"opd-0-{read_record(row)['id'][:6]}" / "anchors" / "of-an-earlier-try"
    left.mkdir(parents=True)
    with redirect_stdout(said):
        code = main(["opd/0", "--official", str(official), "--out", str(out)])
    assert not left.exists()
    (path,) = out.rglob("record.json")
    return code, said.getvalue(), found(path)


@pytest.fixture
def row(official):
    return official_row(Asked("opd/0", "standard", "fixed", official))


def compared(row, here) -> tuple[int, str]:
    said = StringIO()
    return told(Console(file=said, width=160), row, here), said.getvalue()


def test_a_row_run_again_matches_bit_for_bit(again):
    code, said, _ = again
    assert code == 0, said
    assert "matches, bit for bit: every figure of 2 steps and all responses" in said


def test_a_reproduction_is_a_copy_and_not_ranked(again):
    place = Path(again[2]["folder"]).parents[3]
    assert len(find_records([place])[0]) == 1
    assert find_records([place.parent]) == ([], [])


def test_a_failed_row_matches_if_it_fails_again_at_the_same_place(tmp_path, capsys):
    run = small_run(tmp_path / VERSION, "opd", *TINY, "plan.learning_rate=1e30", "plan.clip=null")
    assert run.perform()["status"] == "nan"
    assert main(["opd/0", "--official", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert "matches, bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("training", "auc"), 0.123),
        (("evaluation", "after", "mini_gsm", "solved"), "1 " * 8),
        (("files", RESPONSES), "0" * 64),
        (("config", "plan", "clip"), 2.0),
        (("protocol", "digest"), "ffffff"),
        (("models", "teacher", "digest"), "f"),
        (("tasks", "mini_gsm", "data"), "f"),
    ],
)
def test_one_other_value_is_found_in_the_same_environment(path, value, row, again, tmp_path):
    changed = edited(row.record, tmp_path / "changed", {path: value})
    code, said = compared(Row(changed, row.others), again[2])
    assert code == 1
    assert ".".join(path) in said
    assert "(fields that differ: 1)" in said
    assert f"git checkout {str(changed['environment']['commit']).removesuffix('-dirty')}" in said


@pytest.mark.parametrize("value", ["7", ""], ids=["another", "none"])
def test_one_other_value_of_one_step_is_found(value, row, again, tmp_path):
    changed = edited(row.record, tmp_path / "changed", {})
    lines = gzip.decompress((tmp_path / "changed" / SERIES).read_bytes()).decode().splitlines()
    cells = lines[2].split(",")
    cells[lines[0].split(",").index("train/loss")] = value
    text = "\n".join([*lines[:2], ",".join(cells), ""])
    code, said = compared(Row(packed(changed, text.encode()), row.others), again[2])
    assert code == 1
    assert "series, train/loss of step 2" in said


def packed(record, text, level=9) -> dict:
    """The record beside another series, which it knows."""
    folder, data = Path(record["folder"]), gzip.compress(text, level, mtime=0)
    (folder / SERIES).write_bytes(data)
    new = {key: value for key, value in record.items() if key not in ("id", "created", "folder")}
    return found(write_record(folder, new | {"files": record["files"] | digests({SERIES: data})}))


def test_another_zlib_packs_other_bytes_and_changes_nothing(row, again, tmp_path):
    changed = edited(row.record, tmp_path / "changed", {("files", RESPONSES): "0" * 64})
    series = gzip.decompress((tmp_path / "changed" / SERIES).read_bytes())
    code, said = compared(Row(packed(changed, series, level=1), row.others), again[2])
    assert code == 0, said
    assert "how zlib packs" in said
    assert "responses are packed otherwise here" in said


def test_when_where_and_by_which_commit_is_free(row, again, tmp_path):
    changes = {("environment", "commit"): "0123", ("config", "results"): "there", ("timing", "tokens_per_second"): 1.0}
    code, said = compared(Row(edited(row.record, tmp_path / "changed", changes), []), again[2])
    assert code == 0, said


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({}, 0, "matches in another environment"),
        ({KL: 0.1}, 0, "matches in another environment"),  # 5.84 √2 0.0129 is 0.107
        ({KL: -0.12}, 1, "NO"),
        ({SAMPLED: 0.15}, 0, "matches in another environment"),  # a standard error of eight problems is 0.18
        ({SAMPLED: 0.25}, 1, "NO"),
        ({("evaluation", "before", "mini_gsm", "greedy"): 0.3}, 1, "NO"),
        ({("config", "plan", "clip"): 1.0}, 1, "What no environment may change"),
        ({("budget", "steps"): 1}, 1, "budget.steps"),
        ({("anchors", "before"): "-other"}, 1, "anchors.before"),
    ],
)
def test_elsewhere_a_run_may_be_as_far_off_as_another_seed(changes, code, words, row, again, tmp_path):
    new = {path: at(row.record, path) + change for path, change in changes.items()}
    changed = edited(row.record, tmp_path / "changed", OTHERWISE | new)
    got, said = compared(Row(changed, row.others), again[2])
    assert (got, "torch" in said, words in said) == (code, True, True), said


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({KL: 1e-4}, 0, "all responses, word for word; figures to"),
        ({KL: 0.1}, 1, "too few seeds"),
        ({SAMPLED: 0.125}, 1, "too few seeds"),
        ({("config", "plan", "clip"): 1.0}, 1, "What no environment may change"),
    ],
)
def test_elsewhere_the_same_answers_need_no_other_seeds(changes, code, words, row, again, tmp_path):
    new = {path: at(row.record, path) + change for path, change in changes.items()}
    changed = edited(row.record, tmp_path / "changed", ELSEWHERE | new)
    got, said = compared(Row(changed, []), again[2])
    assert (got, words in said) == (code, True), said


def test_seeds_differ_around_the_mean_of_their_start():
    def ending_at(value, start="a-student"):
        return content(training={"reverse_kl": {"last": value}}, start=start)

    others = [ending_at(value, f"start-{number // 2}") for number, value in enumerate((0.1, 0.12, 0.7, 0.72))]
    figures = judged(ending_at(0.1), ending_at(0.2), others)
    (reach,) = [figure.reach for figure in figures if "reverse_kl" in figure.name]
    assert reach == pytest.approx(t.ppf(0.995, 2) * 2**0.5 * (4 * 0.01**2 / 2) ** 0.5)


def test_elsewhere_a_run_may_end_as_any_seed_of_its_method_has(row, again, tmp_path):
    failed = OTHERWISE | {("status",): "nan", ("reason",): "a loss is nan at step 2"}
    changed = edited(row.record, tmp_path / "changed", failed)
    assert compared(Row(changed, row.others), again[2])[0] == 0
    code, said = compared(Row(changed, []), again[2])
    assert (code, "status" in said) == (1, True)


def test_of_too_few_seeds_nothing_is_said_to_match(row, again, tmp_path):
    changed = edited(row.record, tmp_path / "changed", OTHERWISE)
    code, said = compared(Row(changed, row.others[:1]), again[2])
    assert (code, "too few seeds" in said) == (1, True)


def test_a_share_without_spread_may_be_one_problem_off():
    alike = [content("opd", seed, 0.0) for seed in range(3)]
    for solved, fits in ((1 / 3, True), (1 / 2, False)):  # of three problems
        figures = judged(alike[0], content("opd", 0, solved), alike[1:])
        assert {one.fits for one in figures if one.name.startswith("evaluation.after")} == {fits}


def test_of_equal_laws_one_in_a_hundred_is_called_different():
    draws, fits = np.random.default_rng(0).normal(0.4, 0.02, (2000, 6)), 0
    for values in draws:
        records = [content(training={"reverse_kl": {"last": float(value)}}) for value in values]
        (one,) = [figure for figure in judged(records[0], records[1], records[2:]) if "reverse_kl" in figure.name]
        fits += one.fits
    assert 0.984 < fits / len(draws) < 0.996


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("opdd/0", r"no official method 'opdd', did you mean opd\?; there are opd"),
        ("opd/9", "no official seed 9 of opd in .*; there are 0, 1, 2, 3, 4"),
        ("opd", "a row is METHOD/SEED, such as tropd/0, got 'opd'"),
        ("opd/last", "a row is METHOD/SEED"),
        ("mini_gsm/opd/0", "no official protocol 'mini_gsm', did you mean mini_gsm-standard-"),
    ],
)
def test_a_row_that_there_is_not_is_refused_with_what_there_is(asked, message, official):
    with pytest.raises(ValueError, match=message):
        official_row(Asked(asked, "standard", "fixed", official))


def test_a_setting_without_rows_is_refused_with_those_that_have_some(official):
    with pytest.raises(ValueError, match=r"no official rows of setting mismatch .* there are setting standard"):
        official_row(Asked("opd/0", "mismatch", "fixed", official))


def test_a_row_may_be_named_by_its_folder(official, row):
    (path,) = official.rglob("seed-0/record.json")
    named = official_row(Asked(str(path.parent.relative_to(official)), "any", "any", official))
    assert named.record["id"] == row.record["id"]
    assert [record["seed"] for record in named.others] == [1, 2, 3, 4]


def test_without_official_results_the_command_says_what_to_do(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["opd/0", "--official", str(tmp_path)])
    assert end.value.code == 1
    assert "no official results" in (said := capsys.readouterr().err)
    assert "git checkout" in said


def test_results_of_another_protocol_version_are_refused_with_their_commit(row, tmp_path):
    changes = {("protocol", "version"): "1.0", ("environment", "commit"): "0123abcd"}
    edited(row.record, tmp_path / "1.0" / "mini_gsm" / "opd-012345" / "seed-0", changes)
    with pytest.raises(ValueError, match=rf"of protocol 1\.0, this code of {VERSION}.*git checkout 0123abcd"):
        official_row(Asked("opd/0", "standard", "fixed", tmp_path))


def test_a_check_of_the_method_is_no_other_setting_and_another_field_is(official, row, tmp_path):
    copy = shutil.copytree(official, tmp_path / "official")
    place = next(copy.rglob("seed-0")).parent
    for name, changes in (("check", {("config", "start"): "embedded/teacher"}), ("other", {})):
        edited(row.record, place.with_name(f"opd-{name}") / "seed-0", changes)
        if name == "check":
            assert official_row(Asked("opd/0", "standard", "fixed", copy)).record["id"] == row.record["id"]
    with pytest.raises(ValueError, match=r"opd was run at several settings: name one of .*opd-other"):
        official_row(Asked("opd/0", "standard", "fixed", copy))
