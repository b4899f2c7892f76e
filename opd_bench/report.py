"""The leaderboard of all records: python -m opd_bench.report --help. Needs no torch."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from opd_bench.reporting.formats import as_csv, markdown, runs_csv, terminal
from opd_bench.reporting.leaderboard import SEED, Table, tables
from opd_bench.reporting.page import page
from opd_bench.reporting.record import find_records, write_whole


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write them beside the records."""
    parser = _parser()
    options = parser.parse_args(arguments)
    folders = options.folders or [Path("results")]
    records, complaints = find_records(folders)
    for complaint in complaints:
        print(f"left out: {complaint}", file=sys.stderr)
    if not records:
        parser.exit(1, f"no records in {', '.join(map(str, folders))}; make bench METHOD=tropd makes one\n")
    found = tables(records, options.seed)
    console = Console()
    for table in found:
        console.print(terminal(table, console.width))
    out = options.out or folders[0]
    try:
        written = _save(found, complaints, out)
    except OSError as error:
        parser.exit(1, f"{out} can't be written: {error.strerror or error}; choose another place with --out FOLDER\n")
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.report", description="Leaderboards of all records below some folders."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: results")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: the first FOLDER)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the bootstrap (default %(default)s)")
    return parser


def _save(found: list[Table], complaints: list[str], out: Path) -> list[Path]:
    out.mkdir(parents=True, exist_ok=True)
    texts = {"leaderboard.md": markdown(found), "leaderboard.csv": as_csv(found), "runs.csv": runs_csv(found)}
    texts["report.html"] = page(found, complaints)
    for name, text in texts.items():
        write_whole(out / name, text)
    return [out / name for name in texts]


if __name__ == "__main__":
    sys.exit(main())
