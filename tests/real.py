"""Data sets in their public formats, where there are any."""

import os
from pathlib import Path

import pytest

from opd_bench.tasks.dataset import DATA

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data(monkeypatch) -> Path:
    """The folder that OPD_BENCH_DATA names, or the one beside the checkout."""
    folder = Path(os.environ.get(DATA, BESIDE))
    if not folder.is_dir():
        pytest.skip(f"no data: {DATA} names no folder")
    monkeypatch.setenv(DATA, str(folder))
    return folder
