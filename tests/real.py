"""Real data, where there is some."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_data(monkeypatch) -> Path:
    """$OPD_BENCH_DATA, or a folder shared/data beside the repository."""
    folder = Path(os.environ.get("OPD_BENCH_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("there is no real data: name a folder of it as OPD_BENCH_DATA")
    monkeypatch.setenv("OPD_BENCH_DATA", str(folder))
    return folder
