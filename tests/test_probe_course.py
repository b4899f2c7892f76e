"""A figure of probes over a run, as a table."""

import pytest

from opd_bench.report import main as report
from opd_bench.reporting.probe_course import course, probes_in
from opd_bench.reporting.record import PROBE, RecordError, write_record
from tests.test_probe_reporting import method, record


def probe(progress, variance, setting="standard"):
    content = record({"vopd": method(variance), "opd": method(), "skd": {"status": "failed", "reason": "no memory"}})
    content["checkpoint"] |= {"progress": progress, "step": int(100 * progress)}
    content["protocol"] = content["protocol"] | {"name": f"sums-{setting}", "setting": setting}
    return content | {"config": {}}


@pytest.fixture
def folder(tmp_path):
    for at, content in enumerate([probe(0.5, 8.0), probe(0.0, 2.0), probe(0.0, 40.0, "hard")]):
        (tmp_path / str(at)).mkdir()
        write_record(tmp_path / str(at), content, PROBE)
    return tmp_path


def test_students_are_columns_in_the_order_of_the_run_and_the_usual_setting_comes_first(folder):
    lines = course(probes_in(folder), "variance_to_opd", ["vopd", "skd"]).splitlines()
    assert lines[0] == "| protocol | method | at 0% | at 50% |"
    assert lines[2:] == [
        "| sums-standard | `vopd` | 0.1 [0.0909, 0.11] | 0.4 [0.364, 0.44] |",
        "| sums-standard | `skd` | — | — |",
        "| sums-hard | `vopd` | 2 [1.82, 2.2] |  |",
        "| sums-hard | `skd` | — |  |",
    ]


def test_the_command_prints_it_and_says_what_there_is(folder, capsys, tmp_path_factory):
    assert report(["probed", "snr", "vopd", "--folder", str(folder)]) == 0
    assert capsys.readouterr().out == course(probes_in(folder), "snr", ["vopd"])
    for wrong, words in (("gkd", "no probe of 'gkd'; there are opd, skd, vopd"), ("opd", "probes have no 'speed'")):
        with pytest.raises(RecordError, match=words):
            course(probes_in(folder), "speed", [wrong])
    with pytest.raises(RecordError, match="no probes in"):
        probes_in(tmp_path_factory.mktemp("empty"))
