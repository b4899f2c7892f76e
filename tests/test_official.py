"""The official tables: rebuilt in place, byte for byte, whoever does it and wherever the records lie."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from opd_bench.report import main
from tests.results import content, results

ROOT = Path(__file__).parents[1]
OFFICIAL = ROOT / "results" / "official"
FILES = ("leaderboard.md", "leaderboard.csv", "runs.csv", "report.html")
OLDER = {
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX512F",
}
"""What makes a machine compute as one without the newest instructions, and on more threads."""


def runs(method: str = "opd", solved: float = 0.5, seeds: int = 5, **changes):
    """Five seeds that differ by no round number."""
    return [content(method, seed, solved + 0.0137 * (seed % 3), **changes) for seed in range(seeds)]


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A checkout's results with official ones under two settings, seen from its root."""
    monkeypatch.chdir(tmp_path)
    hard = {"protocol": {"name": "sums-hard", "digest": "d"}}
    known = [*runs(), *runs("vopd", 0.71), *runs("gkd", 0.83), content("sft", 1, status="nan", reason="at step 3")]
    return results(Path("results/official/2.0"), *known, *runs(**hard), *runs("vopd", 0.9, **hard))


def built(folder: Path) -> dict[str, bytes]:
    """What a folder's report is, as bytes."""
    return {name: (folder / name).read_bytes() for name in FILES}


def test_without_a_folder_each_official_one_is_rebuilt_in_place_and_nothing_else_is_written(official, capsys):
    results(Path("results/official/3.0"), *runs())
    assert main([]) == 0
    for folder in (official, official.with_name("3.0")):
        files = {path.name for path in folder.iterdir() if path.is_file()}
        assert files == set(FILES)
        assert not (folder / "plots").exists()
    assert {path.name for path in Path("results").iterdir()} == {"official"}
    assert "vopd" in capsys.readouterr().out


def test_own_runs_come_beside_the_official_ones_in_results_alone(official, capsys):
    main([])
    before = built(official)
    results(Path("results/runs"), *runs("mine", 0.6))
    assert main([]) == 0
    assert built(official) == before
    table = Path("results/leaderboard.md").read_text()
    assert ("| mine |" in table, "| vopd |" in table) == (True, True)
    assert Path("results/plots").is_dir()
    assert capsys.readouterr().out.count("written:") == 2


def test_a_user_s_run_of_an_official_row_is_a_row_beside_it_and_a_copy_is_none(official):
    main([])
    alone = (official / "leaderboard.md").read_text().splitlines()
    results(Path("results/runs"), content("vopd", 0, 0.2), content("opd", 0, 0.3))
    shutil.copytree(next(official.glob("abc123/method-7")), "results/runs/copy")
    main([])
    beside = Path("results/leaderboard.md").read_text().splitlines()
    official_rows = [line.split(" | ")[1:4] for line in alone if line.startswith("| ")]
    rows = [line.split(" | ")[1:4] for line in beside if line.startswith("| ")]
    own = [row for row in rows if row not in official_rows]
    assert [(row[0], row[1]) for row in own] == [("opd[run=own]", "1"), ("vopd[run=own]", "1")]
    assert [row for row in rows if row in official_rows] == official_rows
    assert "older record" not in "\n".join(beside)


def test_neither_place_nor_order_nor_what_is_not_committed_changes_a_byte(official, tmp_path):
    main([])
    here, elsewhere = built(official), tmp_path / "clone" / "official" / "other"
    folders = [path.parent for path in official.rglob("record.json")]
    random.Random(1).shuffle(folders)
    for folder in folders:
        shutil.copytree(folder, elsewhere / folder.relative_to(official), ignore=shutil.ignore_patterns("responses*"))
        os.utime(elsewhere / folder.relative_to(official) / "record.json", (1, 1))
    assert main([str(elsewhere)]) == 0
    assert built(elsewhere) == here
    assert str(tmp_path).encode() not in b"".join(here.values())
    assert b"What its student wrote" not in here["report.html"]


def test_an_older_machine_writes_the_same_bytes(official):
    main([])
    here = built(official)
    for name in FILES:
        (official / name).unlink()
    command = [sys.executable, "-m", "opd_bench.report", str(official)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | OLDER | {"PYTHONPATH": str(ROOT)})
    assert built(official) == here


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="no official results in this checkout (results/official)")
def test_the_committed_tables_are_what_their_records_give(tmp_path):
    folders = [path.parent for path in sorted(OFFICIAL.glob("*/leaderboard.md"))]
    assert folders, f"{OFFICIAL} has records and no tables: make leaderboard writes them"
    for folder in folders:
        again = tmp_path / "official" / folder.name
        shutil.copytree(
            folder, again, ignore=shutil.ignore_patterns("checkpoints", "tensorboard", "responses*", *FILES)
        )
        assert main([str(again)]) == 0
        different = [name for name, text in built(again).items() if text != (folder / name).read_bytes()]
        assert not different, f"{folder}: {different} are not what the records give; make leaderboard writes them anew"
