"""One thread per process, as `make test` has it: several threads on small tensors are many times slower."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data(monkeypatch):
    """The folder with data sets in their public formats, as $OPD_BENCH_DATA or beside the checkout: not part of it."""
    folder = Path(os.environ.get("OPD_BENCH_DATA") or BESIDE)
    if not folder.is_dir():
        pytest.skip("no data sets: neither $OPD_BENCH_DATA nor ../shared/data")
    monkeypatch.setenv("OPD_BENCH_DATA", str(folder))
    return folder
