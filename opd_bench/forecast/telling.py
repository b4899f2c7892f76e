"""A forecast in words and tables, or in a line."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opd_bench.forecast.cards import CARDS, GIB, RESERVED, SPARE, Card, here
from opd_bench.forecast.memory import PHASES, Memory, memory
from opd_bench.forecast.remedies import remedies
from opd_bench.forecast.setup import LOOKED_AT, Setup, setup
from opd_bench.forecast.work import COMPUTE, LAUNCH, READING, Work, time, work
from opd_bench.models.outline import Outline
from opd_bench.training.run import Run

ONE = "H200"
"""The card that a line of a sweep speaks of."""
MEMORY = (
    "at most, if every response is as long as it may be. student: forward and backward; update: the optimiser's step. "
    "What the libraries themselves take, and fragments, are not in it."
)
HOURS = (
    f"a card fits with {RESERVED:g} GiB for CUDA and {1 - SPARE:.0%} of the rest for fragments. Peaks are the vendors'; assumed are "
    f"{COMPUTE:.0%} of the FLOP/s and {READING:.0%} of the bandwidth. at least: by these alone, without the processes' exchanges. "
    f"plainly: with {LAUNCH * 1000:g} ms a layer for every token written, which transformers takes however fast the card is (assumed)."
)


def told(console: Console, run: Run, brief: bool) -> None:
    """Print it; nothing is loaded, written or run."""
    found = setup(run)
    needed, done = memory(found), work(found)
    title = f"{run.config['name']} on {run.protocol['name']}, seed {run.seed}"
    if brief:
        _say(console, f"{title}: {_line(found, needed, done)}")
        return
    _say(console, f"{title}: a forecast, from configurations alone")
    console.print(_table("", ("", ""), _resolved(run, found), ""))
    console.print(_memory(needed, found))
    console.print(_work(done))
    console.print(_cards(found, needed))
    for sentence in sentences(found, needed):
        _say(console, sentence)


def sentences(found: Setup, needed: Memory) -> Iterator[str]:
    """Where it fits, where it does not and why, and what would help there."""
    fits = [card for card in _known() if card.has_room(needed.peak)]
    if fits:
        yield f"{_size(needed.peak)} in each process: fits on {', '.join(map(_named, fits))}."
    too_small = [card for card in _known() if card not in fits]
    if not too_small:
        return
    largest = needed.largest
    yield (
        f"Does not fit on {', '.join(map(_named, too_small))}: {_size(needed.peak)} in the phase {needed.worst}, of which "
        f"{_size(largest.sizes[needed.worst])} are {largest.name}."
    )
    steps = remedies(found)
    path = "; then ".join(f"{step.words} brings {_size(step.peak)}{_fitting(step.peak, too_small)}" for step in steps)
    yield f"To need less: {path}." if path else "No setting of its own would make it smaller by much."
    if any(step.words.startswith(("plan.", "evaluation.", "teacher.")) for step in steps):
        yield "Settings of plan, evaluation and teacher are the protocol's: its runs are compared with each other alone."


def _fitting(peak: float, cards: Sequence[Card]) -> str:
    now = [card.name for card in cards if card.has_room(peak)]
    return f" ({', '.join(now)})" if now else ""


def _known() -> list[Card]:
    return [*here(), *CARDS]


def _line(found: Setup, needed: Memory, done: Work) -> str:
    card = next(card for card in CARDS if card.name == ONE)
    least = min((one for one in CARDS if one.has_room(needed.peak)), key=lambda one: one.memory, default=None)
    fits = f"fits from {_named(least)} on" if least else "fits on no card"
    hours = f"{time(found, card).hours:.3g} to {time(found, card, LAUNCH).hours:.3g} h on {ONE}"
    return f"{_size(needed.peak)} in each of {found.layout.processes}, {fits}; {done.total:.2g} FLOPs, {hours}"


def _resolved(run: Run, found: Setup) -> Iterator[tuple[str, str]]:
    estimator, source = run.method
    plan, layout, cost = found.plan, found.layout, found.cost
    yield (
        "method",
        f"{type(estimator).__name__} on {type(source).__name__}'s tokens, reads {cost.student} / {cost.teacher}",
    )
    learns = "LoRA's additions" if found.student.is_adapted else "all weights"
    yield "student", f"{run.start}: {_counted(found.student)}, of which {found.student.trained:,} learn ({learns})"
    held = found.teacher_reading.quantised or found.teacher_reading.dtype
    rests = ", rests on the CPU" if found.teacher_reading.rests_on_cpu else ""
    yield "teacher", f"{run.config['models']['teacher']}: {_counted(found.teacher)}, {held}{rests}"
    yield "types", f"student {found.student_reading.dtype}, computing {layout.precision}"
    again = ", layers run again on the way back" if layout.gradient_checkpointing else ""
    yield (
        "layout",
        f"{layout.processes} × {layout.accelerator}, {layout.strategy}{', offloaded' * layout.offload}{again}",
    )
    yield (
        "training",
        f"{plan.steps:,} steps × {plan.prompts:,} prompts × {plan.rollouts:,} rollouts, {found.pieces} micro-batches",
    )
    how = (
        f"the longest of {LOOKED_AT}" if found.prompt.is_measured else "assumed: the data or the tokenizer is not here"
    )
    yield "tokens", f"{found.prompt.tokens:,} of a prompt ({how}), at most {plan.response_limit:,} of a response"
    for test in found.tests:
        known = "" if test.is_known else " (assumed: the data is not here)"
        yield (
            "test",
            f"{test.name}: {test.problems:,} problems{known} × {test.responses} responses of at most {found.judged:,}",
        )


def _counted(model: Outline) -> str:
    idle = f", {model.active:,} active" if model.active < model.parameters else ""
    return f"{model.parameters:,} parameters{idle}"


def _memory(needed: Memory, found: Setup) -> Table:
    unit, name = (GIB, "GiB") if needed.peak > GIB / 10 else (2**20, "MiB")
    cells = lambda sizes: [f"{size / unit:,.2f}" if size else "" for size in sizes]  # noqa: E731
    rows = [(item.name, *cells(item.sizes.get(phase, 0.0) for phase in PHASES)) for item in needed.items]
    rows.append(("together", *cells(map(needed.total, PHASES))))
    return _table(f"{name} of each process on its device", ("", *PHASES), rows, MEMORY)


def _work(done: Work) -> Table:
    rows = [(f"tokens {name}", f"{value:,.0f}") for name, value in done.tokens.items()]
    rows += [(f"FLOPs of {name}", f"{value:.3g}") for name, value in done.flops.items()]
    caption = "at most. The untrained student and the teacher are judged once for all runs of a protocol."
    return _table("of the run, over all processes", ("", ""), rows, caption)


def _cards(found: Setup, needed: Memory) -> Table:
    rows = []
    for card in _known():
        floor, plain = time(found, card), time(found, card, LAUNCH)
        fits = "yes" if card.has_room(needed.peak) else "no"
        figures = (floor.step, plain.step, floor.hours, plain.hours)
        rows.append((card.name, f"{card.memory:.3g}", fits, *(f"{value:.3g}" for value in figures)))
    columns = ("", "GiB", "fits", "s/step at least", "s/step plainly", "hours at least", "hours plainly")
    return _table(f"with {found.layout.processes} of a card", columns, rows, HOURS)


def _table(
    title: str, columns: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]], caption: str
) -> Table:
    """Names on the left; figures, where there are any, on the right."""
    shown = Table(title=title or None, caption=caption or None, box=box.SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number and any(columns) else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def _named(card: Card) -> str:
    return f"{card.name} ({card.memory:.3g} GiB)"


def _size(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size > GIB / 10 else f"{size / 2**20:,.1f} MiB"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
