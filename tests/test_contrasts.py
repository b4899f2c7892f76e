"""One method against another: differences and ratios seed by seed, with the interval that scipy has."""

import math

import numpy as np
import pytest
from scipy.stats import t

from opd_bench.report import main as report
from opd_bench.reporting.contrasts import contrasts, markdown
from opd_bench.reporting.record import RecordError, find_records
from tests.results import content, found, results

OURS = {0: 0.6, 1: 0.7, 2: 0.65, 3: 0.9}
THEIRS = {0: 0.5, 1: 0.65, 2: 0.5, 4: 0.1}
NORMS = {0: 2.0, 1: 3.0, 2: 5.0, 3: 1.0}


def training(norm, variance=3.0):
    return {"gradient_norm": {"median": norm}, "gradient": {"relative_variance": variance, "bias_reverse_kl": 0.25}}


@pytest.fixture
def tables(tmp_path):
    ours = [content("vopd", seed, share, training=training(NORMS[seed])) for seed, share in OURS.items()]
    theirs = [content("opd", seed, share, training=training(1.0, 0.0)) for seed, share in THEIRS.items()]
    for one in (*ours, *theirs):
        one["evaluation"]["after"]["sums"]["greedy"] /= 2
    alone = content("gkd", 0, 0.9, protocol={"digest": "other", "name": "sums-hard"})
    return found(results(tmp_path, *ours, *theirs, alone))


def test_a_difference_is_of_the_seeds_that_both_have(tables):
    (one,) = contrasts(tables, [("vopd", "opd")])
    own = np.array([OURS[seed] - THEIRS[seed] for seed in (0, 1, 2)])
    reach = t.ppf(0.975, 2) * own.std(ddof=1) / math.sqrt(3)
    assert (one.table, one.method, one.other, one.seeds) == ("sums-easy", "vopd", "opd", 3)
    assert one.sampled.mean == pytest.approx(own.mean())
    assert (one.sampled.low, one.sampled.high) == pytest.approx((own.mean() - reach, own.mean() + reach), rel=0.02)
    assert one.greedy.mean == pytest.approx(own.mean() / 2)


def test_a_run_that_did_not_finish_is_in_no_pair(tmp_path):
    failed = content("vopd", 1, 0.9, status="nan", reason="at step 3", training=training(2.0))
    finished = [
        content(name, seed, 0.5, training=training(1.0)) for name, seed in (("vopd", 0), ("opd", 0), ("opd", 1))
    ]
    (one,) = contrasts(found(results(tmp_path, failed, *finished)), [("vopd", "opd")])
    assert (one.seeds, one.sampled.mean) == (1, 0)


def test_a_ratio_is_of_logarithms_and_none_where_there_is_no_variance(tables):
    (one,) = contrasts(tables, [("vopd", "opd")])
    assert one.norm.mean == pytest.approx((2 * 3 * 5) ** (1 / 3))
    assert one.norm.low < 2 < one.norm.high
    assert one.variance.mean is None
    assert one.bias == (0.25, 0.25)
    assert "| sums-easy | `vopd` | `opd` | +10.0 [" in markdown([one])
    assert markdown([one]).splitlines()[-1].endswith("| — | 0.25 / 0.25 |")


def test_the_other_way_round_is_the_opposite(tables):
    one, other = contrasts(tables, [("vopd", "opd"), ("opd", "vopd")])
    assert one.sampled.mean == pytest.approx(-other.sampled.mean)
    assert one.norm.high * other.norm.low == pytest.approx(1)


def test_a_method_that_is_nowhere_is_told_and_one_in_another_table_makes_no_pair(tables):
    with pytest.raises(RecordError, match="no table has 'veto'; there are gkd, opd, vopd"):
        contrasts(tables, [("veto", "opd")])
    assert contrasts(tables, [("gkd", "opd")]) == []


def test_the_command_prints_them_and_refuses_what_is_no_pair(tmp_path, capsys):
    results(tmp_path, *(content(name, seed, 0.5) for name in ("vopd", "opd") for seed in (0, 1)))
    assert report(["contrast", "vopd:opd", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == markdown(contrasts(found(tmp_path), [("vopd", "opd")]))
    with pytest.raises(SystemExit):
        report(["contrast", "vopd", "--folder", str(tmp_path)])
    assert "a pair is METHOD:OTHER, such as vopd:opd, got 'vopd'" in capsys.readouterr().err


def test_the_command_is_of_one_ruleset(tmp_path, capsys):
    own = {"protocol": {"name": "sums-easy-tuned", "digest": "t", "ruleset": "tuned"}}
    results(tmp_path, *(content(name, 0, share) for name, share in (("vopd", 0.75), ("opd", 0.5))))
    results(tmp_path / "own", *(content(name, 0, share, **own) for name, share in (("vopd", 0.5), ("opd", 0.75))))
    for ruleset, line in (
        ("fixed", "| sums-easy | `vopd` | `opd` | +25.0"),
        ("tuned", "| sums-easy-tuned | `vopd` | `opd` | -25.0"),
    ):
        assert report(["contrast", "vopd:opd", "--folder", str(tmp_path), "--ruleset", ruleset]) == 0
        _, _, shown = capsys.readouterr().out.splitlines()
        assert shown.startswith(line)


def test_sweeps_over_a_field_are_found_only_where_they_are(tmp_path):
    results(tmp_path / "runs", content("opd"))
    results(tmp_path / "ablations" / "2.0", content("veto"))
    assert [record["method"]["name"] for record in find_records([tmp_path])[0]] == ["opd"]
    assert [record["method"]["name"] for record in find_records([tmp_path / "ablations"])[0]] == ["veto"]
