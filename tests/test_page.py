"""The page: what it says, that nothing in it is more than text, and that it needs no network."""

import base64
import hashlib
import math
import random
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from opd_bench.report import main
from opd_bench.reporting.leaderboard import tables
from opd_bench.reporting.page import page
from opd_bench.reporting.page.document import MOST
from opd_bench.reporting.page.markup import Markup, slugs, tag
from opd_bench.reporting.page.methods import prose
from opd_bench.reporting.page.values import amount, duration, interval, plain
from opd_bench.reporting.record import find_records
from opd_bench.reporting.statistics import Estimate
from tests.results import FORMULA, content, found, results

EVIL = "<script>window.pwned = 1</script><img src=x onerror=pwned=1>\"'><svg onload=pwned=1>&amp;"
TAGS = """html head meta title link style body a header div p button h1 nav ul li b span main section h2 h3 small strong
svg line circle label input fieldset legend table caption thead tbody tr th td details summary dl dt dd h4 h5 code pre
article figure figcaption footer script"""


class Read(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def shown(folder, complaints=(), plots=None):
    return page(found(folder), complaints, plots)


def five(name="opd", solved=0.5, /, **changes):
    return [content(name, seed, solved + seed / 100, **changes) for seed in range(5)]


def spoilt(value: Any) -> Any:
    """Evil at the end of every text, and in every key that is a name."""
    if isinstance(value, dict):
        return {f"{key}{EVIL}" if key in ("sums", "k") else key: spoilt(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spoilt(item) for item in value]
    return f"{value}{EVIL}" if isinstance(value, str) and value not in ("finished", "1.0") else value


def picture(name, title="A plot"):
    return SimpleNamespace(name=name, title=title, alt=f"says {name}", svg=f'<svg role="img" data-name="{name}"></svg>')


# ---------------------------------------------------------------- nothing but text, and nothing from elsewhere


def test_everything_that_a_record_says_is_shown_as_text(tmp_path):
    runs = [spoilt(content("opd", seed)) for seed in range(5)]
    runs += [spoilt(content("vopd", 0, method={"warning": "bad"})) | {"status": "nan"}]
    for run in runs:
        run["protocol"]["digest"], run["anchors"] = "abc123", {"before": "student-1"}
    text = shown(results(tmp_path, *runs, wrote=EVIL), [f"{tmp_path}/a/b/seed-0/record.json: {EVIL}\ud800"])
    read = Read(text)
    assert set(read.tags) <= set(TAGS.split())
    assert read.tags.count("script") == 1
    assert not [name for name, _ in read.attributes if name.startswith("on") or name == "src"]
    assert read.text.count(EVIL) > 50
    for known in ("opd", "OPD", "sums-easy", "re-implemented from the paper", "It is one paragraph.", "nan, "):
        assert f"{known}{EVIL}" in read.text


def test_plain_strings_are_escaped_and_markup_is_not():
    assert tag("b", "<i>", Markup("<u>"), title='"<') == '<b title="&quot;&lt;">&lt;i&gt;<u></b>'
    assert tag("input", hidden=True, value=None, aria_label="x", for_="y") == '<input hidden aria-label="x" for="y">'


def test_nothing_is_loaded_and_no_other_script_may_run(tmp_path):
    text = shown(results(tmp_path, *five()))
    read = Read(text)
    links = [value for name, value in read.attributes if name in ("href", "src", "action", "data", "srcset", "poster")]
    assert links
    assert all(value.startswith("#") or value == "data:," for value in links)
    style, script = (re.search(f"<{name}>(.*?)</{name}>", text, re.DOTALL)[1] for name in ("style", "script"))
    assert not re.search(r"url\(|@import|image-set|src:", style)
    policy = next(value for _, value in read.attributes if value and "default-src" in value)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "http:" not in text
    assert "https:" not in text


def test_addresses_within_the_page_are_unlike_and_lead_somewhere(tmp_path):
    runs = [*five("a/b"), *five("a b"), *five("a/b", protocol={"digest": "other"})]
    read = Read(shown(results(tmp_path, *runs)))
    ids = [value for name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids)) > 6
    assert {value[1:] for name, value in read.attributes if name == "href" and value != "data:,"} <= set(ids)
    assert slugs(["a b", "a-b", "a/b", "<>"]) == ["a-b", "a-b-2", "a-b-3", "row"]


# ---------------------------------------------------------------- the same records, the same page


def test_neither_the_order_of_the_records_nor_their_place_changes_a_byte(tmp_path):
    runs = [*five(), *five("vopd", 0.7), content("gkd", 1, status="nan", reason="step 3")]
    folder = results(tmp_path / "one", *runs, *five(protocol={"name": "hard", "digest": "f"}))
    shutil.copytree(folder, tmp_path / "elsewhere" / "two")
    records = [*find_records([folder])[0]]
    elsewhere = find_records([tmp_path / "elsewhere" / "two"])[0]
    texts = {page(tables(elsewhere), [])}
    for seed in range(4):
        random.Random(seed).shuffle(records)
        texts.add(page(tables(records), []))
    assert len(texts) == 1
    assert str(tmp_path) not in texts.pop()


def test_complaints_name_the_run_and_not_the_folder_that_it_lies_in_here(tmp_path):
    complaint = f"{tmp_path}/results/runs/easy/opd-1/seed-0/record.json: not a record: [Errno 2]"
    text = Read(shown(results(tmp_path, *five()), [complaint])).text
    assert "easy/opd-1/seed-0/record.json: not a record: [Errno 2]" in text
    assert str(tmp_path) not in text
    assert "Damaged records" in text


# ---------------------------------------------------------------- what it says


def test_the_answer_comes_first_with_how_sure_it_is_and_what_it_costs(tmp_path):
    cost = {"student": "full", "teacher": "full"}
    better = five("opd_full", 0.9, method={"cost": cost}, timing={"seconds": {"total": 100.0}})
    text = Read(shown(results(tmp_path, *five(), *better, *five("vopd", 0.7)))).text
    assert "opd_full is alone in the first band: it solves 92.0 % [" in text
    assert "Next: vopd, 72.0 % [" in text
    assert "The untrained student solves 20.0 % and the teacher solves 98.0 %." in text
    assert "Seed by seed, opd_full is 40.0 points above opd [+40.0, +40.0]" in text
    assert "opd_full’s run takes 100 s, opd’s 50 s on a-machine, by the clock" in text
    assert "it reads the whole vocabulary of both models; opd reads the sampled token of both models." in text


def test_several_in_the_first_band_are_named_and_the_reference_can_be_the_best(tmp_path):
    text = Read(shown(results(tmp_path, *five(), *five("vopd", 0.4)))).text
    assert "No method does better than the reference opd." in text
    many = [run for number in range(6) for run in five(f"method-{number}", 0.5)]
    text = Read(shown(results(tmp_path / "many", *many))).text
    assert "method-0, method-1, method-2, method-3 and 2 more share the first band, from 52.0 %" in text
    assert "There are no differences to opd in this table." in text


def test_what_is_not_ranked_is_shown_with_its_reason(tmp_path):
    runs = [*five(), content("few"), *five("k1_direct", method={"warning": "its mean is 0"})]
    runs += [content("few", 1, status="nan", reason="loss at step 3"), *five("check", config={"start": "teacher"})]
    text = Read(shown(results(tmp_path, *runs))).text
    for words in ("unranked: 1 of 5 seeds", "1 failed", "known wrong", "its mean is 0", "check: begins from a-student"):
        assert words in text
    assert "few, seed 1: nan, loss at step 3" in text
    assert "nan: loss at step 3" in text  # in the method's own section


def test_no_rank_and_no_run_are_said(tmp_path):
    assert "Highest so far: opd, 50.0 % with 1 seed." in Read(shown(results(tmp_path / "a", content()))).text
    failed = content(status="crash", reason="no", evaluation={"before": {}, "after": {}, "teacher": {}})
    text = Read(shown(results(tmp_path / "b", failed | {"training": {}, "timing": {}, "budget": {}}))).text
    assert "No competitor has finished a run." in text
    assert "No run has finished." in text


def test_protocols_are_ranked_alone_and_said_to_be(tmp_path):
    hard = five("vopd", 0.3, protocol={"name": "sums-hard", "digest": "fff"})
    text = Read(shown(results(tmp_path, *five(), *hard))).text
    assert "2 protocols. Each is ranked alone" in text
    assert text.count("is alone in the first band") == 2
    assert "protocols." not in Read(shown(results(tmp_path / "one", *five()))).text


def test_a_method_has_its_formula_its_facts_and_what_its_student_wrote(tmp_path):
    text = Read(shown(results(tmp_path, *five()))).text
    assert "r = log q(y) − log p(y)\nℓ = −sg[r] log p(y),  y ~ p" in text
    assert "Gradient flows through log p(y) alone. It is one paragraph." in text
    for words in ("∇ of reverse kl", "student: sampled, teacher: sampled", "Somebody, 2026", "another", "k = 8"):
        assert words in text
    kinds = ["Wrong before, right after", "Right before, wrong after", "Wrong before and after"]
    places = [text.index(words) for words in kinds]
    assert places == sorted(places)
    assert "Before, greedy ✗ wrong" in text
    assert "After, sampled ✓ right" in text


def test_prose_keeps_the_layout_of_what_is_indented_alone():
    assert [Read(block).tags for block in prose(FORMULA)] == [["p"], ["pre"], ["p"]]
    assert list(prose("")) == []


@pytest.mark.parametrize("damage", ["missing", "changed", "anchor"])
def test_responses_that_can_t_be_read_are_said_to_be_missing(tmp_path, damage):
    results(tmp_path, *five())
    for path in tmp_path.rglob("responses.jsonl.gz"):
        if ("anchors" in str(path)) == (damage == "anchor"):
            path.write_bytes(b"x") if damage == "changed" else path.unlink()
    text = Read(shown(tmp_path)).text
    assert "The responses aren't beside the record." in text
    assert str(tmp_path) not in text


def test_a_record_that_says_little_is_a_row_all_the_same(tmp_path):
    bare = {"name": "opd", "warning": "", "settings": {}, "source": {}}
    empty = {key: {} for key in ("models", "budget", "training", "config", "environment", "timing", "anchors")}
    run = content() | empty | {"method": bare, "tasks": {"sums": {}}}
    text = Read(shown(results(tmp_path, run))).text
    assert "The record doesn't hold the formula." in text
    assert "50.0" in text


def test_of_very_many_rows_the_best_are_described(tmp_path):
    (folder,) = [results(tmp_path, *five())]
    (record, *_), _ = find_records([folder])
    method = record["method"]
    many = [
        record | {"id": f"{number}-{seed}", "seed": seed, "method": method | {"name": f"m{number}"}}
        for number in range(MOST + 5)
        for seed in range(5 if number < 3 else 1)
    ]
    read = Read(page(tables(many), []))
    assert read.tags.count("h4") == MOST
    assert "Of 105 rows the first 100 are described here; the table has them all." in read.text


def test_plots_of_the_table_and_of_each_method_are_put_in(tmp_path):
    def curves(table, row):
        return [picture(f"curve-{row.method}")]

    plots = SimpleNamespace(pictures=lambda table, tables: [picture("forest", "<Forest>")], curves=curves)
    text = shown(results(tmp_path, *five(), *five("vopd")), plots=plots)
    for name in ("forest", "curve-opd", "curve-vopd"):
        assert text.count(f'<svg role="img" data-name="{name}"></svg>') == 1
    assert "&lt;Forest&gt;" in text
    assert "Plots" in Read(text).text
    assert "Plots" not in Read(shown(tmp_path)).text


def test_what_has_no_number_sorts_as_missing_and_infinity_as_the_largest(tmp_path):
    values = {"wild": math.inf, "none": math.nan}
    runs = [content(name, training={"gradient": {"step_variance": value}}) for name, value in values.items()]
    read = Read(shown(results(tmp_path, *runs)))
    sorted_by = [value for name, value in read.attributes if name == "data-value"]
    assert "Infinity" in sorted_by
    assert not {"inf", "nan"} & set(sorted_by)


def test_protocols_of_one_name_are_told_apart_by_what_differs(tmp_path):
    plans = [{"plan": {"steps": 60, "prompts": 16, "rollouts": 1, "learning_rate": rate}} for rate in (0.001, 0.01)]
    runs = [content(config=plan, protocol={"digest": str(number)}) for number, plan in enumerate(plans)]
    text = Read(shown(results(tmp_path, *runs))).text
    for number, rate in enumerate((0.001, 0.01)):
        assert f"no method ranked yetlearning rate {rate} · protocol {number}, version 1.0" in text


def test_numbers_are_short_and_aligned():
    assert [plain(value) for value in (1e-12, 0.12345, 1234.5, 12345678.0)] == ["0", "0.123", "1,234", "1.23e+07"]
    assert [amount(value) for value in (None, 3.0, 27641.0, 1.005e11)] == ["—", "3", "27.6k", "100G"]
    assert [duration(value) for value in (None, 59.3, 150.0, 8000.0)] == ["—", "59.3 s", "2.5 min", "2.22 h"]
    assert Read(interval(Estimate(0.5, 0.4, 0.6), "+")).text == "+50.0 [+40.0, +60.0]"


def test_the_report_writes_the_page_beside_the_tables(tmp_path):
    results(tmp_path, *five())
    assert main([str(tmp_path)]) == 0
    assert "Which on-policy-distillation estimator?" in (tmp_path / "report.html").read_text()


# ---------------------------------------------------------------- colours


def test_text_is_to_be_read_in_both_themes(tmp_path):
    text = shown(results(tmp_path, *five()))
    known = re.findall(r"--(\w+): light-dark\(#(\w{6}), #(\w{6})\)", text)
    assert len(known) == 8
    for theme in (0, 1):
        colours = {name: own[theme] for name, *own in known}
        for name in ("ink", "dim", "accent", "right", "wrong"):
            for ground in ("paper", "raised"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground, theme)


def contrast(one, other):
    """As the Web Content Accessibility Guidelines define it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
