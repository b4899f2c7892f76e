"""What has been measured, to read: python -m opd_bench.report --help. Needs no torch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from opd_bench.reporting import papers, plots, published
from opd_bench.reporting.cells import grid
from opd_bench.reporting.formats import as_csv, markdown, runs_csv, terminal
from opd_bench.reporting.leaderboard import SEED, Table, tables
from opd_bench.reporting.page import page
from opd_bench.reporting.record import Record, RecordError, find_records, folder_name, standing, write_whole

COMMANDS = ("leaderboard", "rescore", "published")


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
    """Print the tables and write them beside the records."""
    console, busy = Console(), Console(stderr=True)
    with busy.status("reading records"):
        records, complaints = _records(options.folders)
    with busy.status(f"comparing {len(records):,} runs"):
        found = tables(records, options.seed)
    for table in found:
        console.print(terminal(table, console.width))
        if comparison := papers.comparison(table):
            console.print(*published.beside_terminal(comparison, console.width))
    with busy.status("writing tables, plots and the page"):
        written = _save(found, complaints, options.out or options.folders[0])
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, markup=False, soft_wrap=True)
    return 0


def rescore(options: argparse.Namespace) -> int:
    """Judge all kept responses anew, and write a new record for each that its task's new version judges otherwise."""
    from opd_bench.rescoring import rescored, write  # what tasks need, the leaderboard must not

    console, lines, failed = Console(), [], 0
    records = standing(_records(options.folders)[0])
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
    again = commands.add_parser("rescore", help="judge kept responses anew, without a model")
    again.add_argument("--dry", action="store_true", help="say what would change and write nothing")
    for command, action in ((board, leaderboard), (again, rescore)):
        command.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: results")
        command.set_defaults(action=action)
    papers = commands.add_parser("published", help="the papers' own numbers")
    published.add_arguments(papers)
    papers.set_defaults(action=published.show)
    return parser


def _records(folders: list[Path]) -> tuple[list[Record], list[str]]:
    """All of them, and what can't be read, which is named; nothing at all is an error."""
    folders[:] = folders or [Path("results")]
    records, complaints = find_records(folders)
    for complaint in complaints:
        print(f"left out: {complaint}", file=sys.stderr)
    if not records:
        raise RecordError(f"no records in {', '.join(map(str, folders))}; make bench METHOD=tropd makes one")
    return records, complaints


def _save(found: list[Table], complaints: list[str], out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    texts = {"leaderboard.md": markdown(found), "leaderboard.csv": as_csv(found), "runs.csv": runs_csv(found)}
    texts["report.html"] = page(found, complaints, plots)
    for name, text in texts.items():
        write_whole(out / name, text)
    for table in found:
        plots.write_pictures(table, found, out / "plots" / folder_name(table.title))
    return [*(out / name for name in texts), out / "plots"]


if __name__ == "__main__":
    sys.exit(main())
