"""The command, as people type it: once as a process of its own, else in this one."""

import csv
import os
import subprocess
import sys

import pytest

from opd_bench.probe import main
from opd_bench.reporting.record import PROBE, read_record
from tests.commands import ended
from tests.runs import small_run

SMALL = ("probe.sets=6", "probe.prefixes=6", "plan.prompts=4")


def command(*arguments, width=160):
    call = [sys.executable, "-m", "opd_bench.probe", *arguments]
    return subprocess.run(call, capture_output=True, text=True, env=os.environ | {"COLUMNS": str(width)})


def test_help_says_what_there_is_and_what_it_does():
    done = command("--help")
    assert done.returncode == 0
    for word in ("methods=[opd,vopd,tropd]", "setting: mismatch, real, standard", "sets: 16", "numbers: 1048576"):
        assert word in done.stdout


def test_a_probe_shows_a_table_and_leaves_record_table_and_plots(tmp_path, capsys):
    arguments = ("methods=[vopd,state_only]", f"results={tmp_path}", *SMALL)
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (folder,) = (tmp_path / "mini_gsm-standard").iterdir()
    record = read_record(folder / "probe.json", PROBE)
    for word in ("vopd", "state_only ⚠", "var. to opd", f"written to {folder}"):
        assert word in done.stdout
    table = (folder / "probe.md").read_text()
    for name in ("variance_against_bias", "snr"):
        assert f"({name}.svg)" in table
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    lines = {line["method"]: line for line in csv.DictReader((folder / "probe.csv").open())}
    variance = record["methods"]["vopd"]["estimates"]["variance"]["value"]
    assert float(lines["vopd"]["estimates.variance.value"]) == variance
    before = (folder / "probe.csv").read_bytes()
    assert ended(main, capsys, *arguments).returncode == 0
    assert (folder / "probe.csv").read_bytes() == before


def test_the_students_of_a_run_make_curves(tmp_path, capsys):
    run = small_run(tmp_path / "runs", "opd", "watch.weights_every=3")
    run.perform()
    arguments = (f'checkpoint="{run.folder}"', "methods=[vopd]", f"results={tmp_path / 'probes'}", *SMALL)
    done = ended(main, capsys, *arguments)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "probes" / "mini_gsm-standard").iterdir()}
    assert {"over_training-seed-0.png", "over_training-seed-0.svg"} <= names
    assert sorted(name.partition("-")[0] for name in names) == ["over_training"] * 2 + [
        f"step{n:06d}" for n in (0, 3, 6)
    ]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("methods=[vpod]", "error: no method 'vpod', did you mean vopd"),
        ("setting=standart", "no setting 'standart', did you mean standard"),
        ("probe.sets=1", "ProbePlan.sets must be ≥ 2, got 1"),
        ("checkpoint=embedded/standart-0", "no model 'embedded/standart-0' in the package; there are"),
        ("checkpoint=no/such/folder/here", "no/such/folder/here"),
    ],
)
def test_what_can_t_be_probed_is_told_in_a_line(argument, words, tmp_path, capsys):
    done = ended(main, capsys, argument, f"results={tmp_path}")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
