"""A paper's table beside what was measured here."""

import pytest

from opd_bench.reporting.formats import markdown
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.page import page
from opd_bench.reporting.papers import comparison
from tests.runs import small_run
from tests.synthetic import runs

REFERENCE = {"paper": "vOPD", "table": "main math", "setting": "Qwen3-1.7B->Qwen3-1.7B-Base"}


def of_experiment(method, accuracy, reference=REFERENCE, samples=8):
    found = []
    for one in runs(method, [accuracy] * 2):
        judged = {"math500": {"sampled": accuracy, "pass@8": 0.9}}
        own = {"id": f"{method}{one['seed']}", "files": {}, "folder": "nowhere", "evaluation": {"after": judged}}
        own |= {"tasks": {"math500": {"samples": samples}}, "config": one["config"] | {"published": reference}}
        own["evaluation"]["before"] = {"math500": {"sampled": 0.25}}
        found.append(one | own)
    return found


def ours(table):
    rows = comparison(table).rows
    return {(row.paper_method, row.metric): row.here for row in rows if row.here is not None}


def test_paper_and_here_stand_side_by_side_and_are_not_ranked_together():
    (table,) = tables([*of_experiment("opd", 0.5), *of_experiment("vopd", 0.61)])
    found = ours(table)
    assert found[("OPD", "math500_avg@8")] == pytest.approx(50)
    assert found[("vOPD-fullV", "math500_avg@8")] == pytest.approx(61)
    assert found[("vOPD-fullV", "math500_pass@8")] == pytest.approx(90)
    assert found[("Student", "math500_avg@8")] == pytest.approx(25)
    assert {row.method for row in table.rows} == {"opd", "vopd"}
    text = markdown([table])
    assert "| vOPD-fullV | vopd | 64.0 / 61.0 | 84.6 / 90.0 |" in text
    assert text.index("## mini_gsm-standard") < text.index("# Paper beside here")
    assert "learning rate" in text.split("# Paper beside here")[1]
    shown = page([table], [])
    assert "Paper beside here" in shown
    assert "64.0 / 61.0" in shown


def test_another_number_of_samples_is_another_figure():
    (table,) = tables(of_experiment("opd", 0.5, samples=4))
    assert ("OPD", "math500_avg@8") not in ours(table)


def at(k, accuracy, reference):
    found = of_experiment("vopd_topk", accuracy, reference)
    own = {"method": found[0]["method"] | {"settings": {"k": k}}}
    return [one | own | {"id": f"{one['id']}-{k}"} for one in found]


def test_a_row_of_other_fields_is_the_paper_s_that_has_them_and_no_other():
    ablation = REFERENCE | {"table": "k ablation"}
    for several in ([at(5, 0.25, ablation)], [at(5, 0.25, ablation), at(50, 0.5, ablation)]):
        (table,) = tables([one for group in several for one in group])
        found = {name: value for (name, metric), value in ours(table).items() if metric == "math500_avg@8"}
        assert found == {"vOPD-top5": 25} | ({"vOPD-top50": 50} if len(several) == 2 else {})
    for k, shown in ((5, False), (20, True)):
        (table,) = tables(at(k, 0.25, REFERENCE))
        assert (("vOPD-topk", "math500_avg@8") in ours(table)) == shown


VETO = {"paper": "Veto", "table": "main", "setting": "Qwen2-7B-IT->Qwen2-0.5B-IT"}


@pytest.mark.parametrize(
    ("task", "figures", "shown"),
    [
        ("gsm8k", {"greedy": 0.4, "sampled": 0.3}, {"gsm8k_acc": 40}),
        ("humaneval", {"sampled": 0.2, "pass@10": 0.4}, {"humaneval_pass@1": 20, "humaneval_pass@10": 40}),
        ("dialogsum", {"sampled": 0.3, "rougeL": 0.3}, {}),
        ("dialogsum", {"sampled": 0.3, "win": 0.55}, {"dialogsum_winrate": 55}),
    ],
)
def test_a_paper_s_figures_are_found_under_our_names(task, figures, shown):
    found = of_experiment("veto", 0.5, VETO)
    for one in found:
        one["tasks"] = {task: {"samples": 10}}
        one["evaluation"] = {"before": {}, "after": {task: figures}}
    (table,) = tables(found)
    assert ours(table) == {("Veto", metric): pytest.approx(value) for metric, value in shown.items()}


def test_without_a_reference_that_all_share_there_is_none():
    for reference in (None, REFERENCE | {"paper": "nobody"}, {"paper": "vOPD"}):
        (table,) = tables(of_experiment("opd", 0.5, reference))
        assert comparison(table) is None
        assert "Paper beside here" not in page([table], []) + markdown([table])
    (table,) = tables([*of_experiment("opd", 0.5), *of_experiment("vopd", 0.5, None)])
    assert comparison(table) is None


def test_a_run_refuses_a_reference_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match=r"paper.*vOPDD"):
        small_run(tmp_path, "opd", "published={paper: vOPDD, table: main math, setting: x}")
