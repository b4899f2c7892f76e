"""A record with the right hash may still be anything: it is refused by name, or all outputs are made of it."""

import copy
import hashlib
import json
import random
from pathlib import Path

import pytest

from opd_bench.reporting.formats import as_csv, markdown, runs_csv, terminal
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.page import page
from opd_bench.reporting.record import RecordError, find_records, read_record
from tests.runs import small_run
from tests.synthetic import run, runs, written

ODD = (None, "", "x", "nan", -1, 0, 10**29, 1e308, True, [], ["x"], [[1]], {}, {"x": 1}, {"x": {"y": "z"}}, "a\nb|<c>")


def forged(folder: Path, record: dict) -> Path:
    """As someone would who knows how records are hashed."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in record.items() if key not in ("id", "folder")}
    path = folder / "record.json"
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    path.write_text(json.dumps(content | {"id": identity}))
    return path


def places(value, path=()):
    """Everywhere in a record."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))


@pytest.mark.parametrize(
    ("where", "what", "message"),
    [
        ("seed", "0", "seed must be a whole number, got '0'"),
        ("method", ["opd"], r"method must be names and values, got \['opd'\]"),
        ("method.name", None, "method.name must be text, got None"),
        ("method.settings", 3, "method.settings must be names and values, got 3"),
        ("evaluation.after", None, "evaluation.after must be names and values, got None"),
        ("evaluation.after.mini_gsm", 0.5, "evaluation.after.mini_gsm must be names and values, got 0.5"),
        ("evaluation.after.mini_gsm.sampled", 1.5, "evaluation.after.mini_gsm.sampled must be a share, got 1.5"),
        ("config.plan", [], r"config.plan must be names and values, got \[\]"),
        ("method.formula", {}, "method.formula must be text"),
        ("status", "fine", "status must be one of finished, nan"),
        ("method.title", "\ud800", "surrogates not allowed"),
        ("budget.steps", 10**31, "is too large"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(tmp_path, where, what, message):
    record = run("opd", 0, 0.5)
    *path, last = where.split(".")
    inner = record
    for key in path:
        inner = inner[key]
    inner[last] = what
    with pytest.raises(RecordError, match=message):
        read_record(forged(tmp_path, record))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """What a run wrote."""
    return small_run(tmp_path_factory.mktemp("real"), "tropd").perform()


def test_what_a_run_writes_has_the_shape(real, tmp_path):
    record = real
    assert read_record(forged(tmp_path / "again", record))["seed"] == record["seed"]


def test_one_odd_value_anywhere_is_refused_or_shown_and_spoils_nothing(real, tmp_path):
    rng, record = random.Random(0), copy.deepcopy(real)
    others = written(tmp_path / "others", runs("tropd", [0.4, 0.5]))
    record["protocol"] = others[0]["protocol"]
    refused, everywhere = 0, list(places(record))
    for number in range(120):
        odd, where = copy.deepcopy(record), rng.choice(everywhere)
        inner = odd
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = rng.choice(ODD)
        found, complaints = find_records([forged(tmp_path / "odd" / str(number), odd).parent])
        refused += len(complaints)
        made = tables([*others, *found])
        assert any(row.method.startswith("tropd") and row.finished >= 2 for table in made for row in table.rows), where
        for text in (markdown(made), as_csv(made), runs_csv(made), page(made, complaints)):
            text.encode()
        assert [terminal(table, 80) for table in made]
    assert 5 < refused < 115
