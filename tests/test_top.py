"""The table and the picture for who reads nothing else."""

import pytest
from matplotlib.image import imread

from opd_bench.report import main
from opd_bench.reporting.leaderboard import Row, tables
from opd_bench.reporting.plots.top import overview
from opd_bench.reporting.record import find_records
from opd_bench.reporting.statistics import Estimate
from opd_bench.reporting.top import Entry, settings
from tests.tables import many, run, written

HARD = {"name": "mini_gsm-mismatch", "digest": "fff000", "setting": "mismatch", "ruleset": "fixed"}
EASY = {"setting": "standard", "ruleset": "fixed"}


@pytest.fixture
def folder(tmp_path):
    """Two settings: gkd is first in both, opd third and second; sft has too few seeds in one, state_only is wrong."""
    runs = []
    for protocol, solved in ((EASY, (0.9, 0.7, 0.8)), (HARD, (0.6, 0.3, 0.1))):
        for method, accuracy in zip(("gkd", "opd", "vopd"), solved, strict=True):
            runs += many(method, accuracy, protocol=protocol)
        runs += many("state_only", 0.95, warning="known", protocol=protocol)
    runs += [*many("sft", 0.97, protocol=EASY), run("sft", accuracy=0.97, protocol=HARD)]
    runs += many(
        "opd", 0.5, protocol=EASY | {"ruleset": "tuned", "digest": "t", "tuned": {"learning_rate": 3e-4}}, rate=3e-4
    )
    written(tmp_path, *runs)
    return tmp_path


def shown(folder, capsys, *arguments):
    assert main(["top", str(folder), *arguments]) == 0
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in capsys.readouterr().out.splitlines()]


def test_methods_come_by_their_bands_in_all_settings_then_by_what_they_solve(folder, capsys):
    head, _, *rows = shown(folder, capsys)
    assert head == ["method", "standard: band", "standard: solved %", "mismatch: band", "mismatch: solved %"]
    assert [row[0] for row in rows] == ["`gkd`", "`opd`", "`vopd`", "untrained student", "teacher"]
    assert [(row[1], row[3]) for row in rows] == [("2", "1"), ("4", "2"), ("3", "3"), ("", ""), ("", "")]
    assert rows[0][2].startswith("90.0 [")
    assert (rows[-2][2], rows[-1][4]) == ("20.0", "99.0")


def test_bands_come_before_what_is_solved():
    def row(band, solved):
        return Row("some", accuracy=Estimate(solved))._replace(band=band)

    low, high = Entry("low", [row(1, 0.5), row(3, 0.1)]), Entry("high", [row(2, 0.9), row(3, 0.9)])
    assert low.order < high.order < Entry("higher", [row(2, 0.9), row(3, 0.8)]).order


def test_as_many_rows_as_are_asked_for_and_the_rate_where_it_is_the_method_s_own(folder, capsys):
    assert [row[0] for row in shown(folder, capsys, "--rows", "1")[2:]] == ["`gkd`", "untrained student", "teacher"]
    head, _, first, *_ = shown(folder, capsys, "--ruleset", "tuned")
    assert head == ["method", "standard: band", "standard: lr", "standard: solved %"]
    assert first[:3] == ["`opd`", "1", "0.0003"]


def test_the_picture_has_every_method_the_wrong_ones_marked_and_is_nine_hundred_pixels_wide(folder, capsys):
    shown(folder, capsys, "--plot", str(folder / "pictures" / "top.png"))
    assert imread(folder / "pictures" / "top.png").shape[1] == 900
    figure = overview(settings(tables(find_records([folder])[0]), "fixed"))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["gkd", "opd", "vopd", "sft", "state_only ⚠"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["standard: solved, %", "mismatch: solved, %"]
    means = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_marker() in ("o", "X")]
    assert means == pytest.approx([60, 30, 10, 97, 95])


def test_what_is_not_there_or_not_one_is_said(folder, tmp_path, capsys):
    written(folder / "more", *many("opd", 0.5, protocol=EASY | {"digest": "other"}))
    for arguments, words in ((["--ruleset", "fixed"], "are both of standard"), ([], "no records in")):
        with pytest.raises(SystemExit):
            main(["top", *([str(folder)] if arguments else [str(tmp_path / "nothing")]), *arguments])
        assert words in capsys.readouterr().err
