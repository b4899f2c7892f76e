"""What a probe found, as tables and as pictures."""

import copy
import csv
import io
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from rich.console import Console

from opd_bench.reporting.drawing import COMMON, OTHER, WRONG, write
from opd_bench.reporting.probe_curves import over_training
from opd_bench.reporting.probe_plots import save, snr_bars, variance_against_bias
from opd_bench.reporting.probe_rows import rows
from opd_bench.reporting.probe_tables import SECTIONS, TERMINAL, as_csv, markdown, terminal

METHODS = sorted(path.stem for path in (Path(__file__).parents[1] / "conf" / "method").glob("*.yaml"))
KNOWN_WRONG = {"k1_direct", "k2_direct", "k3_direct", "state_only", "fdiv_stopgrad_fkl", "fdiv_stopgrad_jsd"}
ELSEWHERE = {"sft", "seqkd", "supkd", "taid", "skd", "minillm", "gkd", "fdistill_js", "fdistill_tvd"}
UNBIASED = {"opd", "opd_full", "vopd", "vopd_topk", "vopd_optimal", "head_tail", "opd_plus", "k2_direct", "tropd_clip"}
ENDS = ("value", "low", "high")


def interval(value, width):
    return dict(zip(ENDS, (value, value / width, value * width), strict=True))


def method(variance=10.0, bias=0.5, **changes):
    """Realistic numbers that follow from a relative variance and a relative bias."""
    snr = (0.02 + abs(1 - bias)) / variance
    cosine = {"value": 1 - bias / 3, "low": 0.9 - bias / 3, "high": 1.0}
    estimates = {
        "variance": interval(variance * 0.07, 1.2),
        "signal": interval(snr * variance * 0.07, 1.5),
        "snr": interval(snr, 1.6),
        "norm": interval(0.3, 1.05),
        "relative_variance": interval(variance, 1.25),
        "token_variance": interval(variance * 0.03, 1.2),
        "token_share": interval(0.4, 1.1),
        "bias_reverse_kl": dict(zip(ENDS, (bias, max(bias - 0.15, 0.0), bias + 0.15), strict=True)),
        "bias_forward_kl": interval(0.8, 1.2),
        **{f"cosine_{name}": cosine for name in ("reverse_kl", "single_reverse_kl", "forward_kl", "single_forward_kl")},
        "variance_to_opd": interval(variance / 20, 1.1),
    }
    exact = {"relative_variance": 3 * variance, "bias_reverse_kl": bias, "cosine_reverse_kl": 0.9}
    measured = {"status": "measured", "reason": "", "rollouts": "common", "title": "T", "warning": "", "seconds": 2.3}
    return measured | {"estimates": estimates, "exact": exact} | changes


def record(methods, **changes):
    """What a probe would hand over."""
    sizes = {"sets": 16, "redraws": 2, "prefixes": 64, "prompts": 12, "parameters": 140288, "numbers": 140288}
    return {
        "status": "finished",
        "reason": "",
        "protocol": {"name": "mini_gsm-standard", "digest": "ab12cd", "task": "mini_gsm", "setting": "standard"},
        "checkpoint": {"name": "embedded/standard-0", "digest": "d1", "progress": 0.25, "step": 25},
        "seed": 3,
        "probe": sizes | {"sketch_error": 0.0, "tokens": 447.3},
        "methods": methods,
        "environment": {},
        "timing": {"seconds": 90.0},
        "created": "2025-01-01T00:00:00+00:00",
        "id": "0123456789abcdef",
        "schema": 1,
    } | changes


def everything(seed=0):
    """A probe of all methods there are: the unbiased ones crowd at a bias near 0, as they do in truth."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in METHODS:
        bias = max(rng.normal(0, 0.04), 0.0) if name in UNBIASED else rng.uniform(0.2, 1.3)
        spread = rng.uniform(1.2, 1.4) if name in UNBIASED else rng.uniform(0.6, 1.6)
        found[name] = method(10**spread, bias, warning="known" if name in KNOWN_WRONG else "")
        if name in ELSEWHERE:
            found[f"{name} (own)"] = method(10 ** rng.uniform(0, 1.3), rng.uniform(0.2, 1.1), rollouts="own")
    return found | {
        "state_only": method(0.9, 1.0, warning="expected gradient 0"),
        "opd_plus_chi2": method(1500.0, 3.2),
        "power_opd": method(0.05, 0.9),
        "sft": method(status="nothing to learn", estimates={}, exact={}),
    }


PICTURES = (variance_against_bias, snr_bars)
HOSTILE = "[red]<script>|$\\q$\n_y[/red]"


def with_estimate(name, value, **changes):
    """A method of which one estimate is something special."""
    one = method(**changes)
    one["estimates"][name] = value
    return one


def printed(one, width):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal(one, width))
    return console.file.getvalue()


# ---------------------------------------------------------------- rows


def test_the_best_snr_comes_first_then_what_is_known_wrong_then_what_was_not_measured():
    found = record(
        {
            "failed": method(1e-3, 0.0, status="failed", reason="boom", estimates={}),
            "wrong": method(1.0, 0.0, warning="known"),
            "lost": with_estimate("snr", {"value": "nan", "low": "nan", "high": "nan"}),
            "noisy": method(100.0, 0.0),
            "negative": with_estimate("snr", interval(-0.1, 1.0)),
            "quiet": method(2.0, 0.0),
            "wrong_too": method(0.5, 0.0, warning="known"),
        }
    )
    order = ["quiet", "noisy", "negative", "lost", "wrong_too", "wrong", "failed"]
    assert [row.method for row in rows(found)] == order
    assert [line["method"] for line in csv.DictReader(io.StringIO(as_csv(found)))] == order


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("width", [80, 100, 120, 160, 250])
def test_a_terminal_of_any_width_shows_variance_beside_bias_and_names_what_it_leaves_out(width):
    text = printed(record(everything()), width)
    assert max(map(len, text.splitlines())) <= width
    head = re.split(" {2,}", next(line for line in text.splitlines() if "SNR" in line).strip())
    assert head[0] == "method"
    assert {"SNR", "bias", "var. to opd"} < set(head)
    assert all(any(line.split()[:1] == [name] for line in text.splitlines()) for name in METHODS)
    caption = " ".join(text[text.index("SNR: ") :].split())
    left_out = caption.partition("A wider terminal shows")[2].partition(" too")[0].split(",")
    for column in TERMINAL:
        shown, named = column.head in head, f"{column.head}: {column.meaning}" in caption
        assert shown == named
        assert shown != (f" {column.head}" in left_out)
    assert "Variance alone ranks nothing: a reward that ignores the sampled token (state_only)" in caption


def test_a_narrow_terminal_leaves_out_intervals_before_it_leaves_out_the_bias():
    found = record({"opd": method(bias=0.5)})
    assert "0.5 [0.35, 0.65]" in printed(found, 80)
    assert "0.5 [0.35, 0.65]" not in printed(found, 40)
    assert "A wider terminal" in printed(found, 80)
    assert "A wider terminal" not in printed(found, 250)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ({"value": 0.12345, "low": 0.1, "high": 0.1512}, "0.123 [0.1, 0.15]"),
        ({"value": -0.002, "low": -0.01, "high": 0.005}, "-0.002 [-0.01, 0.005]"),
        ({"value": 1234.5, "low": 1000, "high": 99999.4}, "1234 [1000, 99999]"),
        ({"value": 0.5, "low": 0.25, "high": "inf"}, "0.5 [0.25, inf]"),
        ({"value": 0.5, "low": "nan", "high": "nan"}, "0.5"),
        ({"value": "nan", "low": "nan", "high": "nan"}, "nan"),
        ({"value": "inf", "low": 1.0, "high": "inf"}, "inf [1, inf]"),
        ({"value": None, "low": None, "high": None}, "—"),
        ({"value": 3}, "3"),
        (None, "—"),
    ],
)
def test_what_a_cell_says(value, cell):
    found = record({"opd": with_estimate("norm", value)})
    sizes = markdown(found, []).split("\n## ")[1]
    (line,) = [line for line in sizes.splitlines() if line.startswith("| opd |")]
    assert line.split(" | ")[-1] == f"{cell} |"


def test_markdown_says_what_was_measured_and_has_every_column_and_plot():
    text = markdown(record(everything()), ["plots/variance against (bias).svg"])
    for part in (
        "# Gradients: mini_gsm-standard (ab12cd) · embedded/standard-0 · 25 % of the run, step 25",
        "16 independent sets of rollouts of the same 12 prompts were drawn (seed 3), with 447 response tokens a set",
        "redrawn 2 times a set",
        "at 64 prefixes",
        "Gradients are of all 140,288 parameters.",
        "Methods marked (own)",
        "![variance against (bias)](plots/variance%20against%20%28bias%29.svg)",
        "Variance alone ranks nothing",
        "- sft: nothing to learn",
        "- state_only ⚠: expected gradient 0",
    ):
        assert part in text
    for columns in SECTIONS.values():
        assert f"| method | {' | '.join(column.head for column in columns)} |" in text
        assert all(f"- **{column.head}**: {column.meaning}" in text for column in columns)
    sizes, *others = text.split("\n## ")[1:]
    assert "| sft | nothing to learn | — |" in sizes
    assert not any("| sft |" in other for other in others)
    assert all(section.count("\n| opd |") == 1 for section in (sizes, *others))


def test_a_sketch_is_stated_with_its_error():
    found = record({"opd": method()})
    found["probe"] |= {"parameters": 1_500_000_000, "numbers": 65536, "sketch_error": 0.0055}
    text = markdown(found, [])
    assert "1,500,000,000 parameters were sketched to 65,536 numbers" in text
    assert "deviation of 0.55 %" in text
    assert "(own)" not in text


def test_hostile_names_break_no_table_and_no_picture(tmp_path):
    found = record({HOSTILE: method(reason=HOSTILE), "opd": method(), "_": method(status=HOSTILE, warning=HOSTILE)})
    found["protocol"]["name"] = HOSTILE
    text = markdown(found, [])
    assert "<script>" not in text.replace("\\<", "")
    for line in text.splitlines():
        if line.startswith("|") and "script" in line:
            assert line.replace("\\\\", "").replace("\\|", "").count("|") in {len(s) + 2 for s in SECTIONS.values()}
    assert "[red]<script>|$\\q$ _y[/red]" in printed(found, 200)
    assert HOSTILE in {line["method"] for line in csv.DictReader(io.StringIO(as_csv(found), newline=""))}
    assert "[red]<script>|$\\q$ _y[/red]" in {note.get_text() for note in variance_against_bias(found).axes[0].texts}
    assert len(save(found, tmp_path)) == 4  # $…$ is no formula, and no error
    later = record(found["methods"], checkpoint=found["checkpoint"] | {"progress": 1.0}, protocol=found["protocol"])
    assert len(write(over_training([found, later]), tmp_path, "curves")) == 2


def test_csv_has_every_number_in_full_precision():
    found = record(everything())
    found["methods"]["veto"]["estimates"]["snr"] = {"value": 1 / 3, "low": "-inf", "high": "nan"}
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(as_csv(found)))}
    assert lines.keys() == found["methods"].keys()
    for name, one in found["methods"].items():
        for estimate, ends in one["estimates"].items():
            for end, value in ends.items():
                np.testing.assert_equal(float(lines[name][f"estimates.{estimate}.{end}"]), float(value))
        for key, value in one["exact"].items():
            assert float(lines[name][f"exact.{key}"]) == value
        assert lines[name]["probe.tokens"] == "447.3"
    assert (lines["sft"]["status"], lines["sft"]["estimates.snr.value"]) == ("nothing to learn", "")


def test_a_probe_that_failed_is_shown_as_such(tmp_path):
    found = record({}, status="failed", reason="out of memory", probe=None)
    assert "The probe is failed: out of memory" in printed(found, 80)
    assert "The probe is failed: out of memory" in markdown(found, [])
    assert as_csv(found).count("\n") == 1
    assert len(save(found, tmp_path)) == 4


# ---------------------------------------------------------------- pictures


def note_of(figure):
    return " ".join(figure.get_supxlabel().split())


def points_of(figure):
    """Where each kind's points are, by the kind's meaning."""
    (axes,) = figure.axes
    lines = {container.get_label(): container.lines[0] for container in axes.containers}
    return {name: list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for name, line in lines.items()}


def test_every_finite_method_is_a_point_at_its_bias_and_variance_and_has_a_label():
    found = record(everything())
    figure = variance_against_bias(found)
    expected = {COMMON.meaning: set(), OTHER.meaning: set(), WRONG.meaning: set()}
    for one in found["methods"].values():
        if one["estimates"]:
            kind = WRONG if one["warning"] else OTHER if one["rollouts"] == "own" else COMMON
            place = tuple(one["estimates"][name]["value"] for name in ("bias_reverse_kl", "relative_variance"))
            expected[kind.meaning].add(place)
    assert {name: set(points) for name, points in points_of(figure).items()} == expected
    labels = {note.get_text().removesuffix(" ⚠") for note in figure.axes[0].texts}
    assert labels == found["methods"].keys() - {"sft"}
    assert "Not shown, for want of a finite number: sft (nothing to learn)." in note_of(figure)


def test_what_is_known_wrong_differs_in_shape_and_colour_and_lies_on_top():
    figure = variance_against_bias(record(everything()))
    lines = {container.get_label(): container.lines[0] for container in figure.axes[0].containers}
    assert (
        len({line.get_marker() for line in lines.values()}) == len({line.get_color() for line in lines.values()}) == 3
    )
    assert max(lines, key=lambda name: lines[name].get_zorder()) == WRONG.meaning
    (label,) = [note for note in figure.axes[0].texts if note.get_text() == "state_only ⚠"]
    assert label.xy == pytest.approx((1.0, 0.9))
    assert (label.get_weight(), label.get_color()) == ("bold", WRONG.colour)


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_inside_and_cover_neither_each_other_nor_a_point(seed):
    figure = variance_against_bias(record(everything(seed)))
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [Text.get_window_extent(note) for note in axes.texts]
    assert len(boxes) > 50
    for number, box in enumerate(boxes):
        assert axes.bbox.x0 <= box.x0 < box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 < box.y1 <= axes.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:number])
        for points in points_of(figure).values():
            assert not any(box.contains(*axes.transData.transform(point)) for point in points)


def test_what_surrounds_the_axes_does_not_overlap_and_is_on_the_page():
    few = {"opd": method(), "x" * 50: method(rollouts="own"), "state_only": method(warning="known")}
    for figure in (picture(record(methods)) for picture in PICTURES for methods in (everything(), few)):
        figure.canvas.draw()
        (axes,) = figure.axes
        around = [figure._suptitle, axes.get_legend(), axes.xaxis.label, figure._supxlabel]
        boxes = [artist.get_window_extent() for artist in around]
        assert [box.y0 for box in boxes] == sorted((box.y0 for box in boxes), reverse=True)
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
        for box in [*boxes, axes.yaxis.get_tightbbox()]:
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_interval_bars_end_where_the_intervals_do_and_at_the_frame():
    bounded = with_estimate("bias_reverse_kl", {"value": 0.5, "low": 0.4, "high": 0.7}, variance=10.0)
    endless = with_estimate("bias_reverse_kl", {"value": 0.3, "low": "nan", "high": "inf"}, variance=20.0)
    figure = variance_against_bias(record({"bounded": bounded, "endless": endless}))
    (axes,) = figure.axes
    across, up = axes.containers[0].lines[2]
    ends = {tuple(line[:, 0].round(9)) for line in across.get_segments()}
    assert ends == {(0.4, 0.7), (0.3, round(axes.get_xlim()[1], 9))}
    assert {tuple(line[:, 1].round(9)) for line in up.get_segments()} == {(8.0, 12.5), (16.0, 25.0)}


def test_no_variance_is_on_the_lower_edge_and_what_is_not_finite_is_named():
    still = with_estimate("relative_variance", dict.fromkeys(ENDS, 0.0), bias=0.25)
    found = record(
        {
            "opd": method(10.0, 0.1),
            "still": still,
            "endless": with_estimate("relative_variance", {"value": "inf", "low": 1.0, "high": "inf"}),
            "lost": with_estimate("bias_reverse_kl", {"value": "nan", "low": "nan", "high": "nan"}),
            "broken": method(status="failed", reason="boom", estimates={}),
        }
    )
    figure = variance_against_bias(found)
    low, high = figure.axes[0].get_ylim()
    assert set(points_of(figure)[COMMON.meaning]) == {(0.1, 10.0), (0.25, low)}
    assert 0 < low < 10 < high
    assert "On the lower edge, without variance: still." in note_of(figure)
    absent = note_of(figure).partition("Not shown, for want of a finite number: ")[2]
    assert set(absent.rstrip(".").split(", ")) == {"endless", "lost", "broken (failed)"}


def test_a_bias_of_many_times_the_gradient_does_not_press_the_others_together():
    near, far = {"a": method(bias=0.2), "b": method(bias=0.9)}, {"c": method(bias=50.0)}
    scales = []
    for methods in (near, near | far):
        (axes,) = variance_against_bias(record(methods)).axes
        scales.append(axes.get_xscale())
        left, right = axes.transAxes.inverted().transform(axes.transData.transform([(0.2, 10), (0.9, 10)]))[:, 0]
        assert right - left > 0.15
    assert scales == ["linear", "symlog"]


def bars_of(figure):
    """Each bar's name and right end, from the top."""
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    ends = {round(bar.get_y() + bar.get_height() / 2): bar.get_x() + bar.get_width() for bar in axes.patches}
    assert axes.yaxis_inverted()
    return [(names[place], ends[place]) for place in sorted(ends)]


def test_bars_are_sorted_and_end_at_the_snr():
    found = record(everything())
    bars = bars_of(snr_bars(found))
    shown = [row for row in rows(found) if row.measured]
    assert [name for name, _ in bars] == [row.label for row in shown]
    assert [end for _, end in bars] == pytest.approx([row.value("snr") for row in shown])


@pytest.mark.parametrize(("smallest", "scale"), [(0.05, "linear"), (0.0005, "log")])
def test_the_axis_of_bars_is_logarithmic_only_for_decades(smallest, scale):
    found = record({"a": with_estimate("snr", interval(1.0, 1.1)), "b": with_estimate("snr", interval(smallest, 1.1))})
    (axes,) = snr_bars(found).axes
    assert axes.get_xscale() == scale
    assert (axes.get_xlim()[0] == 0) == (scale == "linear")


def test_a_signal_below_0_has_a_mark_at_the_left_edge():
    lost = with_estimate("snr", {"value": -0.01, "low": -0.1, "high": 0.08})
    figure = snr_bars(record({"opd": method(), "lost": lost, "nan": with_estimate("snr", {"value": "nan"})}))
    (axes,) = figure.axes
    assert [name for name, _ in bars_of(figure)] == ["opd", "lost"]
    (marks,) = [marks for marks in axes.collections if isinstance(marks, PathCollection)]
    assert marks.get_offsets().tolist() == [[axes.get_xlim()[0], 1.0]]
    assert "◀ at the left edge" in note_of(figure)
    assert "Not shown, for want of a finite number: nan." in note_of(figure)
    assert "◀" not in note_of(snr_bars(record({"opd": method()})))


def test_the_same_record_gives_the_same_files_whatever_the_user_s_settings(tmp_path):
    contents, methods = [], dict(list(everything().items())[::4])
    for folder, changes in (("one", {}), ("two", {"font.size": 30, "svg.hashsalt": "x", "axes.facecolor": "pink"})):
        (tmp_path / folder).mkdir()
        with matplotlib.rc_context(changes):
            before = dict(matplotlib.rcParams)
            paths = save(record(methods), tmp_path / folder)
            assert dict(matplotlib.rcParams) == before
        contents.append([path.read_bytes() for path in paths])
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == sorted(path.name for path in paths)
    assert contents[0] == contents[1]
    assert [content[:4] for content in contents[0]] == [b"\x89PNG", b"<?xm", b"\x89PNG", b"<?xm"]
    (tmp_path / "other").mkdir()
    others = [path.read_bytes() for path in save(record(dict(list(everything(1).items())[::4])), tmp_path / "other")]
    assert not set(others) & set(contents[0])


def test_pictures_need_no_display_no_pyplot_and_no_torch():
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "lightning", "transformers", "hydra"), None))
import opd_bench.reporting.probe_plots, opd_bench.reporting.probe_curves, opd_bench.reporting.probe_tables
print("matplotlib.pyplot" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# ---------------------------------------------------------------- over training


def at(progress, methods, **changes):
    found = record(copy.deepcopy(methods), **changes)
    found["checkpoint"] |= {"progress": progress, "step": int(100 * progress)}
    return found


def curves_of(axes):
    """Each method's heights and colour."""
    named = [line for line in axes.lines if line.get_gid()]
    return {line.get_gid(): (line.get_ydata().tolist(), to_hex(line.get_color())) for line in named}


def test_one_checkpoint_makes_no_curve():
    assert over_training([]) is None
    assert over_training([at(0.5, {"opd": method()}), at(0.5, {"opd": method()}, id="f")]) is None


def test_each_method_is_a_curve_over_progress_and_the_highlighted_ones_alone_have_colours():
    probes = [at(progress, everything(seed)) for seed, progress in enumerate((1.0, 0.0, 0.25))]
    figure = over_training(probes, ["opd", "state_only", "not there"])
    ordered = [probes[1], probes[2], probes[0]]
    for axes, name in zip(figure.axes, ("snr", "relative_variance", "bias_reverse_kl"), strict=True):
        curves = curves_of(axes)
        assert curves.keys() == probes[0]["methods"].keys()
        for method_name, (heights, _) in curves.items():
            estimates = [probe["methods"][method_name]["estimates"].get(name) for probe in ordered]
            np.testing.assert_allclose(heights, [one["value"] if one else math.nan for one in estimates])
        assert axes.get_xticks().tolist() == [0, 25, 100]
        grey = {method_name for method_name, (_, colour) in curves.items() if colour == "#d9d9d9"}
        assert curves.keys() - grey == {"opd", "state_only"}
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["opd", "state_only ⚠", f"{len(probes[0]['methods']) - 2} others"]


def test_ten_curves_look_different_and_what_an_axis_can_t_show_is_a_gap():
    methods = {f"m{number}": method(10.0 + number) for number in range(10)}
    methods["m3"]["estimates"]["snr"] = interval(-0.5, 1.0)
    figure = over_training([at(0.0, methods), at(1.0, {name: one for name, one in methods.items() if name != "m4"})])
    (axes, *_) = figure.axes
    assert np.isnan(curves_of(axes)["m3"][0]).all()
    assert np.isnan(curves_of(axes)["m4"][0]).tolist() == [False, True]
    lines = [line for line in axes.lines if line.get_gid()]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
    assert len({line.get_marker() for line in lines}) == 10


def test_the_newest_probe_of_a_checkpoint_counts_and_protocols_do_not_mix():
    older, newer, end = at(0.0, {"opd": method(5.0)}), at(0.0, {"opd": method(7.0)}), at(1.0, {"opd": method(9.0)})
    newer["created"] = "2999-01-01T00:00:00+00:00"
    axes = over_training([newer, older, end]).axes[1]
    assert curves_of(axes)["opd"][0] == [7.0, 9.0]
    end["protocol"] = end["protocol"] | {"digest": "fff000"}
    with pytest.raises(ValueError, match="several protocols"):
        over_training([older, end])
