"""Two pictures: where a step's time goes, and how it grows."""

from pathlib import Path
from typing import Any

from benchmarks.clock import PHASES
from benchmarks.figures import phases, unit_of

COLOURS = ("#4c78a8", "#9ecae9", "#72b7b2", "#f58518", "#e45756", "#54a24b", "#bab0ac")
SHOWN = 6
"""Cells with a bar for each side."""


def plotted(found: dict[str, Any], folder: Path) -> list[str]:
    """File names of what could be drawn."""
    import matplotlib

    matplotlib.use("Agg")
    drawn = []
    if any("sides" in cell for cell in found.get("compare", {}).get("found", [])):
        drawn.append(_steps(found["compare"], folder / "step-by-phase.png"))
    if "growth" in found:
        drawn.append(_growth(found["growth"], folder / "growth.png"))
    return drawn


def _steps(part: dict[str, Any], path: Path) -> str:
    from matplotlib import pyplot as plt

    unit = unit_of(part["machine"])
    cells = [cell for cell in part["found"] if "sides" in cell][:SHOWN]
    columns = min(3, len(cells))
    figure, axes = plt.subplots(
        -(-len(cells) // columns),
        columns,
        figsize=(4.2 * columns, 2.3 * -(-len(cells) // columns)),
        squeeze=False,
        layout="constrained",
    )
    for place, axis in enumerate(axes.flat):
        if place >= len(cells):
            axis.axis("off")
            continue
        _bars(axis, cells[place], unit)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=7, loc="outside lower center", ncols=len(labels))
    return _saved(figure, path)


def _bars(axis: Any, cell: dict[str, Any], unit: str) -> None:
    names = [name for name in cell["sides"] if name == "ours opd_full" or not name.startswith("ours")]
    left = [0.0] * len(names)
    for phase, colour in zip(PHASES, COLOURS, strict=True):
        widths = [phases(cell["sides"][name], unit)[phase] for name in names]
        axis.barh(names, widths, left=left, color=colour, label=phase)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axis.axvline(cell["floor"]["total"], color="black", linestyle=":", linewidth=1, label="floor")
    axis.invert_yaxis()
    axis.set_title(cell["name"], fontsize=7)
    axis.tick_params(labelsize=7)
    axis.set_xlabel("seconds", fontsize=7)


def _growth(part: dict[str, Any], path: Path) -> str:
    from matplotlib import pyplot as plt

    unit, steps = unit_of(part["machine"]), part["found"]["steps"]
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for axis, what, factor, label in zip(
        axes, (unit, "bytes"), (1.0, 2**20), ("seconds a step", "peak, MiB"), strict=True
    ):
        for name, colour in zip(dict.fromkeys(row["axis"] for row in steps), COLOURS, strict=False):
            chosen = [row for row in steps if row["axis"] == name]
            first = chosen[0]["value"]
            axis.plot(
                [r["value"] / first for r in chosen],
                [r[what] / factor for r in chosen],
                "o-",
                color=colour,
                label=name.replace("_", " "),
            )
        axis.set(xscale="log", yscale="log", xlabel="times the smallest size", ylabel=label)
    axes[0].legend(fontsize=7)
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> str:
    from matplotlib import pyplot as plt

    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path.name
