"""What TensorBoard is given, read back from its files and from a server of its own."""

import html
import json
import math
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import SummaryWriter

from opd_bench import load_method, method_names
from opd_bench.reporting.files import RESPONSES, digests, packed_responses, read_anchor_responses, read_responses
from opd_bench.reporting.record import Record, find_records
from opd_bench.scoring import Scored
from opd_bench.training import run as run_module
from opd_bench.training.board import CHARTS, Board, of_tokens
from opd_bench.training.module import Seen
from opd_bench.training.samples import said, samples, verbatim
from opd_bench.training.table import COLUMNS, FIRST, settings
from tests.ranks import in_processes, trainer_of
from tests.runs import series_of, small_run
from tests.test_contract import tokens_of
from tests.test_training import KilledError, Killer

PAGE = (Path(__file__).parents[1] / "docs" / "tensorboard.md").read_text()
HOSTILE = (
    "<script>alert(1)</script>",
    "```\n<b>bold</b>\n```",
    "`code` **bold** [link](javascript:alert(1))",
    "# heading\n\n* item\n\n<img src=x onerror=alert(1)>",
    "</code></pre><script>",
    "a <!-- b\n\nc <![CDATA[ d <? e </ f",
    "| a | b |\n|---|---|\n| c | d |",
    "&lt;script&gt; &amp; [x]: http://x",
)


def events(folder: Path) -> EventAccumulator:
    """All of every tag."""
    return EventAccumulator(str(folder), size_guidance=dict.fromkeys(("scalars", "histograms", "tensors"), 0)).Reload()


def hparams(read: EventAccumulator) -> dict[str, object]:
    """What the table has of a run."""
    entry = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(entry).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()}


def end_status(read: EventAccumulator) -> int:
    entry = read.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    return metadata.parse_session_end_info_plugin_data(entry).status


def texts(read: EventAccumulator) -> list[tuple[int, str]]:
    return [
        (event.step, event.tensor_proto.string_val[0].decode()) for event in read.Tensors("eval/samples/text_summary")
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run, its record and its events."""
    options = ("watch.histograms_every=2", "watch.samples_shown=3")
    run = small_run(tmp_path_factory.mktemp("finished"), "tropd", *options)
    record = run.perform()
    return run, record, events(run.folder / "tensorboard")


# ---------------------------------------------------------------- a run's file


def test_every_figure_of_every_step_is_there(finished):
    run, _, read = finished
    for tag, values in series_of(run).items():
        told = [(event.step, event.value) for event in read.Scalars(tag) if event.step]
        known = [(step, float(value)) for step, value in enumerate(values, 1) if value is not None]
        assert [step for step, _ in told] == [step for step, _ in known]
        assert [value for _, value in told] == pytest.approx([value for _, value in known], rel=1e-6)


def test_histograms_count_every_scored_token_and_have_its_mean(finished):
    run, _, read = finished
    series = series_of(run)
    assert set(read.Tags()["histograms"]) == {
        "train/log_ratio_tokens",
        "estimator/advantage_tokens",
        "estimator/trusted_tokens",
    }
    for tag in read.Tags()["histograms"]:
        told = read.Histograms(tag)
        assert [event.step for event in told] == [1, 3, 5]
        for event in told:
            found, mean = event.histogram_value, series[tag.removesuffix("_tokens")][event.step - 1]
            tokens = sum(series[f"train/tokens_{writer}"][event.step - 1] for writer in ("student", "teacher"))
            assert found.num == sum(found.bucket) == tokens
            assert found.sum / found.num == pytest.approx(mean, rel=1e-4, abs=1e-6)


def test_the_table_has_settings_and_final_figures(finished):
    run, record, read = finished
    row, after = hparams(read), record["evaluation"]["after"]["mini_gsm"]
    assert row == settings(record | {"config": run.config})
    assert (row["method"], row["seed"], row["status"], row["reads of teacher"]) == ("tropd", 0, "finished", "top-k")
    assert end_status(read) == Status.STATUS_SUCCESS
    assert set(FIRST) <= row.keys()
    final = {tag: read.Scalars(tag) for tag in read.Tags()["scalars"] if "/final_" in tag}
    assert {tag for tag in final if not tag.endswith(("pass@2", "sampled_error"))} == set(COLUMNS)
    assert all(len(values) == 1 and values[0].step == 6 for values in final.values())
    figures = {tag: values[0].value for tag, values in final.items()}
    assert figures["eval/final_sampled"] == pytest.approx(after["sampled"])
    assert figures["eval/final_pass@2"] == pytest.approx(after["pass@2"])
    training = record["training"]
    assert figures["train/final_reverse_kl"] == pytest.approx(training["reverse_kl"]["last"])
    assert figures["grad/final_norm_median"] == pytest.approx(training["gradient_norm"]["median"])
    assert figures["grad/final_relative_variance"] == pytest.approx(training["gradient"]["relative_variance"])


def test_sample_texts_are_problems_with_the_responses_to_them(finished):
    run, _, read = finished
    [(step, text)] = texts(read)
    assert (step, text.count("### Problem")) == (6, 3)
    ((record,), _) = find_records([run.folder])
    for when, lines in (("before", read_anchor_responses(record, "before")), ("after", read_responses(record))):
        for response in [line["responses"][0] for line in lines[:3]]:
            verdict = "solved" if response["correct"] else "(wrong|no answer|cut off)"
            assert re.search(rf"\*\*{when.capitalize()}: {verdict}\*\*\n\n    {re.escape(response['text'])}", text)


def test_charts_are_laid_out_and_show_tags_that_exist(finished):
    _, _, read = finished
    layout = Layout.FromString(read.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == list(CHARTS)
    patterns = [tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag]
    written = set(read.Tags()["scalars"]) | {"grad/noise_scale"}  # which needs a signal above 0
    assert len(patterns) > 15
    assert all(len([tag for tag in written if re.match(pattern, tag)]) == 1 for pattern in patterns)


def test_no_histograms_and_no_texts_where_none_are_asked_for(tmp_path):
    few = ("plan.steps=1", "evaluation.samples=1", "evaluation.problems=1")
    run = small_run(tmp_path, "opd", *few, "watch.histograms_every=0", "watch.samples_shown=0")
    run.perform()
    read = events(run.folder / "tensorboard")
    assert read.Tags()["histograms"] == []
    assert "eval/samples/text_summary" not in read.Tags()["tensors"]


# ---------------------------------------------------------------- tried again


def test_a_killed_run_has_every_step_once(tmp_path, monkeypatch):
    """Killed before the first checkpoint, between two and after the last one."""
    options = ("watch.histograms_every=1", "evaluation.samples=1", "evaluation.problems=8")
    whole = small_run(tmp_path / "whole", "opd", *options)
    whole.perform()
    extras = run_module.Run._extras
    for step in (1, 3, 5):
        monkeypatch.setattr(run_module.Run, "_extras", lambda run, step=step: [*extras(run), Killer(step)])
        with pytest.raises(KilledError):
            small_run(tmp_path / "cut", "opd", *options).perform()
        time.sleep(1)  # TensorBoard orders files by the second, and then by a count in which 10 is before 9
    monkeypatch.setattr(run_module.Run, "_extras", extras)
    cut = small_run(tmp_path / "cut", "opd", *options)
    cut.perform()
    one, two = (events(run.folder / "tensorboard") for run in (whole, cut))
    for kind in ("scalars", "histograms"):
        assert sorted(one.Tags()[kind]) == sorted(two.Tags()[kind])
    for tag in one.Tags()["scalars"]:
        assert [(x.step, x.value) for x in one.Scalars(tag)] == [(x.step, x.value) for x in two.Scalars(tag)]
    for tag in one.Tags()["histograms"]:
        pairs = zip(one.Histograms(tag), two.Histograms(tag), strict=True)
        assert all((x.step, x.histogram_value) == (y.step, y.histogram_value) for x, y in pairs)
    assert texts(one) == texts(two)


def test_what_a_checkpoint_knows_is_on_disk(tmp_path, monkeypatch):
    """TensorBoard writes in a thread of its own; what that has not come to is lost with a killed process."""
    told, write = [], RecordWriter.write

    class Reader(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step:
                read = events(run.folder / "tensorboard").Histograms("estimator/advantage_tokens")
                told.append([event.step for event in read])

    def slowly(writer, data):
        time.sleep(0.01)
        write(writer, data)

    monkeypatch.setattr(RecordWriter, "write", slowly)
    monkeypatch.setattr(run_module.Run, "_extras", lambda run, old=run_module.Run._extras: [*old(run), Reader()])
    options = ("watch.checkpoint_every=1", "watch.histograms_every=1", "evaluation.samples=1", "evaluation.problems=1")
    run = small_run(tmp_path, "opd", "plan.steps=4", "evaluation.every=0", *options)
    run.perform()
    assert told == [[1], [1, 2], [1, 2, 3]]


def test_a_failed_run_says_so_and_tried_again_has_one_row_that_says_otherwise(tmp_path, monkeypatch):
    class Broken(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_extras", lambda run, old=run_module.Run._extras: [*old(run), Broken()])
        run = small_run(tmp_path, "opd")
        run.perform()
    folder = run.folder / "tensorboard"
    failed = events(folder)
    assert (hparams(failed)["status"], end_status(failed)) == ("crash", Status.STATUS_FAILURE)
    assert "eval/final_sampled" not in failed.Tags()["scalars"]
    [(_, text)] = texts(failed)
    assert "**Before" in text
    assert "**After" not in text
    for options in ((), ("again=true",)):
        small_run(tmp_path, "opd", *options).perform()
        read = events(folder)
        assert (hparams(read)["status"], end_status(read)) == ("finished", Status.STATUS_SUCCESS)
        assert len(list(folder.glob("*.outcome"))) == 1
        assert [event.step for event in read.Scalars("eval/final_sampled")] == [6]
        assert [event.step for event in read.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
        assert len(texts(read)) == 1


def test_texts_of_an_earlier_try_are_not_shown_as_this_one_s(tmp_path):
    assert "**After" in samples(saved(tmp_path, ["one"]), 2)
    assert samples(saved(tmp_path, ["one"]) | {"files": {}}, 2) == ""


# ---------------------------------------------------------------- what is hostile


def saved(folder: Path, said: list[str]) -> Record:
    """What of a record samples need, with one response to each problem, which is the response too."""
    responses = [{"text": text, "finished": True, "correct": False, "formatted": True} for text in said]
    own = [{"prompt": one["text"], "answer": one["text"], "responses": [one]} for one in responses]
    files = {RESPONSES: packed_responses(own)}
    (folder / RESPONSES).write_bytes(files[RESPONSES])
    return {"evaluation": {"before": {}}, "files": digests(files), "anchors": {}, "folder": str(folder)}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_model_writes_is_shown_as_it_is(text):
    shown = markdown_to_safe_html(f"**Before**\n\n{verbatim(text)}\n\n**After**\n\n{verbatim('fine')}")
    block = f"<pre><code>{html.escape(text, quote=False)}\n</code></pre>"
    assert (
        shown
        == f"<p><strong>Before</strong></p>\n{block}\n<p><strong>After</strong></p>\n<pre><code>fine\n</code></pre>"
    )


def test_nothing_is_shown_as_nothing_and_odd_line_ends_end_no_block():
    assert verbatim(" \n") == "    (nothing)"
    assert verbatim("a\r<b>\x0b<c>\u2028<d>") == "    a\n    <b>\n    <c>\n    <d>"


def test_a_response_is_solved_cut_off_wrong_or_without_an_answer():
    kinds = [(True, True, True), (False, True, True), (False, False, True), (False, False, False)]
    names = ("correct", "formatted", "finished")
    words = [said(dict(zip(names, kind, strict=True))) for kind in kinds]
    assert words == ["solved", "wrong", "no answer", "cut off"]


def test_values_that_are_not_finite_are_left_out_of_histograms(tmp_path):
    values = torch.tensor([1.0, math.nan, math.inf, -2.0, -math.inf], dtype=torch.bfloat16)
    part = Scored(torch.zeros(()), {"advantage": values, "lost": values[1:3]}, {"log_ratio": values})
    found = of_tokens(Seen(None, [], [], [part, part]))
    assert found["estimator/advantage_tokens"].tolist() == [1, -2, 1, -2]
    assert found["train/log_ratio_tokens"].tolist() == [1, -2, 1, -2]
    assert len(found["estimator/lost_tokens"]) == 0


# ---------------------------------------------------------------- several processes


def fitted(folder: Path, strategy: str, devices: int) -> None:
    run = small_run(folder, "tropd", "plan.steps=2", "plan.learning_rate=1e-4")
    trainer = trainer_of(run, strategy, devices, [Board(1)])
    trainer.loggers = [TensorBoardLogger(folder, name=None, version="tensorboard")]
    trainer.fit(run._parts().module)
    for logger in trainer.loggers:
        logger.finalize("success")


def test_two_processes_write_one_file_with_the_histograms_of_one_process(tmp_path):
    in_processes(fitted, tmp_path / "two", "ddp", 2)
    fitted(tmp_path / "one", "auto", 1)
    assert len(list((tmp_path / "two" / "tensorboard").glob("events*"))) == 1
    one, two = (events(tmp_path / count / "tensorboard") for count in ("one", "two"))
    for tag in ("train/log_ratio_tokens", "estimator/advantage_tokens", "estimator/trusted_tokens"):
        for alone, both in zip(one.Histograms(tag), two.Histograms(tag), strict=True):
            assert alone.histogram_value.num == both.histogram_value.num > 100
            for figure in ("sum", "sum_squares", "min", "max"):
                figures = [getattr(event.histogram_value, figure) for event in (alone, both)]
                assert figures[0] == pytest.approx(figures[1], rel=1e-4, abs=1e-5)


# ---------------------------------------------------------------- the page's lines


def documented() -> dict[str, str]:
    """Every tag with the rest of its line."""
    lines = re.findall(r"^\| (`\w+/\w[^|]*) \| (.*) \|$", PAGE, re.MULTILINE)
    tags = [(tag, rest) for names, rest in lines for tag in re.findall(r"`([^`]+)`", names)]
    assert len(tags) == len(dict(tags)), "a tag has two lines"
    return dict(tags)


def of_estimators() -> dict[str, list[str]]:
    """Which methods report what."""
    found = defaultdict(list)
    for name in method_names():
        method = load_method(name)
        for stat in method.estimator.token_loss(tokens_of(method), 0.5).stats:
            found[f"estimator/{stat}"].append(name)
    return dict(found)


def test_every_tag_has_its_line_on_the_page_and_every_line_its_tag(finished, tmp_path):
    run = small_run(tmp_path, "opd_full", "watch.histograms_every=1", "plan.prompts=16")
    run.perform()
    written = set()
    for read in (finished[2], events(run.folder / "tensorboard")):
        kinds = read.Tags()
        shown = [tag.removesuffix("/text_summary") for tag in kinds["tensors"] if "__" not in tag and tag[0] != "_"]
        written |= {re.sub(r"pass@\d+", "pass@K", tag) for tag in [*kinds["scalars"], *kinds["histograms"], *shown]}
    reported = of_estimators()
    written |= set(reported) | {f"{tag}_tokens" for tag in reported}
    assert sorted(documented()) == sorted(written)


def test_the_page_says_which_methods_report_what():
    lines = {tag: rest for tag, rest in documented().items() if tag.startswith("estimator/") and "_tokens" not in tag}
    named = {tag: sorted(re.findall(r"`([a-z0-9_]+)`", rest.split(" | ")[1])) for tag, rest in lines.items()}
    assert named == of_estimators()


# ---------------------------------------------------------------- a server


class Server:
    """What a browser would be told."""

    def __init__(self, address: str):
        self.address = address
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, **query: str):
        return json.load(self.opener.open(f"{self.address}data/plugin/{path}?{urllib.parse.urlencode(query)}"))

    def post(self, path: str, body: dict):
        given = {"data": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}
        return json.load(self.opener.open(urllib.request.Request(f"{self.address}data/plugin/{path}", **given)))


@contextmanager
def serving(folder: Path):
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            address = next(match[1] for line in process.stderr if (match := re.search(r" at (http\S+)", line)))
            yield Server(address)
        finally:
            process.terminate()


def until(true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def test_a_server_shows_scalars_histograms_texts_charts_and_a_row_for_each_run(finished, tmp_path):
    root = finished[0].folder.parents[2]
    small_run(root, "opd", "plan.steps=2", "plan.learning_rate=1e30", "plan.clip=null").perform()
    text = samples(saved(tmp_path, [HOSTILE[0]]), 1)
    with SummaryWriter(root / "hostile") as writer:
        writer.add_text("eval/samples", text)
    wanted = {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE"], "sliceSize": 9}
    with serving(root) as server:
        until(lambda: len(server.get("text/tags")) == 3)
        until(lambda: server.post("hparams/session_groups", wanted)["totalSize"] == 2)
        run = next(name for name in server.get("scalars/tags") if "tropd" in name)
        loss = server.get("scalars/scalars", run=run, tag="train/loss")
        assert [step for _, step, _ in loss] == [1, 2, 3, 4, 5, 6]
        assert "train/log_ratio_tokens" in server.get("histograms/tags")[run]
        text = server.get("text/text", run="hostile", tag="eval/samples/text_summary")[0]["text"]
        assert html.escape(HOSTILE[0], quote=False) in text
        assert "<script" not in text
        assert [category["title"] for category in server.get("custom_scalars/layout")["category"]] == list(CHARTS)
        columns = server.post("hparams/experiment", {"includeMetrics": True})
        assert [metric["name"]["tag"] for metric in columns["metricInfos"]] == list(COLUMNS)
        assert tuple(column["name"] for column in columns["hparamInfos"][:5]) == FIRST
        rows = server.post("hparams/session_groups", wanted)["sessionGroups"]
    ends = {row["hparams"]["method"]: (row["hparams"]["status"], row["sessions"][0]["status"]) for row in rows}
    assert ends == {"tropd": ("finished", "STATUS_SUCCESS"), "opd": ("nan", "STATUS_FAILURE")}
    figures = {row["hparams"]["method"]: {value["name"]["tag"] for value in row["metricValues"]} for row in rows}
    assert figures["tropd"] == set(COLUMNS)
