"""The report: a function of the files that measurements have left, so that it can be made again."""

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clock import PHASES
from benchmarks.figures import (
    CLOSE,
    Spread,
    apart,
    beside,
    best_peer,
    failures,
    of_floor,
    phases,
    ratio,
    totals,
    unit_of,
)
from benchmarks.growth import AXES, exponent
from benchmarks.methods import PUBLISHED, REFERENCE
from benchmarks.plots import plotted

NAME = "performance-results.md"
AXIS = {"new_tokens": "new tokens", "vocabulary": "vocabulary", "batch": "batch"}


def written(folder: Path) -> tuple[Path, list[str]]:
    """The report in `folder`, and what is wrong with what it tells."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise SystemExit(f"error: {folder} has no figures yet; python -m benchmarks --out {folder} makes some")
    path, failed = folder / NAME, failures(found)
    path.write_text(markdown(found, plotted(found, folder), failed), encoding="utf-8")
    return path, failed


def markdown(found: dict[str, Any], plots: Sequence[str], failed: Sequence[str]) -> str:
    """All of it."""
    parts: dict[str, Callable[[Any], str]] = {
        "compare": compare,
        "memory": memory,
        "growth": growth,
        "methods": methods,
        "embedded": embedded,
    }
    text = ["# What a training step costs", *(f"**Failed:** {line}" for line in failed)]
    text += [machine(next(iter(found.values()))["machine"])]
    text += [f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in plots]
    text += [write(found[name]) for name, write in parts.items() if name in found]
    return "\n\n".join(text) + "\n"


def machine(told: dict[str, Any]) -> str:
    """What ran it."""
    peaks = told["peaks"]
    libraries = ", ".join(
        f"{name} {told[name]}" for name in ("torch", "transformers", "trl", "lightning") if told[name]
    )
    quick = " **Made with --quick: sizes are too small to mean anything.**" if told["quick"] else ""
    return (
        f"{told['date']}, {told['processor']}, {told['cores']} cores, {told['threads']} thread"
        f"{'s' if told['threads'] > 1 else ''}, {told['precision']}; load {told['load']}. {libraries}. Measured peaks: "
        f"{peaks['flops'] / 1e9:,.0f} GFLOP/s, {peaks['bandwidth'] / 1e9:,.1f} GB/s. Seconds are "
        f"{'of the processor' if unit_of(told) == 'cpu' else 'on the wall'}, medians (least–most).{quick}"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown; all but the first column to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compare(part: dict[str, Any]) -> str:
    """Cells with sides, phases of each, and checks."""
    unit, cells = unit_of(part["machine"]), [cell for cell in part["found"] if "sides" in cell]
    names = list(dict.fromkeys(name for cell in cells for name in cell["sides"]))
    main = [name for name in names if name == "ours opd_full" or not name.startswith("ours")]
    head = ["cell", *main, "best peer / ours", *(f"{name}, % of floor" for name in main)]
    text = [
        "## Beside TRL's trainers",
        "Full reverse KL, the same prompts, the same number of tokens, sides in turns.",
        table(head, [_cell(cell, main, unit) for cell in part["found"]]),
        "### Where the time goes",
        table(
            ["cell, side", "all", *PHASES, "peak memory, MiB"], [row for cell in cells for row in _sides(cell, unit)]
        ),
        _floor_phases(cells),
        "### Are they the same losses?",
        _checks(cells, part["machine"]["precision"]),
    ]
    return "\n\n".join(text)


def _cell(cell: dict[str, Any], main: Sequence[str], unit: str) -> list[str]:
    if "sides" not in cell:
        return [cell["name"], f"not run: {cell['left out']['all']}", *[""] * (2 * len(main))]
    there = cell["sides"]
    times = [Spread.of(totals(there[n], unit)).told() if n in there else _absent(cell, n) for n in main]
    times_of_ours = ratio(cell, unit)
    told = "" if times_of_ours is None else f"**{times_of_ours.told()}** ({best_peer(cell, unit)})"
    shares = [f"{of_floor(cell, name, unit):.0f} %" if name in there else "" for name in main]
    return [cell["name"], *times, told, *shares]


def _absent(cell: dict[str, Any], name: str) -> str:
    reason = cell["left out"].get(name)
    return f"not run: {reason}" if reason else "not run"


def _sides(cell: dict[str, Any], unit: str) -> list[list[str]]:
    rows = []
    for name, side in cell["sides"].items():
        parts = [f"{value:.3f}" for value in phases(side, unit).values()]
        whole = statistics.median(totals(side, unit))
        rows.append([f"{cell['name']}: {name}", f"{whole:.3f}", *parts, f"{side['bytes'] / 2**20:,.0f}"])
    return rows


def _floor_phases(cells: Sequence[dict[str, Any]]) -> str:
    head = ["floor", "all", *(phase for phase in PHASES if phase != "other")]
    rows = [[c["name"], *(f"{c['floor'][name]:.3f}" for name in ("total", *head[2:]))] for c in cells]
    return table(head, rows)


def _checks(cells: Sequence[dict[str, Any]], precision: str) -> str:
    rows = []
    for cell in cells:
        for name, side in cell["sides"].items():
            if check := side["check"]:
                told = [f"{check['theirs']:.6f}", f"{check['ours']:.6f}", f"{apart(check):.1e}"]
                rows.append([f"{cell['name']}: {name}", *told, "yes" if apart(check) <= CLOSE[precision] else "**no**"])
    head = ["cell, side", "its loss", "ours on its tokens and weights", "apart", f"within {CLOSE[precision]:g}"]
    note = "GKD divides by the number of labels of the data set's batch; its loss here is that of what was written."
    return f"{note}\n\n{table(head, rows)}"


def memory(part: dict[str, Any]) -> str:
    """Of the loss alone."""
    first = part["found"][0]
    rows = []
    for row in part["found"]:
        place = [f"{row['way']}, {row['tokens']:,} tokens"]
        if "left out" in row:
            rows.append([*place, f"not run: {row['left out']}", "", "", ""])
            continue
        beyond = row["bytes"] - row["gradients"]
        sizes = [f"{size / 2**20:,.0f}" for size in (row["bytes"], row["gradients"], beyond)]
        rows.append([*place, *sizes, f"{row['cpu']:.1f}"])
    head = ["loss and gradient", "peak, MiB", "of that gradients", "without them", "CPU-seconds"]
    return (
        f"## Memory of the loss alone\n\nV = {first['vocabulary']:,}, hidden {first['hidden']}, float32, above both "
        "heads and both models' hidden states. Gradients are those in the student's head and hidden states, which all "
        f"must make.\n\n{table(head, rows)}"
    )


def growth(part: dict[str, Any]) -> str:
    """Seconds and memory against sizes, with exponents."""
    unit, steps = unit_of(part["machine"]), part["found"]["steps"]
    rows = []
    for axis in AXES:
        chosen = [row for row in steps if row["axis"] == axis]
        values = [row["value"] for row in chosen]
        fits = [exponent(values, [row[what] for row in chosen]) for what in (unit, "bytes")]
        told = [" → ".join(f"{row[unit]:.2f}" for row in chosen), _fit(fits[0])]
        more = [" → ".join(f"{row['bytes'] / 2**20:,.0f}" for row in chosen), _fit(fits[1])]
        rows.append([f"{AXIS[axis]} {', '.join(f'{value:,}' for value in values)}", *told, *more])
    head = ["size", "seconds a step", "exponent", "peak, MiB", "exponent"]
    trunks = (steps[0]["shape"][model] for model in ("student", "teacher"))
    pair = " ← ".join(f"{trunk['hidden']}×{trunk['layers']}" for trunk in trunks)
    return (
        f"## Growth\n\nOurs, opd_full, {pair}; one size at a time is changed. Seconds ∝ size^exponent (± standard "
        f"error).\n\n{table(head, rows)}\n\n{_probe(part['found']['probe'])}"
    )


def _fit(fit: dict[str, float]) -> str:
    return f"{fit['exponent']:.2f} ± {fit['error']:.2f}"


def _probe(rows: Sequence[dict[str, Any]]) -> str:
    text = table(["methods probed", "CPU-seconds"], [[str(row["methods"]), f"{row['cpu']:.1f}"] for row in rows])
    return f"A probe of the embedded benchmark on one bank of rollouts, 4 sets with 2 redraws:\n\n{text}"


def methods(part: dict[str, Any]) -> str:
    """One row each, cheapest first."""
    unit, found = unit_of(part["machine"]), part["found"]
    whole = {name: statistics.median(totals(side, unit)) for name, side in found["methods"].items()}
    reference = found["methods"][REFERENCE]
    memory = statistics.median(reference["bytes"])
    rows = []
    times = {name: beside(found["methods"], name, REFERENCE, unit) for name in whole}
    for name in sorted(times, key=times.__getitem__):
        side = found["methods"][name]
        share = f"{times[name].middle:.2f}"
        theirs = f"{PUBLISHED[name] / PUBLISHED[REFERENCE]:.2f}" if name in PUBLISHED else ""
        peak = f"{statistics.median(side['bytes']) / memory:.2f}"
        parts = [f"{value:.2f}" for value in phases(side, unit).values()]
        cost = f"{side['cost']['student']} / {side['cost']['teacher']}"
        rows.append([name, cost, f"{whole[name]:.2f}", share, theirs, peak, *parts])
    published = ", ".join(f"{name} {seconds} s" for name, seconds in PUBLISHED.items())
    columns = ["method", "reads of student / teacher", "seconds", "of opd's", "published", "memory, of opd's"]
    return (
        f"## What each method costs\n\n{found['name']}. One step each, beside the mean of {REFERENCE}'s "
        f"before and after; {REFERENCE}'s own {len(reference['steps'])} steps are {times[REFERENCE].told()} times "
        "those around them, and what is within that is no difference. Published: vOPD's own "
        f"figures at 4B on one H200 (arXiv:2605.07865), {published}, as ratios.\n\n{table([*columns, *PHASES], rows)}"
    )


def embedded(part: dict[str, Any]) -> str:
    """Runs with everything that a run has."""
    rows, names = [], list(next(iter(part["found"].values()))["seconds"])
    for method, told in part["found"].items():
        parts = [f"{told['seconds'][name]:.3f}" for name in names]
        rows.append([method, f"{told['total']:.3f}", *parts, f"{100 * told['floor'] / told['total']:.0f} %"])
    steps = next(iter(part["found"].values()))["steps"]
    return (
        f"## The embedded benchmark\n\nSeconds on the wall a step, over {steps} steps of a run with everything that "
        f"a run measures.\n\n{table(['method', 'all', *names, '% of floor'], rows)}"
    )
