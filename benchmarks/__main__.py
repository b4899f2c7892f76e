"""What a training step costs here, beside TRL's trainers and beside the floor: python -m benchmarks --help."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

PARTS = ("compare", "memory", "growth", "methods", "embedded")


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "report"], default=[*PARTS, "report"], metavar="PART")
    parser.add_argument("--out", type=Path, default=Path("results/perf"), help="where figures and report go")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all of it works")
    parser.add_argument("--cells", nargs="+", metavar="TEXT", help="of compare, those with this in their names")
    parser.add_argument("--all", action="store_true", help="cells that take long too")
    parser.add_argument("--gpu", action="store_true", help="0.5B ← 1.5B in bf16 on a GPU, compare alone")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--names", nargs="+", help="methods of the part `methods`; all if none is named")
    parser.epilog = f"Parts: {', '.join(PARTS)}, and report, which is made of what the others have left in --out."
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """0, or 1 if a peer's loss is not ours."""
    asked = arguments(given)
    os.environ["OMP_NUM_THREADS"] = str(asked.threads)  # before torch is imported
    warnings.filterwarnings("ignore")
    if asked.only == ["report"]:
        from benchmarks.report import written

        return _told(written(asked.out))
    from benchmarks.perform import Performance, lent

    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "trl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if missing := lent(asked):
        print(f"error: {missing}", file=sys.stderr)
        return 2
    performance = Performance(asked)
    for part in PARTS:
        if part in asked.only and (part == "compare" or not asked.gpu):
            performance.part(part)
    if "report" in asked.only:
        from benchmarks.report import written

        return _told(written(asked.out))
    return 0


def _told(found: tuple[Path, list[str]]) -> int:
    path, failed = found
    print(f"written to {path}")
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
