"""A forecast in words and tables, or in a line."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opd_bench.forecast.cards import CARDS, GIB, RESERVED, SPARE, Card, here
from opd_bench.forecast.memory import PHASES, Memory, memory
from opd_bench.forecast.remedies import Remedy, remedies
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
    f"fits: {RESERVED:g} GiB are for CUDA, and {1 - SPARE:.0%} of the rest for fragments. Peaks are the vendors'; "
    f"assumed are {COMPUTE:.0%} of the FLOP/s and {READING:.0%} of the bandwidth. at least: by these alone, without "
    f"exchanges between processes. plainly: with {LAUNCH * 1000:g} ms a layer for every token written, which "
    "transformers takes however fast the card is (assumed, not measured)."
)
MORE = "Only more processes would need less each: TRAINER=ddp or zero3 with trainer.devices=NUMBER."
OTHERS = "Settings of plan, evaluation and teacher are the protocol's: only runs that share them are compared."


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
    console.print(_memory(needed))
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
        f"Does not fit on {', '.join(map(_named, too_small))}: {_size(needed.peak)} in the phase {needed.worst}, "
        f"of which the largest is {largest.name}, {_size(largest.sizes[needed.worst])}."
    )
    steps = remedies(found)
    yield (f"To need less: {'; then '.join(_path(steps, too_small))}." if steps else MORE)
    if any(part in step.words for step in steps for part in ("plan.", "evaluation.", "teacher.")):
        yield OTHERS


def _path(steps: Sequence[Remedy], cards: Sequence[Card]) -> Iterator[str]:
    """Each setting with what it brings, beside the ones before it, and the cards that it then fits."""
    waiting = list(cards)
    for step in steps:
        now = [card for card in waiting if card.has_room(step.peak)]
        waiting = [card for card in waiting if card not in now]
        yield f"{step.words} brings {_size(step.peak)}" + (f", for {', '.join(c.name for c in now)}" if now else "")


def _known() -> list[Card]:
    return [*here(), *CARDS]


def _line(found: Setup, needed: Memory, done: Work) -> str:
    card = next(card for card in CARDS if card.name == ONE)
    least = min((one for one in CARDS if one.has_room(needed.peak)), key=lambda one: one.memory, default=None)
    fits = f"fits from {_named(least)} on" if least else "fits on no card"
    hours = " to ".join(_figure(time(found, card, launch).hours) for launch in (0.0, LAUNCH))
    where = f"{found.layout.processes} × {ONE}"
    return f"{_size(needed.peak)} a process, {fits}; {done.total:.2g} FLOPs, {hours} h on {where}"


def _resolved(run: Run, found: Setup) -> Iterator[tuple[str, str]]:
    estimator, source = run.method
    plan, layout = found.plan, found.layout
    reads = f"reads {found.cost.student} / {found.cost.teacher}"
    yield "method", f"{type(estimator).__name__}, {reads}; tokens by {type(source).__name__}"
    learns = "LoRA's additions" if found.student.is_adapted else "all weights"
    yield "student", f"{run.start}: {_counted(found.student)}, of which {found.student.trained:,} learn ({learns})"
    held = found.teacher_reading.quantised or found.teacher_reading.dtype
    rests = ", rests on the CPU" * found.teacher_reading.rests_on_cpu
    yield "teacher", f"{run.config['models']['teacher']}: {_counted(found.teacher)}, {held}{rests}"
    yield "types", f"student {found.student_reading.dtype}, computing {layout.precision}"
    more = ", offloaded" * layout.offload + ", gradient checkpointing" * layout.gradient_checkpointing
    yield "layout", f"{layout.processes} × {layout.accelerator}, {layout.strategy}{more}"
    asked = f"{plan.steps:,} steps × {plan.prompts:,} prompts × {plan.rollouts:,} rollouts"
    yield "training", f"{asked}, {found.pieces} micro-batches in each process"
    how = f"the longest of {LOOKED_AT}" if found.prompt.is_measured else "assumed: data or tokenizer are not here"
    yield "tokens", f"{found.prompt.tokens:,} of a prompt ({how}), at most {plan.response_limit:,} of a response"
    for test in found.tests:
        known = "" if test.is_known else " (assumed: the data is not here)"
        responses = f"{test.responses} responses of at most {found.judged:,} tokens"
        yield "test", f"{test.name}: {test.problems:,} problems{known} × {responses}"


def _counted(model: Outline) -> str:
    idle = f", {model.active:,} active" if model.active < model.parameters else ""
    return f"{model.parameters:,} parameters{idle}"


def _memory(needed: Memory) -> Table:
    unit, name = (GIB, "GiB") if needed.peak > GIB else (2**20, "MiB")
    sizes = {item.name: [item.sizes.get(phase, 0.0) for phase in PHASES] for item in needed.items}
    sizes["together"] = [needed.total(phase) for phase in PHASES]
    rows = [(what, *(f"{size / unit:,.2f}" if size else "" for size in own)) for what, own in sizes.items()]
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
        rows.append((card.name, f"{card.memory:.3g}", fits, *map(_figure, figures)))
    columns = ("", "GiB", "fits", "s/step at least", "s/step plainly", "hours at least", "hours plainly")
    return _table(f"with {found.layout.processes} of a card", columns, rows, HOURS)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> Table:
    """Names on the left; figures, where there are any, on the right."""
    shown = Table(title=title or None, caption=caption or None, box=box.SIMPLE_HEAD, show_header=any(columns))
    for number, column in enumerate(columns):
        shown.add_column(column, justify="right" if number and any(columns) else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    return shown


def _figure(value: float) -> str:
    return f"{value:.3g}" if value >= 0.01 else "< 0.01"


def _named(card: Card) -> str:
    return f"{card.name} ({card.memory:.3g} GiB)"


def _size(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size > GIB else f"{size / 2**20:,.1f} MiB"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
