"""All methods side by side at random prefixes, exactly: python -m opd_bench.methods --help."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from opd_bench.catalogue import load_method, method_names
from opd_bench.enumeration import exact_moments
from opd_bench.estimators.base import Claims

HEADER = """# Methods

For looking up what a METHOD is: what its gradient aims at and how much it varies, then each estimator's formula,
fields, paper and deviations. `make docs` writes this page from the code.

## Exact moments

What every METHOD's gradient is at a fixed prefix, from `make methods`: {description}.
All figures are exact: the scored token is enumerated, not sampled, and so is every coin.

- *tokens by*: who writes the scored token. *target*: the objective whose gradient the mean is, to 1e-9.
- *bias*: ‖E g − ∇KL‖ / ‖∇KL‖, and *cos*: cosine of E g to ∇KL, for the reverse KL(p‖q) and the forward KL(q‖p).
  The reverse one is the gradient at the visited prefix, not that of the sequence-level KL.
- *variance*: tr Cov of the logit gradient given the prefix, over ‖∇KL(p‖q)‖². Read it beside the bias: a reward that
  does not depend on the token can vary less than the right one and says nothing.
- *reads*: the most that is read of the student's and of the teacher's distribution at a position.
- A dash: the mean is 0 and points nowhere; prefixes where it is 0 are left out of the cosines.
- ⚠: known to be wrong, shown for comparison.

"""
ONE_BY_ONE = """
## One by one

Student p, teacher q, scored token y, r = log q(y) − log p(y); sg[·] is a stopped gradient; losses ℓ are of a token, and
their mean over all tokens of a step is minimised. Formulas and words are the docstrings of `opd_bench/estimators/`.
*source*: who writes the tokens. *mean gradient*: the objective whose gradient the mean at a prefix is, held to 1e-9;
where there is none, what the method is biased towards. *reads*: the most that it may read of student and teacher.

Where a paper and its authors' code differ, the paper is the default, the other is a field or a METHOD of its own.
Papers that could not be read are re-implemented from what could, and the provenance says so.
"""
COLUMNS = ("method", "tokens by", "target", "bias →rev", "cos rev", "bias →fwd", "cos fwd", "variance", "reads")
LEFT_OUT = ("bias →fwd", "cos fwd", "reads")
WIDE = 115


class Row(NamedTuple):
    """One method on one writer's tokens, as shown."""

    method: str
    writer: str
    target: str
    figures: tuple[float, ...]
    reads: str
    warning: str

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        name = f"{self.method} ⚠" if self.warning else self.method
        return (name, self.writer, self.target, *map(_shown, self.figures), self.reads)


def rows(names: list[str], student: torch.Tensor, teacher: torch.Tensor, progress: float) -> Iterator[Row]:
    """A row for every method and every writer whose tokens its source brings; figures are means over the prefixes."""
    size = exact_moments("opd_full", student, teacher).mean.square().sum(-1)
    for name in names:
        estimator, source = load_method(name)
        for writer in source.origins:
            if writer not in estimator.learns_from:
                continue
            moments = exact_moments(estimator, student, teacher, progress=progress, origin=writer.name.lower())
            columns = (
                moments.bias_reverse_kl,
                moments.cosine_reverse_kl,
                moments.bias_forward_kl,
                moments.cosine_forward_kl,
                moments.variance / size,
            )
            figures = tuple(float(column.nanmean()) for column in columns)
            reads = f"{moments.cost.student} / {moments.cost.teacher}"
            yield Row(name, writer.name.lower(), _target(estimator.claims), figures, reads, estimator.about.warning)


def markdown(table: list[Row], description: str) -> str:
    """The page docs/methods.md."""
    lines = [HEADER.format(description=description)]
    lines += [f"| {' | '.join(COLUMNS)} |\n", f"|{'|'.join(['---'] * 3 + ['---:'] * 5 + ['---'])}|\n"]
    lines += [f"| {' | '.join(row.cells())} |\n" for row in table]
    lines += [ONE_BY_ONE, *_sections(sorted({row.method for row in table}))]
    return "".join(lines)


def terminal(table: list[Row], description: str, width: int) -> Table:
    """The same for people at a terminal; a narrow one leaves some columns out and says so."""
    shown = [number for number, column in enumerate(COLUMNS) if width >= WIDE or column not in LEFT_OUT]
    caption = "⚠ known wrong, shown for comparison"
    if width < WIDE:
        caption += f"; a terminal {WIDE} wide shows {', '.join(LEFT_OUT)} too"
    result = Table(
        title=f"Exact gradient moments: {description}", caption=caption, box=box.SIMPLE_HEAD, collapse_padding=True
    )
    for number in shown:
        figure = 3 <= number <= 7
        result.add_column(COLUMNS[number], justify="right" if figure else "left", no_wrap=figure or number < 2)
    for row in table:
        cells = row.cells()
        result.add_row(*(escape(cells[number]) for number in shown), style="dim" if row.warning else None)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Print the table of all methods, or of those named."""
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.methods",
        description="Exact bias, direction, variance and cost class of every method's gradient at random prefixes.",
    )
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"default: all. {', '.join(method_names())}")
    parser.add_argument("--prefixes", type=int, default=16, help="how many to average over (default %(default)s)")
    parser.add_argument("--vocabulary", type=int, default=100, help="tokens in the vocabulary (default %(default)s)")
    parser.add_argument("--gap", type=float, default=1.0, help="teacher = student + GAP · noise (default %(default)s)")
    parser.add_argument("--progress", type=float, default=0.0, help="share of training done (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the prefixes (default %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the page docs/methods.md instead")
    options = parser.parse_args(arguments)
    if options.prefixes < 1 or options.vocabulary < 1:
        parser.error(f"--prefixes and --vocabulary must be ≥ 1, got {options.prefixes} and {options.vocabulary}")
    generator = torch.Generator().manual_seed(options.seed)
    student, noise = torch.randn(2, options.prefixes, options.vocabulary, generator=generator, dtype=torch.float64)
    pair = (2 * student, 2 * student + options.gap * noise)
    names = options.methods or method_names()
    try:
        steps = track(names, "Enumerating", console=Console(stderr=True), transient=True, disable=options.markdown)
        table = [row for name in steps for row in rows([name], *pair, options.progress)]
    except ValueError as error:
        parser.error(str(error))
    description = (
        f"mean of {options.prefixes} random prefixes, vocabulary {options.vocabulary}, gap {options.gap:g}, "
        f"progress {options.progress:g}, seed {options.seed}"
    )
    if options.markdown:
        sys.stdout.write(markdown(table, description))
    else:
        console = Console()
        console.print(terminal(table, description, console.width))
    return 0


def _sections(names: Iterable[str]) -> Iterator[str]:
    """A section for each estimator, with a line for each METHOD that it is in."""
    from opd_bench.training.summary import described  # what records say of a method; brings the training stack along

    groups: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for name in names:
        told = described(load_method(name))
        groups[told["title"]][name] = told
    for title, group in groups.items():
        about = next(iter(group.values()))
        warning = f"⚠ {about['warning']}\n\n" if about["warning"] else ""
        yield f"\n### {title}\n\n{warning}{about['formula']}\n\n- Paper: {about['paper']}\n"
        yield f"- Provenance: {about['provenance']}\n- Deviations: {' '.join(about['deviations']) or 'none'}\n\n"
        yield "| METHOD | fields | source | mean gradient | reads |\n|---|---|---|---|---|\n"
        for name, told in group.items():
            source, reads = dict(told["source"]), " / ".join(told["cost"].values())
            written = " ".join(filter(None, (source.pop("name"), _fields(source))))
            cells = (f"[{name}](../conf/method/{name}.yaml)", _fields(told["settings"]), written, told["aim"], reads)
            yield f"| {' | '.join(cells)} |\n"


def _fields(settings: Mapping[str, Any]) -> str:
    return " ".join(f"`{name}={json.dumps(value, ensure_ascii=False)}`" for name, value in settings.items())


def _target(claims: Claims) -> str:
    return (claims.target or "biased").replace("_", " ")


def _shown(figure: float) -> str:
    """Three significant digits; rounding errors are 0 and what has no value is a dash."""
    if figure != figure:
        return "—"
    return "0" if abs(figure) < 1e-12 else f"{figure:.3g}"


if __name__ == "__main__":
    sys.exit(main())
