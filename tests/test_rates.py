"""What learning rates do: trials by rate, the chosen one, and tuned runs less fixed ones seed by seed."""

import pytest

from opd_bench.report import main
from opd_bench.reporting.contrasts import difference, points
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.rates import markdown
from opd_bench.reporting.record import find_records
from tests.tables import many, run, written

TRIED = {"opd": (0.4, 0.7, 0.123), "gkd": (0.5, 0.6, 0.8)}
GRID = (3e-4, 1e-3, 3e-3)


def under(ruleset: str, rate: float = 1e-3) -> dict:
    own = {} if ruleset == "fixed" else {"tuned": {"learning_rate": rate}}
    return {"protocol": {"setting": "standard", "ruleset": ruleset, "digest": ruleset, **own}, "rate": rate}


@pytest.fixture
def folder(tmp_path):
    """opd is best at the fixed rate, gkd at a higher one; sft has trials and no tuned runs."""
    runs = [*many("opd", 0.7, **under("fixed")), *many("gkd", 0.75, **under("fixed"))]
    runs += [*many("opd", 0.7, **under("tuned")), *many("gkd", 0.85, **under("tuned", 3e-3))]
    for method, solved in {**TRIED, "sft": (0.9, 0.9, 0.9)}.items():
        runs += [run(method, 100, share, **under("trials", rate)) for share, rate in zip(solved, GRID, strict=True)]
    written(tmp_path, *runs)
    return tmp_path


def test_a_line_has_a_method_s_trials_its_rate_in_bold_and_what_that_is_worth(folder, capsys):
    assert main(["rates", str(folder)]) == 0
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in capsys.readouterr().out.splitlines()
    ]
    assert head == ["method", "standard: 0.0003", "0.001", "0.003", "tuned − fixed, points"]
    assert [line[:4] for line in lines] == [
        ["`gkd`", "50.0", "60.0", "**80.0**"],
        ["`opd`", "40.0", "**70.0**", "12.3"],
    ]
    assert lines[0][4].startswith("+10.0 [+")
    assert lines[1][4] == "the same"


def test_the_gain_is_of_the_seeds_that_both_have(folder):
    found = {table.protocol["ruleset"]: table for table in tables(find_records([folder])[0])}
    ours, theirs = (next(row for row in found[ruleset].rows if row.method == "gkd") for ruleset in ("tuned", "fixed"))
    fewer = theirs._replace(runs=theirs.runs[:2])
    own = difference(ours, fewer)
    assert own.mean == pytest.approx(0.1)
    assert f"{points(difference(ours, theirs))} |" in markdown([*found.values()])


def test_a_setting_without_the_others_has_no_trials_and_no_gain(folder, capsys):
    hard = {"name": "mini_gsm-mismatch", "setting": "mismatch", "ruleset": "tuned", "digest": "hard"}
    own = {"protocol": hard | {"tuned": {"learning_rate": 1e-3}}, "rate": 1e-3}
    written(folder / "more", *many("gkd", 0.5, **own), *many("opd", 0.4, **own))
    assert main(["rates", str(folder)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| `gkd`"))
    assert line.endswith("| — | — | — | — |")


def test_without_trials_it_is_said_that_there_are_none(tmp_path, capsys):
    written(tmp_path, *many("opd", 0.7, **under("fixed")))
    with pytest.raises(SystemExit):
        main(["rates", str(tmp_path)])
    assert "no records of the ruleset trials" in capsys.readouterr().err
