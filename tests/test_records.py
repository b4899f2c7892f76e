"""Records under hardship: full disks, odd files, folders in folders. The plain cases are in test_reporting."""

import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opd_bench.reporting.files import read_series
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import RUN, RecordError, find_records, outcome, read_record, write_record
from opd_bench.reporting.schemas import from_schema_1
from tests.test_reporting import content, written

ROOT = Path(__file__).parents[1]
MOUNTED = """
import sys; from pathlib import Path
from opd_bench.reporting.record import RecordError, write_record
from tests.results import content
try: write_record(Path(sys.argv[1]), content(reason="x" * 100_000))
except RecordError as error: print(error)
print(*[path.name for path in Path(sys.argv[1]).iterdir()])
"""


def test_the_id_is_the_hash_of_everything_else(tmp_path):
    (record,) = written(tmp_path, content())
    text = json.dumps({key: record[key] for key in record if key != "id"}, sort_keys=True)
    assert record["id"] == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_the_same_run_twice_has_one_outcome_and_two_ids(tmp_path):
    one, two = written(tmp_path, content(), content(timing={"seconds": {"total": 99.0}}))
    assert outcome(one) == outcome(two)
    assert one["id"] != two["id"]
    assert one["created"] <= two["created"]


def test_the_file_is_on_disk_before_it_gets_its_name_and_the_folder_after(tmp_path, monkeypatch):
    seen, real = [], os.fsync

    def fsync(descriptor):
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "record.json").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_record(tmp_path, content())
    assert seen == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("options", "message"), [("size=16k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_real_full_or_read_only_disk_keeps_no_half_record(tmp_path, options, message):
    mount = 'mount -t tmpfs -o "$1" none "$2" || exit 77; shift; folder=$1; shift; exec "$@" "$folder"'
    call = ["unshare", "-rm", "sh", "-c", mount, "sh", options, str(tmp_path), sys.executable, "-c", MOUNTED]
    try:
        result = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("may not mount a disk")
    error, left = result.stdout.splitlines()
    assert f"{tmp_path / 'record.json'} can't be written: {message}. Free some space" in error
    assert left == ""


def test_the_record_before_survives_one_that_can_t_be_written(tmp_path, monkeypatch):
    before = write_record(tmp_path, content()).read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device"):
        write_record(tmp_path, content(seed=1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"record.json": before}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; the read-only disk above stops root too")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RecordError, match="Permission denied"):
        write_record(tmp_path, content())
    tmp_path.chmod(0o700)


def test_a_file_in_the_folder_s_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="Not a directory"):
        write_record(tmp_path / "file", content())


def test_a_folder_that_can_t_be_synced_is_no_failure(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "as on some network file systems")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert read_record(write_record(tmp_path, content()))["seed"] == 0


def test_two_processes_may_write_the_same_file(tmp_path):
    """As two runs of a sweep do that judge the same teacher."""
    code = "import sys; from pathlib import Path; from opd_bench.reporting.record import write_whole\n"
    code += "for _ in range(300): write_whole(Path(sys.argv[1]), sys.argv[2] * 50_000)"
    calls = [[sys.executable, "-c", code, str(tmp_path / "file"), letter] for letter in "ab"]
    processes = [subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE) for call in calls]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 2
    assert (tmp_path / "file").read_text() in ("a" * 50_000, "b" * 50_000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    incomplete = content()
    del incomplete["seed"], incomplete["budget"]
    with pytest.raises(RecordError, match=r"record\.json: lacks seed, budget"):
        write_record(tmp_path, incomplete)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_record(tmp_path, content(config={"path": Path()}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1e999", "1e999 is too large"),
        ("-Infinity", "-Infinity is not JSON"),
        ("[" * 200_000, "recursion"),
        ('{"schema": 2}', "changed after it was written"),
        ("\udcff", "codec can't decode"),
    ],
)
def test_the_oddest_files_are_complaints_too(tmp_path, text, message):
    written(tmp_path, content())
    (tmp_path / "record.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    (tmp_path / "1" / "record.json").mkdir(parents=True)
    records, complaints = find_records([tmp_path])
    assert len(records) == 1
    assert [complaint.split(": ")[0] for complaint in complaints] == [
        str(tmp_path / "1" / "record.json"),
        str(tmp_path / "record.json"),
    ]
    assert message in complaints[1]


def test_a_record_of_the_first_schema_is_read_as_one_of_this(tmp_path):
    """A real one, as version 0.1 wrote it."""
    shutil.copy(ROOT / "tests" / "data" / "record-schema-1.json", tmp_path / "record.json")
    ((record,), complaints) = find_records([tmp_path])
    raw = json.loads((tmp_path / "record.json").read_text())
    assert not complaints
    assert {*RUN.keys} <= record.keys()
    assert (record["schema"], record["status"], record["protocol"]["version"]) == (2, "finished", "0.1")
    assert record["evaluation"]["after"] == {"mini_gsm": raw["evaluation"]["after"]}
    series = read_series(record)
    assert series["train/loss"].tolist() == raw["training"]["series"]["train/loss"]
    known = [value for value in raw["training"]["series"]["eval/greedy"] if value is not None]
    assert series["eval/greedy"][~np.isnan(series["eval/greedy"])].tolist() == known
    (table,) = tables([record])
    assert table.rows[0].accuracy.mean == raw["evaluation"]["after"]["sampled"]
    (tmp_path / "record.json").write_text(json.dumps(raw | {"seed": 1}))
    assert "changed after it was written" in find_records([tmp_path])[1][0]


@pytest.mark.parametrize(
    ("status", "reason", "now"),
    [
        ("diverged", "loss is nan at step 3", "nan"),
        ("diverged", "gradient norm is inf at step 3", "diverged"),
        ("failed", "OSError: nan", "crash"),
        ("out of memory", "", "out of memory"),
    ],
)
def test_what_the_first_schema_called_failures_have_their_names_now(status, reason, now):
    raw = json.loads((ROOT / "tests" / "data" / "record-schema-1.json").read_text())
    assert from_schema_1(raw | {"status": status, "reason": reason})["status"] == now


def test_an_outcome_that_is_none_is_refused(tmp_path):
    with pytest.raises(RecordError, match=r"status must be one of finished, nan, .*, got 'fine'"):
        write_record(tmp_path, content(status="fine"))


def test_folders_in_one_another_give_each_record_once(tmp_path, monkeypatch):
    written(tmp_path, content(), content(seed=1))
    monkeypatch.chdir(tmp_path)
    records, complaints = find_records([tmp_path, tmp_path / "0", Path(), Path("nowhere")])
    assert sorted(record["seed"] for record in records) == [0, 1]
    assert not complaints
