"""An official row made again, and whether it comes out the same: python -m opd_bench.reproduce --help."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from opd_bench.configs import listed, near
from opd_bench.reporting.cells import figure, grid
from opd_bench.reporting.comparison import (
    ALIKE,
    COVERED,
    Difference,
    Figure,
    contradictions,
    differences,
    environments,
    judged,
    packs_alike,
    same_responses,
)
from opd_bench.reporting.identity import other_start
from opd_bench.reporting.protocol import VERSION
from opd_bench.reporting.record import REPRODUCED, RUN, Record, RecordError, read_record, short_digest

SHOWN = 20
"""Fields that differ, in a table."""
EXAMPLES = f"""examples:
  python -m opd_bench.reproduce tropd/0
  python -m opd_bench.reproduce vopd/3 --setting mismatch
  python -m opd_bench.reproduce mini_gsm-standard-1a2b3c/tropd/0

The run is made by the configuration in its official record. In the same environment (versions of the libraries,
processor and its instructions, threads) all that it comes to must be the same, bit for bit: figures, every step, the
responses by their digest. In another one, one other last bit may make another token and so another path: then models,
data, settings and steps must be the same, and all responses, word for word, with figures to {ALIKE:.0%} of their size;
or accuracy, end reverse KL and gradient norm no farther off than {COVERED:.0%} of pairs of the method's seeds are, by
its other official seeds (t √2 s, around the mean of each start), and the untrained models within one standard error
over problems. 0 is returned if it matches."""


class Asked(NamedTuple):
    """Which row: METHOD/SEED of a setting and ruleset, or PROTOCOL-FOLDER/METHOD/SEED."""

    row: str
    setting: str
    ruleset: str
    official: Path


class Row(NamedTuple):
    """An official run, and those of the method's other seeds."""

    record: Record
    others: list[Record]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if the row matches."""
    parser = _parser()
    given = parser.parse_args(arguments)
    console = Console()
    try:
        row = official_row(Asked(given.row, given.setting, given.ruleset, given.official))
        console.print(_announced(row.record), highlight=False, markup=False, soft_wrap=True)
        return told(console, row, performed(row.record, given.out, console))
    except (ValueError, RecordError) as error:
        parser.exit(1, f"error: {error}\n")
    except OSError as error:
        parser.exit(1, f"error: {error.filename or given.out} can't be written: {error.strerror or error}\n")
    except SystemExit:
        parser.exit(1, "stopped; the same command begins anew\n")


def official_row(asked: Asked) -> Row:
    """The run that is asked for, or an error that says which there are."""
    *protocol, method, seed = ["", *Path(asked.row).parts][-3:]
    if not method or not seed.removeprefix("seed-").isdecimal():
        raise ValueError(f"a row is METHOD/SEED, such as tropd/0, got {asked.row!r}")
    folders = _protocols(asked.official)
    place = _named(folders, protocol[0]) if any(protocol) else _chosen(folders, asked)
    seeds = {int(path.parent.name.removeprefix("seed-")): path for path in _method(place, method).glob(f"*/{RUN.file}")}
    if (number := int(seed.removeprefix("seed-"))) not in seeds:
        raise ValueError(f"no official seed {number} of {method} in {place}; there are {listed(_texts(seeds))}")
    found = {own: read_record(path) | {"folder": str(path.parent)} for own, path in sorted(seeds.items())}
    return Row(found.pop(number), list(found.values()))


def performed(official: Record, out: Path, console: Console) -> Record:
    """The same configuration run anew, from nothing but the models: judgements of these and answers are made again."""
    from opd_bench.training.launch import quiet, supervised  # what follows takes seconds to import, --help must not
    from opd_bench.training.lock import locked
    from opd_bench.training.run import Run

    quiet()
    place = out / f"{official['method']['name']}-{official['seed']}-{official['id'][:6]}"
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):
        for old in place.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
        try:
            run = Run(official["config"] | {"results": str(place), "again": False}, console, bar=True)
        except (ValueError, TypeError, KeyError) as error:
            raise RecordError(
                f"this code can't run the configuration of the official row: {error}. {_origin(official)}"
            ) from error
        record = run.perform() if run.layout.place.is_started else supervised(run)
    return record | {"folder": str(run.folder)}


def told(console: Console, row: Row, here: Record) -> int:
    """What is the same and what is not; 0 if it matches."""
    official = row.record
    console.print(f"record    {here['folder']}/{RUN.file}", highlight=False, markup=False, soft_wrap=True)
    elsewhere, apart = environments(official, here), differences(official, here)
    if elsewhere:
        console.print(_table("What is not the same of the environment", elsewhere))
    if not apart:
        responses = " and all responses" if packs_alike(official) else "; responses are packed otherwise here"
        console.print(
            f"matches, bit for bit: every figure of {here['budget']['steps']} steps{responses}", soft_wrap=True
        )
        return 0
    if not elsewhere:
        console.print(_table("What differs in the same environment", apart))
        said = f"does not match (fields that differ: {len(apart)}). {_origin(official)}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
        return 1
    return _told_from_elsewhere(console, row, here)


def _told_from_elsewhere(console: Console, row: Row, here: Record) -> int:
    wrong, figures = contradictions(row.record, here, row.others), judged(row.record, here, row.others)
    if wrong:
        console.print(_table("What no environment may change", wrong))
    elif same_responses(row.record, here) and (apart := max((one.apart for one in figures), default=0.0)) < ALIKE:
        console.print(
            f"matches in another environment: all responses, word for word; figures to {apart:.0e} of their size"
        )
        return 0
    if figures:
        console.print(_figures(figures))
    if wrong or not all(one.fits for one in figures):
        console.print(f"does not match. {_origin(row.record)}", highlight=False, markup=False, soft_wrap=True)
        return 1
    console.print(f"matches in another environment: no farther off than {COVERED:.0%} of pairs of seeds are")
    return 0


def _protocols(official: Path) -> dict[Path, Record]:
    """Folders of this protocol version with one of their records each."""
    some = [next(path.glob(f"*/seed-*/{RUN.file}"), None) for path in sorted(official.glob("*/*"))]
    records = {path.parents[2]: read_record(path) for path in some if path}
    found = {path: record for path, record in records.items() if record["protocol"]["version"] == VERSION}
    if found:
        return found
    if records:
        other = next(reversed(records.values()))
        raise ValueError(
            f"the official results in {official} are of protocol {other['protocol']['version']}, "
            f"this code of {VERSION}. {_origin(other)}"
        )
    raise ValueError(
        f"no official results in {official}: they are in the repository, not in the package. Run this in a checkout "
        "(git checkout HEAD -- results/official brings them back), or say where they are with --official FOLDER"
    )


def _chosen(folders: dict[Path, Record], asked: Asked) -> Path:
    """By setting and ruleset."""
    known = {path: (own["protocol"]["setting"], own["protocol"]["ruleset"]) for path, own in folders.items()}
    found = [path for path, own in known.items() if own == (asked.setting, asked.ruleset)]
    if not found:
        there = listed(sorted({f"setting {setting} with ruleset {ruleset}" for setting, ruleset in known.values()}))
        raise ValueError(f"no official rows of setting {asked.setting} with ruleset {asked.ruleset}; there are {there}")
    if len(found) > 1:
        raise ValueError(
            f"{asked.row} is of several protocols; say FOLDER/METHOD/SEED with one of {listed(_texts(found))}"
        )
    return found[0]


def _named(folders: dict[Path, Record], name: str) -> Path:
    by_name = {path.name: path for path in folders}
    if name not in by_name:
        raise ValueError(f"no official protocol {name!r}{near(name, [*by_name])}; there are {listed([*by_name])}")
    return by_name[name]


def _method(place: Path, method: str) -> Path:
    """Its folder, named by the METHOD or, with its settings' digest, in full."""
    found = {path.parent.parent.name: path.parent.parent for path in sorted(place.glob(f"*/seed-*/{RUN.file}"))}
    own = [path for name, path in found.items() if method in (name, name.rpartition("-")[0])]
    if not own:
        names = sorted({name.rpartition("-")[0] for name in found})
        raise ValueError(f"no official method {method!r}{near(method, names)}; there are {listed(names)}")
    usual = [path for path in own if not _is_check(path)] if len(own) > 1 else own
    if len(usual) != 1:
        raise ValueError(f"{method} was run at several settings: name one of {listed(_texts(own))}")
    return usual[0]


def _is_check(place: Path) -> bool:
    """Whether it began from another model than the protocol's students."""
    return bool(other_start(read_record(next(place.glob(f"*/{RUN.file}")))))


def _announced(official: Record) -> str:
    seconds = official["timing"]["seconds"]["total"]
    outcome = official["status"] + (f" ({official['reason']})" if official["reason"] else "")
    return f"official  {official['folder']}: {outcome}, in {seconds:.0f} s there"


def _origin(official: Record) -> str:
    commit = str(official["environment"]["commit"]).removesuffix("-dirty")
    return f"The official row is of commit {commit}: after git checkout {commit} the same command tells if code is why."


def _table(title: str, found: list[Difference]) -> Any:
    rows = [(one.field, _short(one.official), _short(one.here)) for one in found[:SHOWN]]
    more = f"and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return grid(title, more, ("field", "official", "here"), rows)


def _figures(found: list[Figure]) -> Any:
    rows = []
    for one in found:
        reach = "too few seeds" if one.reach is None else figure(one.reach)
        rows.append((one.name, f"{one.official:.4g}", f"{one.here:.4g}", reach, "yes" if one.fits else "NO"))
    caption = f"as far as {COVERED:.0%} of pairs of seeds; untrained models: a standard error over problems"
    return grid("How far off", caption, ("figure", "official", "here", "may be off by", "fits"), rows)


def _short(value: Any) -> str:
    """A long one by its beginning and a digest."""
    text = "—" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:24]}… ({short_digest(text)})"


def _texts(values: Any) -> list[str]:
    return [str(value) for value in sorted(values)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m opd_bench.reproduce",
        description="Run an official row again and say whether it comes out the same.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("row", metavar="ROW", help="METHOD/SEED, or PROTOCOL-FOLDER/METHOD/SEED")
    parser.add_argument("--setting", default="standard", help="of METHOD/SEED (default: %(default)s)")
    parser.add_argument("--ruleset", default="fixed", help="of METHOD/SEED (default: %(default)s)")
    parser.add_argument(
        "--official", type=Path, metavar="FOLDER", default="results/official", help="default: %(default)s"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        default=f"results/{REPRODUCED}",
        help="where runs go (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
