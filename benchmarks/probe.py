"""All methods in one probe against each in a probe of its own: python -m benchmarks.probe --help."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOME = "opd,opd_full,gkd_fkl,vopd,vopd_topk,tropd,reopold,minillm,veto,k3_direct,opd_topk,opd_plus_hellinger"
"""Methods of every cost class, with and without weights and coins."""


class Took(NamedTuple):
    """Seconds of one process, all of it."""

    cpu: float
    wall: float


def process(*arguments: str) -> Took:
    """Of a Python process, run quietly; what it complains of is shown."""
    started = time.perf_counter()
    running = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {running.returncode}")
    return Took(used.ru_utime + used.ru_stime, time.perf_counter() - started)


def probed(methods: str, overrides: Sequence[str]) -> Took:
    """A probe in a folder of its own: rollouts, the teacher's states and the exact gradients included."""
    with tempfile.TemporaryDirectory() as folder:
        return process("-m", "opd_bench.probe", f"methods=[{methods}]", f"results={folder}", *overrides)


def measured(singles: Sequence[str], overrides: Sequence[str]) -> dict[str, Took]:
    """Start-up alone, all methods together, and each of some alone."""
    found = {"start-up": process("-c", "import opd_bench.probing.run"), "all": probed("all", overrides)}
    return found | {name: probed(name, overrides) for name in singles}


def summary(found: dict[str, Took], methods: int) -> list[tuple[str, float, float]]:
    """Rows of CPU-seconds: with the start of the interpreter and the libraries, and without."""
    (start, _), (together, _), *alone = found.values()
    each = [took.cpu for took in alone]
    rows = [
        ("all methods in one probe", together, together - start),
        (f"sum of {len(each)} single probes", sum(each), sum(each) - len(each) * start),
    ]
    if len(each) < methods:
        mean = sum(each) / len(each)
        rows.append((f"{methods} × their mean (extrapolated)", methods * mean, methods * (mean - start)))
    return rows


def table(found: dict[str, Took], methods: int) -> str:
    """Markdown."""
    rows = [f"| {name} | {took.cpu:.1f} | {took.wall:.1f} |" for name, took in found.items()]
    head = ["| process | CPU-s | wall s |", "| --- | ---: | ---: |"]
    sums = [f"| {name} | {whole:.0f} | {without:.0f} |" for name, whole, without in summary(found, methods)]
    return "\n".join(
        [*head, *rows, "", "| CPU-seconds | all of it | without start-up |", "| --- | ---: | ---: |", *sums]
    )


def main() -> None:
    """Measure, show, and keep if asked to."""
    from opd_bench import method_names

    names = method_names()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--singles", default=SOME, help="methods to probe alone, with commas, or all (%(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("overrides", nargs="*", help="settings of every probe, as in probe.sets=8")
    given = parser.parse_args()
    singles = names if given.singles == "all" else given.singles.split(",")
    found = measured(singles, given.overrides)
    print(table(found, len(names)))
    if given.out:
        seconds = {name: took._asdict() for name, took in found.items()}
        given.out.write_text(json.dumps({"methods": len(names), "overrides": given.overrides, "seconds": seconds}))


if __name__ == "__main__":
    main()
