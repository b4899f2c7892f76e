"""How seconds and memory of a step grow with its sizes, and those of a probe with its methods."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from scipy.stats import linregress

from benchmarks.compare import median, shape_json
from benchmarks.memory import Peak
from benchmarks.models import Place, Shape
from benchmarks.ours import Ours, setting
from opd_bench.configs import conf_dir, known

AXES = ("new_tokens", "vocabulary", "batch")


def growth(
    base: Shape, sizes: dict[str, Iterable[int]], repeats: int, place: Place, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One size at a time is changed."""
    found = []
    for axis, values in sizes.items():
        for value in values:
            tell(f"{axis} {value:,}")
            shape = base._replace(**{axis: value})
            found.append({"axis": axis, "value": value, "shape": shape_json(shape), **_one(shape, repeats, place)})
    return found


def exponent(values: Iterable[float], seconds: Iterable[float]) -> dict[str, float]:
    """k of seconds ∝ value^k, by least squares of the logarithms, with its standard error."""
    fit = linregress(np.log(list(values)), np.log(list(seconds)))
    return {"exponent": float(fit.slope), "error": float(fit.stderr)}


def probe(counts: Iterable[int], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Seconds of a probe of so many methods on one bank that is filled already."""
    names = ["opd", "opd_full", "vopd", "tropd", "gkd", "veto", "aopd", "soft_log", "lsm", "eopd", "iw_opd", "opd_topk"]
    with TemporaryDirectory() as folder:
        _probed(["opd"], Path(folder))  # the bank, and whatever is made once
        found = []
        for count in counts:
            tell(f"a probe of {count} methods")
            start = time.process_time()
            _probed(names[:count], Path(folder))
            found.append({"methods": count, "cpu": time.process_time() - start})
        return found


def _one(shape: Shape, repeats: int, place: Place) -> dict[str, Any]:
    side = Ours("opd_full", shape, repeats + 3, place)
    try:
        side.step()
        peak = Peak()
        side.step()
        found = peak.bytes()
        rows = [side.step() for _ in range(repeats)]
    finally:
        side.close()
    return {"cpu": median(rows), "wall": median(rows, "wall"), "bytes": found}


def _probed(names: list[str], folder: Path) -> None:
    from rich.console import Console

    from opd_bench.probing.run import Probe

    probe_config = yaml.safe_load((conf_dir() / "probe.yaml").read_text(encoding="utf-8"))
    parts = {group: yaml.safe_load(known(group, name).read_text(encoding="utf-8")) for group, name in _GROUPS.items()}
    config = {**probe_config, **setting(), **parts, "methods": names, "results": str(folder), "again": True}
    config["probe"] = probe_config["probe"] | {"sets": 4}
    Probe(config, None, Console(quiet=True), bar=False).perform()


_GROUPS = {"task": "mini_gsm", "trainer": "cpu", "rollout": "own"}
