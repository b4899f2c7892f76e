"""The check of a GPU, dry on the CPU: every row is there, and what deviates is an error."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from opd_bench.gpu_check import Row, compared
from opd_bench.training.trial import Timed

ROOT = Path(__file__).parents[1]
WITHOUT_HYDRA = """
import sys
sys.modules |= {"hydra": None, "omegaconf": None}  # as if they were not installed
from opd_bench.gpu_check import main
sys.exit(main(sys.argv[1:]))
"""
ROWS = ["cpu 32-true", "cpu 32-true", "cpu bf16-mixed", *(f"cpu bf16 ZeRO-{stage}" for stage in (1, 2, 3))]


def check(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_HYDRA, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.skipif(not find_spec("deepspeed"), reason="deepspeed is not installed")
@pytest.mark.slow
def test_a_dry_run_has_every_row_a_profile_and_a_trace(tmp_path):
    small = ("--method", "supkd", "--steps", 2, "--prompts", 4)
    result = check("--accelerator", "cpu", *small, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = json.loads((tmp_path / "out" / "gpu_check.json").read_text())
    assert [row["name"] for row in rows] == ROWS
    assert [row["status"] for row in rows] == ["reference", *5 * ["ok"]]
    assert (rows[1]["norm_off"], rows[1]["loss_off"]) == (0, 0)
    assert all(0 < row["norm_off"] < 0.1 for row in rows[2:])
    assert all(row["timed"]["step_seconds"] > 0 and row["timed"]["tokens_per_second"] > 0 for row in rows)
    assert all(name in result.stdout for name in ("reference", "ZeRO-3", "aten::mm", "trace.json"))
    assert json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    assert not (tmp_path / "out" / "errors.txt").exists()


def test_what_fails_is_a_row_and_an_exit_code(tmp_path, capsys):
    from opd_bench import gpu_check
    from opd_bench.training.trial import Place, Work

    row = gpu_check.tried("here", Work("opd_full", 2, 4), Place("cpu", "7-mixed"), tmp_path)
    assert row.status.startswith("failed: ValueError: ")
    assert "Traceback" in (tmp_path / "errors.txt").read_text()
    assert row.status not in gpu_check.FINE
    with pytest.raises(SystemExit):
        gpu_check.main(["--steps", "1"])
    assert "--steps must be ≥ 2, for the first is a warm-up, got 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu_check.main(["--method", "opd_fulll"])
    assert "--method: no method 'opd_fulll', did you mean opd_full" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("norm", "loss", "status"),
    [
        (1.0, -2.0, "ok"),
        (1.05, -2.0, "ok"),
        (1.2, -2.0, "deviates"),
        (1.0, -1.0, "deviates"),
        (1.0, math.nan, "deviates"),
    ],
)
def test_what_is_too_far_off_or_no_number_deviates(norm, loss, status):
    reference = Row("cpu", "reference", Timed(1.0, 1.0, None, 1.0, -2.0))
    row = Row("gpu", "ok", reference.timed._replace(norm=norm, loss=loss))
    assert compared(row, reference, 0.1).status == status
    assert compared(row, reference._replace(timed=None), 0.1).status == "nothing to compare it with"
