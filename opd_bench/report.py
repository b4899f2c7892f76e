"""What has been measured, to read: python -m opd_bench.report --help. Needs no torch."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.progress import track

from opd_bench.reporting import contrasts, papers, plots, probe_course, published
from opd_bench.reporting import rates as own_rates
from opd_bench.reporting import top as best
from opd_bench.reporting.cells import grid
from opd_bench.reporting.drawing import as_png
from opd_bench.reporting.filled import filled
from opd_bench.reporting.formats import as_csv, markdown, runs_csv, terminal, unshown
from opd_bench.reporting.leaderboard import SEED, Table, tables
from opd_bench.reporting.page import not_kept, page, samples
from opd_bench.reporting.plots.top import overview
from opd_bench.reporting.protocol import RESULTS_OF, VERSION
from opd_bench.reporting.record import (
    RUN,
    Record,
    RecordError,
    find_records,
    folder_name,
    record_files,
    standing,
    write_whole,
)

COMMANDS = ("leaderboard", "top", "contrast", "rates", "probed", "fill", "rescore", "published")
RESULTS = Path("results")
OFFICIAL = "official"
"""The folder in a folder of results whose folders, one a protocol's version, are committed with their tables."""
NEWEST = RESULTS / OFFICIAL / VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for; without a command, the leaderboard."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in (*COMMANDS, "-h", "--help"):
        given.insert(0, "leaderboard")
    parser = _parser()
    options = parser.parse_args(given)
    try:
        return int(options.action(options))
    except RecordError as error:
        parser.exit(1, f"{error}\n")
    except OSError as error:
        place = error.filename or getattr(options, "out", None)
        parser.exit(1, f"{place} can't be written: {error.strerror or error}; choose another place with --out FOLDER\n")


def leaderboard(options: argparse.Namespace) -> int:
    """Print the tables and write them beside the records: without a folder, of all, or of the official ones alone."""
    if options.folders or options.out:
        return _board(options.folders or [RESULTS], options.out, options.seed)
    alone = [] if _has_own(RESULTS) else _official(RESULTS)
    for folder in alone or [RESULTS]:
        _board([folder], None, options.seed)
    return 0


def top(options: argparse.Namespace) -> int:
    """Print the ranked methods of a version side by side in every setting, as Markdown; or draw all methods."""
    found = _compared(*(options.folders or [NEWEST]))
    chosen = best.settings(found, options.ruleset)
    print(best.top(chosen, options.rows), end="")
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.plot, as_png(overview(chosen)))
    return 0


def contrast(options: argparse.Namespace) -> int:
    """Print pairs of methods, one against the other, as Markdown."""
    found = _compared(*(options.folder or [NEWEST]))
    found = [table for table in found if table.protocol.get("ruleset", "fixed") == options.ruleset]
    print(contrasts.markdown(contrasts.contrasts(found, [_pair(text) for text in options.pairs])), end="")
    return 0


def rates(options: argparse.Namespace) -> int:
    """Print what each learning rate came to in the trials, and what a method's own is worth, as Markdown."""
    print(own_rates.markdown(_compared(*(options.folders or [NEWEST]))), end="")
    return 0


def probed(options: argparse.Namespace) -> int:
    """Print a figure of some methods at all students of the runs that were probed, as Markdown."""
    print(probe_course.course(probe_course.probes_in(options.folder), options.figure, options.methods), end="")
    return 0


def fill(options: argparse.Namespace) -> int:
    """Write pages anew, whose blocks between <!-- report: COMMAND --> and <!-- end --> are what COMMAND prints."""
    for path in options.pages:
        write_whole(path, filled(path.read_text(encoding="utf-8"), printed))
    return 0


def printed(command: str) -> str:
    """What python -m opd_bench.report COMMAND prints."""
    with redirect_stdout(StringIO()) as out:
        main(shlex.split(command))
    return out.getvalue()


def rescore(options: argparse.Namespace) -> int:
    """Judge all kept responses anew, and write a new record for each that its task's new version judges otherwise."""
    from opd_bench.rescoring import rescored, write  # what tasks need, the leaderboard must not

    console, lines, failed = Console(), [], 0
    records = standing(_records(options.folders or [RESULTS])[0])
    for record in track(records, "Judging", console=Console(stderr=True), transient=True):
        own = [record["method"]["name"], str(record["seed"]), record["protocol"]["name"]]
        try:
            found = rescored(record)
            place = str(write(found)) if found.is_new and not options.dry else "nothing to write"
            lines.append([*own, str(found.changed), "would be written" if found.is_new and options.dry else place])
        except RecordError as error:
            failed += 1
            print(f"left as it is: {error}", file=sys.stderr)
    console.print(grid("Judged anew", "", ("method", "seed", "protocol", "other verdicts", "record"), lines))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m opd_bench.report", description="What has been measured, to read.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    board = commands.add_parser("leaderboard", help="tables of all records below some folders (default)")
    board.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: the first FOLDER)")
    board.add_argument("--seed", type=int, default=SEED, help="of the resamples (default %(default)s)")
    short = commands.add_parser("top", help="the ranked methods in every setting, as Markdown for a page")
    short.add_argument("--rows", type=int, metavar="N", help="the first N methods (default: all that are ranked)")
    short.add_argument("--plot", type=Path, metavar="FILE", help="a PNG of all methods too")
    pairs = commands.add_parser("contrast", help="a method less another, seed by seed, as Markdown")
    pairs.add_argument("pairs", nargs="+", metavar="METHOD:OTHER")
    for command in (short, pairs):
        command.add_argument("--ruleset", choices=RESULTS_OF, default=RESULTS_OF[0], help="default %(default)s")
    pairs.add_argument("--folder", type=Path, action="append", help=f"default: {NEWEST}")
    pairs.set_defaults(action=contrast)
    several = commands.add_parser("rates", help="methods by learning rate, and what their own is worth, as Markdown")
    course = commands.add_parser("probed", help="a figure of probes over a run, as Markdown")
    course.add_argument("figure", help="such as variance_to_opd, bias_reverse_kl or snr")
    course.add_argument("methods", nargs="+", metavar="METHOD")
    course.add_argument("--folder", type=Path, default=NEWEST / "probes", help="default %(default)s")
    course.set_defaults(action=probed)
    pages = commands.add_parser("fill", help="figures in Markdown pages anew: <!-- report: COMMAND --> … <!-- end -->")
    pages.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    pages.set_defaults(action=fill)
    again = commands.add_parser("rescore", help="judge kept responses anew, without a model")
    again.add_argument("--dry", action="store_true", help="say what would change and write nothing")
    for command, action, usual in (
        (board, leaderboard, "results, or results/official/* if there are no others"),
        (short, top, NEWEST),
        (several, rates, NEWEST),
        (again, rescore, "results"),
    ):
        command.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help=f"default: {usual}")
        command.set_defaults(action=action)
    papers = commands.add_parser("published", help="the papers' own numbers")
    published.add_arguments(papers)
    papers.set_defaults(action=published.show)
    return parser


@cache  # several blocks of a page are of one folder
def _compared(*folders: Path) -> list[Table]:
    return tables(_records([*folders])[0])


def _pair(text: str) -> tuple[str, str]:
    one, colon, other = text.partition(":")
    if not (one and colon and other):
        raise RecordError(f"a pair is METHOD:OTHER, such as vopd:opd, got {text!r}")
    return one, other


def _board(folders: list[Path], out: Path | None, seed: int) -> int:
    """The tables of some folders, shown and written."""
    console, busy = Console(), Console(stderr=True)
    with busy.status("reading records"):
        records, complaints = _records(folders)
    with busy.status(f"comparing {len(records):,} runs"):
        found = tables(records, seed)
    for table in found:
        console.print(unshown(table) if table.of_trials else terminal(table, console.width))
        if comparison := papers.comparison(table):
            console.print(*published.beside_terminal(comparison, console.width))
    with busy.status("writing tables, plots and the page"):
        written = _save(found, complaints, out or folders[0])
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _records(folders: list[Path]) -> tuple[list[Record], list[str]]:
    """All of them, and what can't be read, which is named; nothing at all is an error."""
    records, complaints = find_records(folders)
    for complaint in complaints:
        print(f"left out: {complaint}", file=sys.stderr)
    if not records:
        raise RecordError(f"no records in {', '.join(map(str, folders))}; make bench METHOD=tropd makes one")
    return _owned(records, folders), complaints


def _owned(records: list[Record], folders: list[Path]) -> list[Record]:
    """Where there are official records, it is said which are not: a user's run of the same is a row of its own."""
    official = [place for folder in folders for place in _official(folder)]
    return [
        record | {"own": bool(official) and not any(Path(record["folder"]).is_relative_to(one) for one in official)}
        for record in records
    ]


def _official(folder: Path) -> list[Path]:
    """The official folders in a folder of results that have records."""
    return [place for place in sorted((folder / OFFICIAL).glob("*")) if any(place.rglob(RUN.file))]


def _has_own(folder: Path) -> bool:
    return any(folder / OFFICIAL not in path.parents for path in record_files(folder))


def _save(found: list[Table], complaints: list[str], out: Path) -> list[Path]:
    """What is committed is what records alone give: no responses, which are not, and no pictures but the page's."""
    committed = out.resolve().parent.name == OFFICIAL
    out.mkdir(parents=True, exist_ok=True)
    texts = {"leaderboard.md": markdown(found), "leaderboard.csv": as_csv(found), "runs.csv": runs_csv(found)}
    texts["report.html"] = page(found, complaints, plots, not_kept if committed else samples)
    for name, text in texts.items():
        write_whole(out / name, text)
    if committed:
        return [out / name for name in texts]
    for table in found:
        plots.write_pictures(table, found, out / "plots" / folder_name(table.title))
    return [*(out / name for name in texts), out / "plots"]


if __name__ == "__main__":
    sys.exit(main())
