"""What is said at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opd_bench.reporting.cells import figure, law
from opd_bench.training.run import Run

WORDS = {
    "greedy": "solved, greedily",
    "sampled": "solved, sampled",
    "formatted": "well-formed",
    "truncated": "cut off",
    "length": "tokens",
    "timed_out": "without a verdict in time",
}
ORDER = {"greedy": 0, "sampled": 1, "formatted": 3, "truncated": 4, "length": 5, "timed_out": 6}
HIDDEN = ("solved", "sampled_error")


def closing(console: Console, run: Run, record: Mapping[str, Any], brief: bool, done: bool) -> None:
    """A line of a sweep, or a table."""
    title = f"{record['method']['name']} on {record['protocol']['name']}, seed {record['seed']}"
    outcome = record["status"] + (f": {record['reason']}" if record["reason"] else "")
    if brief:
        figures = "; ".join(
            f"{task}: sampled {after['sampled']:.1%}, greedy {after['greedy']:.1%}"
            for task, after in record["evaluation"]["after"].items()
        )
        console.print(
            f"{title}: {figures or outcome}{' (done before)' if done else ''}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        return
    console.print(_table(title, outcome, record))
    console.print(f"record  {run.folder / 'record.json'}", highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"curves  {run.folder / 'tensorboard'} (make board shows all runs)",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if done:
        console.print("This very run was finished before; ARGS=again=true runs it anew.")
    other = "opd" if record["method"]["name"] != "opd" else "vopd"
    console.print(f"next    the same with METHOD={other}, then make leaderboard")


def _table(title: str, outcome: str, record: Mapping[str, Any]) -> Table:
    table = Table(title=title, caption=outcome, box=box.SIMPLE_HEAD)
    for column in ("", "before", "after", "teacher"):
        table.add_column(column, justify="right" if column else "left")
    evaluation, several = record["evaluation"], len(record["tasks"]) > 1
    words = WORDS | {"sampled": f"{WORDS['sampled']} at {law(record['config'])}"}
    for task, before in evaluation["before"].items():
        sides = (before, evaluation["after"].get(task, {}), evaluation["teacher"].get(task, {}))
        if several:
            table.add_section()
            table.add_row(Text(task, style="bold"))
        known = {name for side in sides for name in side}
        for name in sorted(known - set(HIDDEN), key=lambda name: (ORDER.get(name, 2), name)):
            table.add_row(words.get(name, name), *(_figure(name, side.get(name)) for side in sides))
    training = record["training"]
    kl, norm, gradient = training["reverse_kl"], training["gradient_norm"], training["gradient"]
    table.add_section()
    table.add_row("reverse KL, nats a token", _number(kl.get("first")), _number(kl.get("last")))
    table.add_row("solved rollouts, mean of all steps", "", _figure("", training["auc"]))
    table.add_row("gradient norm: median, largest", _number(norm.get("median")), _number(norm.get("max")))
    table.add_row(
        "logit gradient: variance, bias",
        _number(gradient.get("relative_variance")),
        _number(gradient.get("bias_reverse_kl")),
    )
    if "step_variance" in gradient:
        table.add_row(
            "a step's variance; noise scale, responses",
            _number(gradient["step_variance"]),
            _number(gradient.get("noise_scale")),
        )
    table.add_section()
    for phase, seconds in record["timing"]["seconds"].items():
        share = f" ({record['timing'].get('moments_share', 0):.1%} of training)" if phase == "moments" else ""
        table.add_row(f"seconds, {phase}{share}", "", f"{seconds:.1f}")
    return table


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "—"
    if name == "timed_out":
        return f"{value:.0f}"
    return f"{value:.1f}" if name == "length" else f"{value:.1%}"


def _number(value: float | str | None) -> str:
    """A record writes what is not finite as a word."""
    return figure(None if value is None else float(value))
