"""The papers' tables at the command line: a part of python -m opd_bench.report."""

import argparse
import sys

from rich.console import Console

from opd_bench.reporting.published.grouped import counterparts, groups
from opd_bench.reporting.published.results import Published, chosen, numbers, only
from opd_bench.reporting.published.tables import markdown, setup_terminal, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--paper", help="vOPD, Veto, TrOPD or OPD+ (default: all)")
    parser.add_argument("--table", help="one of its tables")
    parser.add_argument("--setting", help="teacher->student, as in the table's title")
    parser.add_argument("--method", help="as a paper calls it, or a METHOD of ours")
    parser.add_argument("--markdown", action="store_true", help="print a page instead, with every set-up")


def show(options: argparse.Namespace) -> int:
    """Print the tables that were chosen; 2 if there are none. The set-up is shown where one table is."""
    try:
        found = groups(_chosen(options))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.markdown:
        sys.stdout.write(markdown(found))
        return 0
    console = Console()
    for group in found:
        console.print(*terminal(group, console.width))
    if len(found) == 1:
        console.print(setup_terminal(found[0]))
    return 0


def _chosen(options: argparse.Namespace) -> list[Published]:
    found = chosen(numbers(), paper=options.paper, table=options.table, setting=options.setting)
    return found if options.method is None else _of_method(found, options.method)


def _of_method(found: list[Published], method: str) -> list[Published]:
    """By a METHOD of ours if one of these is called that, else by the paper's name."""
    known = counterparts()
    theirs, ours = [one.method for one in found], [known[one.paper, one.method].method for one in found]
    if method and method in ours and method not in theirs:
        return only(found, "method", method, ours)
    return only(found, "method", method, theirs, also=ours)
