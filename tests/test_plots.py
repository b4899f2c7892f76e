"""The plots of a leaderboard: what is drawn where, in words and in colours, and what a page can rely on."""

import itertools
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from opd_bench.reporting.drawing import blank, fix, styled
from opd_bench.reporting.labels import Label, beside
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.plots import curves, drawings, pictures, readings, write_pictures
from opd_bench.reporting.plots.forest import differences
from opd_bench.reporting.plots.looks import ALL, COLOURS, INK, WRONG, looks
from opd_bench.reporting.plots.over_time import NORM, SOLVED, over_training
from opd_bench.reporting.plots.rates import rate_sensitivity
from opd_bench.reporting.plots.readings import Curve, envelope, reading, smooth, thin, with_interval
from opd_bench.reporting.plots.scatter import against_bias, cost_against_accuracy, variance_against_accuracy
from opd_bench.reporting.plots.words import size
from opd_bench.reporting.record import find_records, short_digest
from opd_bench.reporting.statistics import interval
from tests.tables import crowd, many, nth, run, series, written

METHODS = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "method").glob("*.yaml"))
SVG = "{http://www.w3.org/2000/svg}"
LIGHT, DARK = "#ffffff", "#14171c"
HOSTILE = '\x00\x1b\x01<script>alert(1)</script> & "$x$" \'|\n_y ' + "long " * 40
NAMES = ["accuracy_curves", "paired_differences", "variance_against_bias", "variance_against_accuracy"]
NAMES += ["gradient_norms", "learning_rates", "cost_against_accuracy"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three methods and one that is known to be wrong, at two learning rates."""
    runs = [*many("opd", 0.7), *many("vopd", 0.8, variance=0.5, seconds=20.0), *many("gkd", 0.9, tokens=80_000.0)]
    runs += [*many("state_only", 0.78, warning="known", seconds=10.0), run("lonely", accuracy=0.75, seconds=90.0)]
    faster = {"rate": 3e-3, "protocol": {"digest": "def456"}}
    runs += [*many("opd", 0.5, 3, **faster), *many("vopd", 0.6, 3, **faster)]
    return written(tmp_path_factory.mktemp("small"), *runs)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Every method there is."""
    return written(tmp_path_factory.mktemp("large"), *crowd(METHODS))


@pytest.fixture(scope="module")
def drawn(small, large):
    """The pictures of both."""
    return {id(found): pictures(largest(found), found) for found in (small, large)}


@pytest.fixture(scope="module")
def figures(small, large):
    """The drawings of both, by name, as they are before anybody writes them; draw them and change nothing."""
    return {id(found): {one.name: one for one in drawings(largest(found), found)} for found in (small, large)}


def largest(found):
    return max(found, key=lambda one: len(one.rows))


def row_of(table, method):
    return next(row for row in table.rows if row.method == method)


def artists(figure, table, method, axes=0):
    """What shows a method, by its gid."""
    gid = looks(table)[method].gid
    return [artist for artist in figure.axes[axes].findobj() if artist.get_gid() == gid]


def lines_of(figure, table, method, axes=0):
    return [one for one in artists(figure, table, method, axes) if hasattr(one, "get_xdata") and len(one.get_xdata())]


def point_of(figure, table, method, axes=0):
    (line,) = lines_of(figure, table, method, axes)
    (x,), (y,) = line.get_xdata(), line.get_ydata()
    return float(x), float(y)


def notes(figure):
    return " ".join(figure.get_supxlabel().split())


def words(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# ---------------------------------------------------------------- all plots


def test_all_seven_come_in_their_order_and_what_has_no_data_is_left_out(small, drawn, tmp_path):
    table = largest(small)
    assert [picture.name for picture in drawn[id(small)]] == NAMES
    assert [drawing.name for drawing in drawings(table, [table])] == [*NAMES[:5], NAMES[6]]
    failed = run(
        status="nan", reason="loss is nan", evaluation={"after": {}}, training={}, timing={}, budget={}, series=None
    )
    (nothing,) = written(tmp_path, failed)
    assert pictures(nothing, [nothing]) == []
    assert curves(nothing, nothing.rows[0]) == []
    assert write_pictures(nothing, [nothing], tmp_path) == []


@pytest.mark.parametrize("which", ["small", "large"])
def test_each_svg_can_stand_in_a_page(which, request, drawn):
    found = request.getfixturevalue(which)
    table = largest(found)
    everything = [*drawn[id(found)], *(one for row in table.rows[:8] for one in curves(table, row))]
    assert len({one.name for one in everything}) == len(everything)
    ids, referred = [], set()
    for one in everything:
        assert len(one.svg.encode()) < 150_000
        assert not re.search(r"<\?xml|<!DOCTYPE|<script|<style|<image|https?://(?!www\.w3\.org/2000/svg\")", one.svg)
        assert not re.search(r"\d\.\d{3}", re.sub(r">[^<]*<", "><", one.svg))
        root = ElementTree.fromstring(one.svg)
        own = [element.get("id") for element in root.iter() if element.get("id")]
        referred |= set(re.findall(r"(?:href=\"|url\()#([^\")]+)", one.svg))
        assert (root.get("role"), root.get("width")) == ("img", "100%")
        title, description = (root.find(f"{SVG}{tag}") for tag in ("title", "desc"))
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert (title.text, description.text) == (one.title, one.alt)
        ids += own
    assert len(set(ids)) == len(ids)
    assert referred <= set(ids)


def test_neutral_colours_are_the_page_s_and_text_is_text(small, drawn):
    for one in drawn[id(small)]:
        colours = set(re.findall(r"#[0-9a-fA-F]{3,8}\b", re.sub(r"(href=\"|url\()#[^\")]+", "", one.svg)))
        assert {colour.upper() for colour in colours} <= {*COLOURS, WRONG}
        assert {"var(--ink)", "var(--paper)", "var(--line)", "var(--dim)"} >= set(re.findall(r"var\([^)]*\)", one.svg))
        assert "font-family" not in one.svg
        assert "better →" in " ".join(words(one.svg)) or "steadier" in one.svg or one.name == "gradient_norms"
    assert "stroke:var(--ink)" in drawn[id(small)][0].svg  # the reference


def test_every_method_is_named_and_can_be_found_by_a_page(large, drawn):
    (table,) = large
    expected = {row.method for row in table.rows}
    for one in drawn[id(large)]:
        root = ElementTree.fromstring(one.svg)
        groups = [element for element in root.iter() if element.get("data-method")]
        absent = {"opd"} if one.name == "paired_differences" else set()
        assert {group.get("data-method") for group in groups} == expected - absent
        assert all(group.find(f"{SVG}title").text == group.get("data-method") for group in groups)
        if "curves" not in one.name and "norms" not in one.name:
            said = re.split(r"[^\w-]+", " ".join(words(one.svg)))  # beside a point, or among those on the edge
            assert expected - absent <= set(said)


def test_the_same_records_give_the_same_pictures_whatever_the_user_s_settings(small, drawn, tmp_path):
    table, contents = largest(small), []
    for folder, changes in (("one", {}), ("two", {"font.size": 30, "svg.hashsalt": "x", "axes.facecolor": "pink"})):
        readings._reading.cache_clear()
        with matplotlib.rc_context(changes):
            before = dict(matplotlib.rcParams)
            if changes:
                assert pictures(table, small) == drawn[id(small)]
            paths = write_pictures(table, small, tmp_path / folder)
            assert dict(matplotlib.rcParams) == before
        contents.append([(path.name, path.read_bytes()) for path in paths])
    assert contents[0] == contents[1]
    assert [name for name, _ in contents[0]] == [f"{name}.{form}" for name in NAMES for form in ("png", "svg")]
    assert {content[:4] for _, content in contents[0]} == {b"\x89PNG", b"<?xm"}


def test_hostile_names_are_shown_as_text(tmp_path):
    runs = [*many("opd", 0.5, 2), *many(HOSTILE, 0.7, 2, warning=HOSTILE), *many("", 0.6, 2)]
    table, *_ = found = written(tmp_path, *(one | {"protocol": one["protocol"] | {"name": "<b>$x"}} for one in runs))
    hostile = next(row for row in table.rows if "script" in row.method)
    shown = pictures(table, found)
    for one in [*shown, *curves(table, hostile)]:
        root = ElementTree.fromstring(one.svg)
        assert "<script" not in one.svg
        assert not set(re.findall(r"[\x00-\x08\x0b-\x1f]", one.svg))
        names = {element.get("data-method") for element in root.iter() if element.get("data-method")}
        assert re.sub("[\x00\x1b\x01]", "\ufffd", hostile.method) in names
    assert any(text.startswith("\ufffd\ufffd\ufffd<script>alert(1)") for text in words(shown[1].svg))
    assert "(no name)" in words(shown[1].svg)
    assert len(write_pictures(table, found, tmp_path / "out")) == 12


def test_pictures_need_no_display_no_pyplot_and_no_torch():
    absent = ("torch", "lightning", "transformers", "hydra", "matplotlib.pyplot")
    code = f"import sys, opd_bench.reporting.plots; print([name for name in {absent} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---------------------------------------------------------------- looks


def luminance(colour):
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return np.dot(parts, (0.2126, 0.7152, 0.0722))


@pytest.mark.parametrize("colour", [*COLOURS, WRONG])
def test_colours_are_seen_on_white_and_on_a_dark_page(colour):
    for page in (LIGHT, DARK):
        low, high = sorted((luminance(colour), luminance(page)))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_few_methods_are_all_told_apart_and_of_many_the_best_and_the_reference(small, large, tmp_path):
    (ten,) = written(tmp_path, *(run(f"m{number}") for number in range(ALL - 1)), run("opd"))
    for table in (max(small, key=lambda one: len(one.rows)), ten):
        found = looks(table).values()
        assert all(look.chosen for look in found)
        assert len({(look.colour, look.dash) for look in found}) == len({look.shape for look in found}) == len(found)
    (table,) = large
    chosen = [row for row in table.rows if looks(table)[row.method].chosen]
    best = [row.method for row in table.rows if not row.warning and row.method != "opd"][: len(COLOURS)]
    assert {row.method for row in chosen} == {*best, "opd", *(row.method for row in table.rows if row.warning)}
    assert looks(table)["opd"].colour == INK
    figure = over_training(table, SOLVED).figure
    assert "Coloured: the 6 best, the reference opd" in notes(figure)


# ---------------------------------------------------------------- curves


def test_a_curve_is_the_smoothed_mean_of_its_seeds_and_the_band_its_interval(small):
    table = largest(small)
    drawing = over_training(table, SOLVED)
    raw = np.array([series(nth("vopd", 0.8, seed), 2.0, 40, seed)["train/accuracy"] for seed in range(5)])
    window = reading(row_of(table, "vopd")).window
    assert (window, f"of {window} steps" in notes(drawing.figure)) == (3, True)
    means = [raw[:, max(step - 1, 0) : step + 2].mean(1) for step in range(40)]
    line, marks = lines_of(drawing.figure, table, "vopd")
    assert line.get_xdata().tolist() == list(range(1, 41))
    np.testing.assert_allclose(line.get_ydata(), [100 * own.mean() for own in means], rtol=1e-5)
    assert marks.get_xdata().tolist() == [10, 20, 30, 40]
    validation = [series(nth("vopd", 0.8, seed), 2.0, 40, seed)["eval/sampled"][19] for seed in range(5)]
    assert marks.get_ydata()[1] == pytest.approx(100 * np.mean(validation), rel=1e-5)
    expected = interval(means[20][:, None], 0)
    solved = reading(row_of(table, "vopd")).solved
    assert (solved.low[20], solved.high[20]) == pytest.approx((100 * expected.low, 100 * expected.high), rel=1e-3)
    (band,) = [one for one in artists(drawing.figure, table, "vopd") if isinstance(one, PolyCollection)]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((solved.low.min(), solved.high.max()))
    assert f"vopd {line.get_ydata()[0]:.1f} to {line.get_ydata()[-1]:.1f}" in drawing.alt


def test_one_seed_has_no_band(small, tmp_path):
    table = largest(small)
    for panel in (SOLVED, NORM):
        figure = over_training(table, panel).figure
        kinds = {name: [type(one).__name__ for one in artists(figure, table, name)] for name in ("lonely", "gkd")}
        assert "FillBetweenPolyCollection" not in kinds["lonely"]
        assert "FillBetweenPolyCollection" in kinds["gkd"]
        assert "Shaded" in notes(figure)
    (alone,) = written(tmp_path, run("opd"))
    assert "Shaded" not in notes(over_training(alone, SOLVED).figure)
    assert "Shaded" not in over_training(alone, NORM).figure.get_supxlabel()


def test_gaps_infinities_and_runs_of_different_lengths_lose_nothing_else(tmp_path):
    broken = series(0.8, 2.0, 40)
    broken["train/accuracy"][10:20] = [None] * 10
    broken["train/accuracy"][30] = float("nan")
    broken["grad/norm"][5:8] = [float("inf"), None, 1e9]
    short, silent = series(0.6, 2.0, 20, 1), {"grad/norm": [1.0, 2.0], "eval/sampled": [None, 0.5]}
    runs = [run("opd", 0, series=broken), run("opd", 1, series=short)]
    runs += [run("sft", 0, series=silent), run("x", 0, series={})]
    (table,) = written(tmp_path, *runs)
    found = reading(row_of(table, "opd"))
    assert found.solved.steps[[0, -1]].tolist() == [1, 40]
    assert np.isfinite(found.solved.middle[:20]).all()  # the shorter run has what the other lacks
    assert np.isfinite(found.solved.low).tolist() == [*[True] * 11, *[False] * 8, True, *[False] * 20]
    figure = over_training(table, NORM).figure
    (line,) = lines_of(figure, table, "opd")
    assert np.nanmax(line.get_ydata()) == pytest.approx(np.median([1e9, short["grad/norm"][7]]), rel=1e-5)
    assert "Infinite norms, not drawn: opd (1)." in notes(figure)
    assert "Not shown, for want of finished steps: x." in notes(figure)
    found = lines_of(over_training(table, SOLVED).figure, table, "sft")
    (marks,) = [line for line in found if line.get_marker() != "None"]
    assert (marks.get_xdata().tolist(), marks.get_ydata().tolist()) == ([2], [50])
    assert [one.name for one in curves(table, row_of(table, "x"))] == []


def test_series_that_can_t_be_read_are_left_out_and_named(tmp_path):
    runs = [*many("opd", 0.5, 3), run("gone", 0), run("none", 0, series=None)]
    written(tmp_path, *runs)
    (tmp_path / "00000" / "series.csv.gz").write_bytes(b"changed")
    (tmp_path / "00003" / "series.csv.gz").unlink()
    (table,) = tables(find_records([tmp_path])[0])
    figure = over_training(table, SOLVED).figure
    assert "Runs whose series can't be read: gone (1), opd (1)." in notes(figure)
    assert reading(row_of(table, "opd")).runs == 2
    assert "can't be read: opd (1)" in curves(table, row_of(table, "opd"))[0].alt


def test_of_long_runs_few_points_are_kept_and_every_spike(tmp_path):
    long = {"train/accuracy": [0.5] * 3000, "grad/norm": [1.0] * 3000}
    long["grad/norm"][1234] = 500.0
    (table,) = written(tmp_path, *(run("opd", seed, series=long) for seed in range(3)))
    found = reading(table.rows[0])
    for curve in (found.solved, found.norm):
        assert len(curve.steps) <= readings.POINTS
        assert all(part.dtype == np.float32 for part in curve)
    at = int(np.nanargmax(found.norm.middle))
    assert (found.norm.steps[at], found.norm.middle[at], found.norm.high[at]) == (1235, 500, 500)
    coarse = envelope(found.norm, 30)
    assert (len(coarse.steps) <= 30, coarse.middle.max()) == (True, 500)
    even = thin(Curve(*np.arange(400, dtype=np.float32).reshape(4, 100)), 10)
    assert (even.steps[[0, -1]].tolist(), len(even.steps)) == ([0, 99], 10)


def test_smoothing_and_intervals_know_what_is_missing():
    assert smooth(np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan]), 3)[:4].tolist() == [1, 2, 3, 3]
    assert np.isnan(smooth(np.array([1.0, np.nan, np.nan]), 1)[1:]).all()
    mean, low, high = with_interval(np.array([[1.0, 1.0, np.nan], [3.0, np.nan, np.nan]]))
    assert (mean[:2].tolist(), np.isnan(mean[2])) == ([2, 1], True)
    assert (low[0], high[0]) == (0, pytest.approx(2 + 12.706, rel=1e-3))
    assert np.isnan([low[1:], high[1:]]).all()


def test_the_names_of_curves_lie_beside_them_and_not_over_one_another(large, figures):
    (table,) = large
    figure = figures[id(large)]["accuracy_curves"].figure
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(note) for note in axes.texts]
    assert len(boxes) == sum(look.chosen for look in looks(table).values())
    assert all(axes.bbox.x1 < box.x0 < box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0])
def test_names_of_curves_that_end_together_stay_within_the_height_of_the_axes(height):
    with styled():
        figure, (axes,) = blank("", (5, 3))
        fix(figure, [])
        notes = beside(axes, [Label(f"m{number}", 1.0, height, "black") for number in range(12)])
        figure.canvas.draw()
    boxes = [Text.get_window_extent(note) for note in notes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert min(box.y1 for box in boxes) > axes.bbox.y0
    assert max(box.y1 for box in boxes) <= axes.bbox.y1 + 1


def test_one_method_s_curves_show_it_the_reference_and_the_others_in_grey(small):
    table = largest(small)
    for row in table.rows:
        accuracy, norm = curves(table, row)
        assert (row.method in accuracy.title, row.method in norm.alt) == (True, True)
        for one in (accuracy, norm):
            root = ElementTree.fromstring(one.svg)
            assert {group.get("data-method") for group in root.iter() if group.get("data-method")} == {row.method}
            shared = f"{one.name.rsplit('_', 1)[0]}_below_0-{short_digest(table.title)}"
            assert (f'id="{shared}"' in one.svg, f'href="#{shared}"' in one.svg) == (
                first := row is table.rows[0],
                not first,
            )
            assert ("Dashed: opd." in " ".join(words(one.svg))) == first
            assert len(one.svg) < 9_000 or first
        drawn = ElementTree.tostring(ElementTree.fromstring(accuracy.svg).find(f"{SVG}g[@data-method]"), "unicode")
        assert row.method == "opd" or looks(table)[row.method].colour.lower() in drawn.lower()
    assert curves(table, table.rows[0]) == curves(table, table.rows[0])


def test_series_are_read_once_and_of_very_many_rows_only_some(tmp_path, monkeypatch):
    calls, real = [], readings.read_series
    monkeypatch.setattr(readings, "read_series", lambda record: calls.append(record["folder"]) or real(record))
    runs = [run(f"m{number:03d}", accuracy=0.5 + number / 1000, steps=10) for number in range(110)]
    (table,) = written(tmp_path, *runs)
    drawn = [over_training(table, SOLVED), over_training(table, NORM), differences(table) or against_bias(table)]
    assert len(set(calls)) == len(calls) == 46
    assert all("64 of 110 methods are left out" in notes(one.figure) for one in drawn)
    for row in table.rows[:100]:
        assert len(curves(table, row)) == 2
    assert len(set(calls)) == len(calls) <= 110


# ---------------------------------------------------------------- points


def test_points_are_where_the_numbers_are(small):
    table = largest(small)
    both, accuracy, cost = (make(table) for make in (against_bias, variance_against_accuracy, cost_against_accuracy))
    assert point_of(both.figure, table, "vopd") == pytest.approx((0.2, 0.5))
    assert point_of(accuracy.figure, table, "vopd") == pytest.approx((0.5, 80))
    assert point_of(cost.figure, table, "vopd") == pytest.approx((20, 80))
    assert point_of(cost.figure, table, "gkd", 1) == pytest.approx((80_000, 90))
    assert "vopd 0.5 at bias 0.2" in both.alt
    assert "vopd 80 at 0.5" in accuracy.alt
    assert "gkd 90 in 30 s" in cost.alt
    assert "better than one of these: vopd, gkd." in cost.alt
    ends = row_of(table, "vopd").accuracy
    assert any(
        bar[:, 1] == pytest.approx((100 * ends.low, 100 * ends.high)) for bar in bars_of(accuracy, table, "vopd")
    )
    assert not any(np.ptp(bar, axis=0).any() for bar in bars_of(accuracy, table, "lonely"))


def bars_of(drawing, table, method):
    """Its intervals, across and up."""
    found = [one for one in artists(drawing.figure, table, method) if hasattr(one, "get_segments")]
    assert len(found) == 2
    return [one.get_segments()[0] for one in found]


def test_what_is_known_wrong_has_its_own_shape_and_colour_and_lies_on_top(small):
    table = largest(small)
    figure = against_bias(table).figure
    (wrong,) = lines_of(figure, table, "state_only")
    others = [line for name in ("opd", "gkd", "vopd", "lonely") for line in lines_of(figure, table, name)]
    assert (wrong.get_marker(), wrong.get_color()) == ("X", WRONG)
    assert not {"X", WRONG} & {value for one in others for value in (one.get_marker(), one.get_color())}
    assert wrong.get_zorder() > max(one.get_zorder() for one in others)
    assert {"state_only ⚠", "opd"} == {note.get_text() for note in figure.axes[0].texts if note.get_weight() == "bold"}


def test_no_variance_is_on_the_edge_and_what_is_not_finite_is_named(tmp_path):
    runs = [run("opd"), run("still", variance=1e-31), run("wild", variance=float("inf")), run("blind", variance=None)]
    (table,) = written(tmp_path, *runs)
    for make, axis in ((against_bias, 1), (variance_against_accuracy, 0)):
        figure = make(table).figure
        edge = (figure.axes[0].get_xlim(), figure.axes[0].get_ylim())[axis][0]
        assert point_of(figure, table, "still")[axis] == pytest.approx(edge)
        assert "On the edge, without variance: still." in notes(figure)
        assert "Not shown, for want of a finite number: blind, wild." in notes(figure)
        assert edge > 0.1


def test_the_front_is_what_nothing_else_beats_and_no_known_wrong_method_is_on_it(small):
    table = largest(small)
    figure = cost_against_accuracy(table).figure
    stairs = [line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_xdata().tolist() for line in stairs] == [[20, 30]]
    assert [[round(y) for y in line.get_ydata()] for line in stairs] == [[80, 90]]


def test_tokens_that_do_not_differ_are_a_note_and_no_panel(tmp_path):
    (alike,) = written(tmp_path / "a", run("opd"), run("vopd", tokens=46_200.0))
    figure = cost_against_accuracy(alike).figure
    assert (len(figure.axes), "All wrote about 46,000 tokens a run" in notes(figure)) == (1, True)
    (free,) = written(tmp_path / "b", run("opd", tokens=0.0))
    assert "How many tokens were written is not known." in notes(cost_against_accuracy(free).figure)


def test_labels_are_inside_and_cover_neither_each_other_nor_a_point(large, figures):
    (table,) = large
    for name in ("variance_against_bias", "variance_against_accuracy", "cost_against_accuracy"):
        figure = figures[id(large)][name].figure
        figure.canvas.draw()
        for number, axes in enumerate(figure.axes):
            boxes = [Text.get_window_extent(note) for note in axes.texts]
            points = [axes.transData.transform(point_of(figure, table, row.method, number)) for row in table.rows]
            assert len(METHODS) - 10 < len(boxes) <= len(METHODS)
            assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
            assert not any(box.contains(*point) for box in boxes for point in points)
            assert all(axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1 for box in boxes)


@pytest.mark.parametrize("which", ["small", "large"])
def test_what_surrounds_the_axes_does_not_overlap_and_is_on_the_page(which, request, figures):
    for drawing in figures[id(request.getfixturevalue(which))].values():
        figure = drawing.figure
        figure.canvas.draw()
        around = [figure._suptitle, figure.axes[-1].xaxis.label, figure._supxlabel]
        boxes = [artist.get_window_extent() for artist in around]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        for box in [*boxes, *(axes.yaxis.get_tightbbox() for axes in figure.axes)]:
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert all(axes.yaxis.label.get_window_extent().y1 <= boxes[0].y0 for axes in figure.axes)
        assert {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()} <= {8, 8.5, 11}
        assert figure.get_figwidth() == size(1, [])[0]


# ---------------------------------------------------------------- differences and learning rates


def test_the_forest_is_sorted_with_band_and_p_and_a_line_at_0(small):
    table = largest(small)
    drawing = differences(table)
    (axes,) = drawing.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["gkd", "vopd", "lonely", "state_only ⚠"]
    assert axes.yaxis_inverted()
    assert [line.get_xdata() for line in axes.lines if not line.get_gid()] == [[0, 0]]
    (bar, point) = lines_of(drawing.figure, table, "gkd")
    ends = row_of(table, "gkd").difference
    assert bar.get_xdata() == pytest.approx([100 * ends.low, 100 * ends.high])
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (pytest.approx(20), 0)
    assert len(lines_of(drawing.figure, table, "lonely")) == 1  # one seed has no interval
    texts = [text.get_text() for text in axes.texts]
    gkd, vopd = row_of(table, "gkd"), row_of(table, "vopd")
    assert texts == ["band", "p", str(gkd.band), f"{gkd.p:.2g}", str(vopd.band), f"{vopd.p:.2g}", "—", "—", "—", "—"]
    assert f"gkd +20.0 [{100 * ends.low:.1f}, {100 * ends.high:.1f}]" in drawing.alt


def test_a_filled_mark_says_that_0_is_outside(tmp_path):
    unsure = [run("vopd", seed, 0.5 + change) for seed, change in enumerate((0.2, -0.1, 0.05))]
    sure = [run("gkd", seed, 0.6 + 0.01 * seed) for seed in range(3)]
    (table,) = written(tmp_path, *(run("opd", seed, 0.5) for seed in range(3)), *unsure, *sure)
    figure = differences(table).figure
    faces = {name: lines_of(figure, table, name)[-1].get_markerfacecolor() for name in ("vopd", "gkd")}
    assert faces == {"vopd": "white", "gkd": looks(table)["gkd"].colour}


def test_learning_rates_are_of_one_family_and_at_least_two(small, tmp_path):
    table = largest(small)
    drawing = rate_sensitivity(table, small)
    line = next(one for one in lines_of(drawing.figure, table, "vopd"))
    assert line.get_xdata().tolist() == [1e-3, 3e-3]
    assert line.get_ydata().tolist() == pytest.approx([80, 60])
    assert lines_of(drawing.figure, table, "gkd") == []
    assert "vopd 80 at 0.001, 60 at 0.003; opd 70 at 0.001, 50 at 0.003" in drawing.alt
    assert "no ranking across them. This table's rate is 0.001." in notes(drawing.figure)
    assert drawing.figure.axes[0].get_xscale() == "log"
    for number, changes in enumerate(({"family": "other"}, {"family": None}, {"version": "2.0"})):
        other = {"digest": "def456"} | changes
        runs = [run("opd"), run("opd", rate=3e-3, protocol=other)]
        found = written(tmp_path / str(number), *runs)
        assert len(found) == 2
        assert [rate_sensitivity(one, found) for one in found] == [None, None]
    assert rate_sensitivity(table, [table]) is None


def test_of_many_methods_each_has_a_plot_of_its_rates_in_trials_that_are_told_from_results(tmp_path):
    protocol = {"name": "mini_gsm-standard-trials", "ruleset": "trials", "tuned": {}}
    trials = [
        run(method, 7, 0.5 + 0.01 * number + rate, rate=rate, protocol=protocol | {"tuned": {"learning_rate": rate}})
        for number, method in enumerate(METHODS[:13])
        for rate in (1e-3, 3e-3)
    ]
    table, trial = written(tmp_path, *trials, *many("opd", 0.7))
    assert (table.of_trials, trial.of_trials) == (False, True)
    assert "trials: judged on validation, no results" in trial.title
    assert not any(row.ranked for row in trial.rows)
    (drawing,) = drawings(trial, [table, trial])
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes if axes.get_visible()]
    assert titles == sorted(METHODS[:13])
    ticks = [axes.get_yticks().tolist() for axes in drawing.figure.axes[:13]]
    assert all(other == ticks[0] for other in ticks)


def test_rates_that_one_table_has_are_a_curve_of_one_name(tmp_path):
    tuned = [
        run("opd", rate=rate, accuracy=accuracy, protocol={"tuned": {"learning_rate": rate}})
        for rate, accuracy in ((1e-3, 0.5), (3e-3, 0.6))
    ]
    (table,) = written(tmp_path, *tuned)
    assert len(table.rows) == 2
    drawing = rate_sensitivity(table, [table])
    assert drawing.alt == "Accuracy in % by learning rate: opd 50 at 0.001, 60 at 0.003."
