"""The leaderboard of all records: python -m opd_bench.report --help. Needs no torch."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from opd_bench.reporting.formats import as_csv, markdown, terminal
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.record import find_records


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and write them beside the records."""
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.report", description="Leaderboards of all records below some folders."
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="default: results")
    parser.add_argument("--out", type=Path, help="where leaderboard.md and .csv go (default: the first FOLDER)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default %(default)s)")
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
        console.print(terminal(table))
    out = options.out or folders[0]
    for name, text in (("leaderboard.md", markdown(found)), ("leaderboard.csv", as_csv(found))):
        (out / name).write_text(text)
    console.print(f"written: {out / 'leaderboard.md'} and .csv", highlight=False, markup=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
