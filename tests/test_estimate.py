"""What is foretold of a run, against what it takes: counts and bytes exactly, activations within a factor of 1.5."""

import json
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import DynamicCache

from opd_bench.bench import main
from opd_bench.catalogue import load_method, method_names
from opd_bench.forecast.cards import CARDS
from opd_bench.forecast.memory import PHASES, activations, memory, per_logit
from opd_bench.forecast.remedies import remedies
from opd_bench.forecast.setup import PROMPT, Setup, setup
from opd_bench.forecast.work import LAUNCH, per_token, time, work
from opd_bench.models.lora import LoRA, adapted
from opd_bench.models.network import Head, Network, recomputing
from opd_bench.models.outline import outline
from opd_bench.rollouts.choices import Alone, Bent, Corrected, Law, Sampling
from opd_bench.scoring import Heads, ScoredBatch, Scorer
from opd_bench.tokens import Origin
from opd_bench.training.health import of_tokens
from tests.commands import ended
from tests.families import FAMILIES, tiny
from tests.runs import configured, small_run

QWEN3 = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
SIZES = {
    "0.6": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 3072},
    "1.7": {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 6144},
    "4": {"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "intermediate_size": 9728},
}
AS_PUBLISHED = (
    "trainer=gpu",
    "trainer.precision=bf16-mixed",
    "student.dtype=bfloat16",
    "teacher.dtype=bfloat16",
    "plan.prompts=64",
    "plan.micro_batches=64",
    "plan.response_limit=2048",
    "evaluation.batch=64",
)
LOW = ("student.lora_rank=64", "student.lora_alpha=128")


def qwen3(folder: Path, size: str) -> str:
    """A folder that holds the configuration of a Qwen3, and nothing else."""
    folder = folder / f"Qwen3-{size}B"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**QWEN3, **SIZES[size]}))
    return str(folder)


def large(folder: Path, *overrides: str, size: str = "1.7", method: str = "opd") -> Setup:
    """A run of two models of which only the configuration is there."""
    name = qwen3(folder, size)
    run = small_run(folder / "results", method, f"start={name}", f"models.teacher={name}", *AS_PUBLISHED, *overrides)
    return setup(run)


def size_of(found: Setup, item: str) -> float:
    """Its bytes where there are most."""
    return max(max(one.sizes.values()) for one in memory(found).items if one.name == item)


def peak(function: Callable[[], object]) -> int:
    """The most bytes of tensors at once, kernels' own ones too."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        function()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = torch.tensor([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    return int(live.cumsum(0).max())


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_alone_tells_what_the_model_itself_does(family, rank, tmp_path):
    model = tiny(family)
    model.config.save_pretrained(tmp_path)
    reading = small_run(tmp_path, "opd").readers.student
    if rank:
        reading = small_run(tmp_path, "opd", f"student.lora_rank={rank}").readers.student
    found = reading.pupil(reading.weightless(str(tmp_path)), 0)
    real = adapted(model, LoRA(rank, 16.0, 0.0, "all-linear"), 0) if rank else model
    assert outline(found) == outline(real)
    assert outline(found).parameters == sum(value.numel() for value in real.parameters())
    assert outline(found).trained == sum(value.numel() for value in real.parameters() if value.requires_grad)
    assert {value.device.type for value in found.parameters()} == {"meta"}
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".bin")] == []


def test_of_experts_the_chosen_ones_are_active():
    found, model = outline(tiny("qwen3_moe")), tiny("qwen3_moe")
    inside = sum(value.numel() for name, value in model.named_parameters() if ".experts." in name)
    assert found.active == found.parameters - inside // 2  # two of four
    assert outline(tiny("qwen3")).active == outline(tiny("qwen3")).parameters


@pytest.mark.parametrize(("size", "billions"), [("0.6", 0.596), ("1.7", 1.72), ("4", 4.02)])
def test_public_models_have_the_parameters_that_they_are_known_for(size, billions, tmp_path):
    reading = small_run(tmp_path, "opd").readers.student
    assert outline(reading.weightless(qwen3(tmp_path, size))).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens", [4, 23])
def test_keys_and_values_are_those_of_the_cache(family, tokens):
    model = tiny(family)
    cache = DynamicCache(config=model.config)
    ids = torch.randint(3, 90, (3, tokens))
    with torch.no_grad():
        for part in (ids[:, :-1], ids[:, -1:]):
            model(part, past_key_values=cache, use_cache=True)
    assert 3 * outline(model).cached(tokens) == sum(one.keys.numel() + one.values.numel() for one in cache.layers)


# ---------------------------------------------------------------- bytes


@pytest.mark.parametrize(
    "overrides",
    [(), ("student.dtype=bfloat16",), ("student.lora_rank=4", "student.dtype=bfloat16", "teacher.dtype=bfloat16")],
)
def test_what_a_run_keeps_is_as_foretold(overrides, tmp_path):
    short = ("plan.response_limit=3", "plan.micro_batches=4", "watch.moments_every=0", "watch.noise_every=0")
    run = small_run(tmp_path, "opd", *overrides, *short)
    found, parts, made = setup(run), [], run._parts
    run._parts = lambda trainer: parts.append(made(trainer)) or parts[0]
    record = run.perform()
    assert record["status"] == "finished", record["reason"]
    module = parts[0].module
    student, teacher = module.student, module.teacher.model
    learning = [value for value in student.parameters() if value.requires_grad]
    assert size_of(found, "student's weights") == sum(value.nbytes for value in student.parameters())
    assert size_of(found, "teacher's weights") == sum(value.nbytes for value in teacher.parameters())
    assert size_of(found, "gradients") == sum(value.nbytes for value in learning)
    state = module.update.adam.state.values()
    assert size_of(found, "AdamW's state") == sum(
        one[name].nbytes for one in state for name in ("exp_avg", "exp_avg_sq")
    )
    kept = sum(batch.student.nbytes + batch.teacher.nbytes for batch in module.seen.batches)
    assert 0.6 < kept / size_of(found, "states of both") <= 1  # shorter prompts, and one state less
    budget, done = record["budget"], work(found)
    assert budget["student_tokens"] == done.tokens["written by the student"]
    assert budget["tokens_read"] <= done.tokens["read by both"] < 2 * budget["tokens_read"]
    rolled = 2 * budget["student_tokens"] * found.student.parameters
    assert budget["flops"] == pytest.approx(budget["tokens_read"] * per_token(found) + rolled)


WAYS = {
    "float32": (),
    "bfloat16": ("student.dtype=bfloat16",),
    "mixed": ("trainer.precision=bf16-mixed",),
    "checkpointing": ("trainer.gradient_checkpointing=true",),
    "LoRA": ("student.lora_rank=4",),
    "LoRA, dropout": ("student.lora_rank=4", "student.lora_dropout=0.1"),
    "LoRA, bfloat16": ("student.lora_rank=4", "student.dtype=bfloat16"),
    "LoRA, mixed": ("student.lora_rank=4", "student.dtype=bfloat16", "trainer.precision=bf16-mixed"),
}
WIDE = {"hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 8, "head_dim": 16}
OF_ALL = [(family, way) for family in FAMILIES if family != "gpt2" for way in ("float32", "bfloat16")]
OF_SOME = [(family, way) for family in ("llama", "qwen3", "gemma2") for way in WAYS]


@pytest.mark.parametrize(("family", "way"), sorted({*OF_ALL, *OF_SOME}))
def test_activations_are_what_autograd_saves(family, way, tmp_path):
    run = small_run(tmp_path, "opd", *WAYS[way])
    model = tiny(family, **WIDE).to(getattr(torch, run.readers.student.dtype)).train()
    run.readers.student.pupil(model, 0)
    found = setup(run)._replace(student=outline(model))
    if found.layout.gradient_checkpointing:
        recomputing(model)
    measured = saved(model, 2, 50, found.layout.precision == "bf16-mixed")
    foretold = activations(found, 2, 50)
    if found.layout.gradient_checkpointing:  # one layer has what all have without, when its turn comes
        plain = found.changed("layout", gradient_checkpointing=False)
        foretold -= activations(plain, 2, 50) / found.student.layers
    assert 1 / 1.5 < measured / foretold < 1.5


def saved(model, rows: int, length: int, mixed: bool) -> int:
    """Bytes that a forward pass keeps for the way back, other than weights and their copies in bfloat16."""
    weights = [value for value in model.parameters() if value.dim() > 1]
    own = {value.untyped_storage()._cdata for value in model.parameters()}
    shapes = {value.shape for value in weights} | {value.mT.shape for value in weights}
    found = {}

    def keep(value):
        storage = value.untyped_storage()
        if storage._cdata not in own and value.shape not in shapes:
            found[storage._cdata] = storage
        return value

    ids = torch.randint(3, 90, (rows, length))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[0, :5] = False
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        Network(model).hidden(ids, mask)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("name", method_names())
def test_a_chunk_takes_what_its_method_reads(name, tmp_path):
    """At most as much as foretold, but for what is not of the vocabulary's size, and no less than half of it."""
    N, V, H = 128, 4096, 4
    for dtype, trainer in ((torch.float32, "32-true"), (torch.bfloat16, "bf16-mixed")):
        found = setup(small_run(tmp_path, name, f"trainer.precision={trainer}"))
        estimator = load_method(name).estimator
        student, teacher = (torch.randn(1, N, H, dtype=dtype) for _ in range(2))
        heads = Heads(*(Head(torch.randn(V, H, dtype=dtype)) for _ in range(2)))
        fields = (torch.randint(0, V, (1, N)), torch.ones(1, N, dtype=torch.bool))
        origin = torch.full((1, N), min(estimator.learns_from))
        batch = ScoredBatch(student.requires_grad_(), teacher, *fields, origin, -torch.ones(1, N), torch.rand(1, N))
        scorer = Scorer(estimator, heads, N, of_tokens)
        weight = scorer.weights([batch], 0.5)[0]
        measured = peak(lambda s=scorer, b=batch, w=weight: s.score(b, w, 0.5))
        assert 1 / 1.9 < measured / (N * V * (per_logit(found) + 2 * dtype.itemsize)) < 1.02


@pytest.mark.parametrize("method", ["opd", "skd"])
@pytest.mark.parametrize("bent", [(), ("plan.top_p=0.9",)])
def test_drawing_a_token_takes_as_much_as_foretold(method, bent, tmp_path):
    found = setup(small_run(tmp_path, method, *bent))
    rows, V = 32, 8192
    choice = Corrected(8) if method == "skd" else Alone(Origin.STUDENT)
    if bent:
        choice = Bent(choice, {Origin.STUDENT: Sampling(1.0, 0.9)})
    logits, uniform = torch.randn(rows, V), torch.rand(rows, 2)
    measured = peak(lambda: choice(tuple(Law(logits * 2) for _ in choice.readers), uniform)) / (rows * V)
    scale = found.student.vocabulary * found.rows
    items = [
        one.sizes["rollout"] for one in memory(found).items if one.name.startswith("logits") and "rollout" in one.sizes
    ]
    assert 1 / 1.5 < measured / (sum(items) / scale) < 1.02


# ---------------------------------------------------------------- what makes it smaller


@pytest.mark.parametrize(
    ("item", "before", "after"),
    [
        ("student's weights", ("trainer=zero3", "trainer.devices=2"), ("trainer=zero3", "trainer.devices=8")),
        (
            "AdamW's state and float32 weights",
            ("trainer=zero1", "trainer.devices=2"),
            ("trainer=zero1", "trainer.devices=8"),
        ),
        ("AdamW's state", (), LOW),
        ("gradients", (), LOW),
        ("activations", (), ("trainer.gradient_checkpointing=true",)),
        ("activations", ("plan.micro_batches=8",), ()),
        ("teacher's weights", (), ("teacher.quantised=8bit",)),
        ("teacher's weights", ("teacher.quantised=8bit",), ("teacher.quantised=4bit",)),
        ("teacher's weights", ("teacher.dtype=float32",), ()),
        ("keys and values", ("evaluation.batch=512",), ()),
    ],
)
def test_what_saves_memory_saves_it_where_it_should(item, before, after, tmp_path):
    larger, smaller = (large(tmp_path, "evaluation.problems=512", *overrides) for overrides in (before, after))
    assert size_of(smaller, item) < size_of(larger, item)
    assert sum(map(memory(smaller).total, PHASES)) < sum(map(memory(larger).total, PHASES))


def test_more_processes_under_zero3_need_less_each(tmp_path):
    peaks = [memory(large(tmp_path, "trainer=zero3", f"trainer.devices={number}")).peak for number in (1, 2, 8)]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 3
    offloaded = memory(large(tmp_path, "trainer=zero3_offload", "trainer.devices=8"))
    assert offloaded.peak < peaks[-1]
    assert "AdamW's state and float32 weights" not in {item.name for item in offloaded.items}


def test_a_chunk_is_at_most_a_micro_batch_and_takes_its_share(tmp_path):
    """The logits of both models grow with it; what there is of a slice of it does not."""
    sizes = {
        chunk: size_of(large(tmp_path, f"plan.chunk={chunk}"), f"logits of {min(chunk, 2048):,} tokens")
        for chunk in (256, 512, 4096)
    }
    assert sizes[512] - sizes[256] == 256 * 151936 * 2 * 2
    assert sizes[4096] - sizes[256] == 7 * (sizes[512] - sizes[256])
    assert size_of(large(tmp_path, "plan.chunk=null"), "logits of 832 tokens") < sizes[4096]


def test_a_resting_teacher_is_there_when_it_is_read(tmp_path):
    sizes = {item.name: item.sizes for item in memory(large(tmp_path, "teacher.rests_on_cpu=true")).items}
    assert {phase for phase, size in sizes["teacher's weights"].items() if size} == {"teacher", "evaluation"}
    assert set(sizes["teacher's head, which never rests"]) == set(PHASES)
    writes = {
        item.name: item.sizes for item in memory(large(tmp_path, "teacher.rests_on_cpu=true", method="skd")).items
    }
    assert writes["teacher's weights"]["rollout"] == sizes["teacher's weights"]["teacher"]
    assert writes["keys and values"]["rollout"] == 2 * sizes["keys and values"]["rollout"]


def test_extra_rows_and_the_teachers_answers_count(tmp_path):
    plain, guided = (setup(small_run(tmp_path, name)) for name in ("opd", "tropd"))
    extra = guided.rows - plain.rows
    assert extra == round(load_method("tropd").source.extra * plain.rows) > 0
    tokens = work(guided).tokens
    assert tokens["written by the teacher"] == extra * 40 * 6
    assert tokens["read by both"] == work(plain).tokens["read by both"] * guided.rows / plain.rows
    assert work(setup(small_run(tmp_path, "sft"))).flops["rollouts"] == 0


def test_prompts_are_measured_only_with_the_models_own_tokenizer(tmp_path):
    assert large(tmp_path).prompt == (PROMPT, False)  # of a folder without one, transformers makes an empty one
    found = setup(small_run(tmp_path, "opd")).prompt
    assert found.is_measured
    assert 30 < found.tokens < 80


def test_remedies_help_one_after_the_other_and_are_what_they_say(tmp_path):
    before = ("plan.micro_batches=8", "evaluation.batch=256", "evaluation.problems=512", "teacher.dtype=float32")
    found = large(tmp_path, *before)
    steps = remedies(found)
    peaks = [memory(found).peak, *(step.peak for step in steps)]
    assert all(later < 0.98 * earlier for earlier, later in pairwise(peaks))
    words = [step.words.split(" and ") for step in steps]
    gentle = [settings for settings in words if "TRAINER=zero3_offload" not in settings]
    assert sum(map(len, gentle)) >= 4
    for number in range(len(gentle)):
        settings = dict(one.split("=") for one in (*before, *chain(*gentle[: number + 1])))
        own = large(tmp_path, *(f"{name}={value}" for name, value in settings.items()))
        assert memory(own).peak == peaks[number + 1]
    assert remedies(steps[-1].setup) == []


def test_where_no_setting_helps_alone_several_do_together(tmp_path):
    found = large(tmp_path, *LOW, "evaluation.problems=58")  # rollouts, learning and judging need as much
    first = remedies(found)[0]
    assert " and " in first.words
    assert first.peak < 0.98 * memory(found).peak


# ---------------------------------------------------------------- hours


@pytest.mark.parametrize(("size", "published"), [("1.7", 22.21), ("4", 25.05)])
def test_the_floor_is_near_what_vopd_took_with_vllm_on_one_h200(size, published, tmp_path):
    card = next(card for card in CARDS if card.name == "H200")
    found = large(tmp_path, *LOW, size=size)
    assert 0.5 < time(found, card).step / published < 1.2
    assert 1.5 < time(found, card, LAUNCH).step / published < 4  # plain transformers, launch by launch


def test_faster_cards_and_fewer_tokens_take_less(tmp_path):
    found = large(tmp_path, *LOW)
    seconds = {card.name: time(found, card).step for card in CARDS}
    assert seconds["B200"] < seconds["H200"] < seconds["H100"] < seconds["A100 80GB"] < seconds["A10G"]
    half = large(tmp_path, *LOW, "plan.response_limit=1024")
    assert all(time(half, card).hours < 0.6 * time(found, card).hours for card in CARDS)
    again = large(tmp_path, *LOW, "trainer.gradient_checkpointing=true")
    assert per_token(again) - per_token(found) == 2 * found.student.parameters


# ---------------------------------------------------------------- the command


def test_the_command_tells_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = qwen3(tmp_path, "1.7")
    models = (f"start={name}", f"models.teacher={name}", "results=results", *AS_PUBLISHED, *LOW)
    said = ended(
        main,
        capsys,
        "method=vopd",
        "dry=true",
        *models,
        "evaluation.batch=256",
        "evaluation.problems=null",
        "task=sciknoweval",
        width=400,  # the folder's name is long
    )
    assert (said.returncode, said.stderr) == (0, "")
    for words in (
        "vopd on sciknoweval-standard, seed 0",
        "1,790,305,280 parameters, of which 69,730,304 learn (LoRA's additions)",
        "1,720,574,976 parameters, bfloat16",
        "reads full / full",
        f"{PROMPT} of a prompt (assumed",
        "1,000 problems (assumed",
        "GiB of each process on its device",
        "keys and values",
        "assumed, not measured",
        "fits on H200 (141 GiB), B200 (180 GiB).",
        "Does not fit on RTX 4090 (24 GiB), A10G (24 GiB)",
        "in the phase evaluation, of which the largest is keys and values, ",
        "To need less: evaluation.batch=32 brings ",
    ):
        assert words in said.stdout, words
    assert [path.name for path in tmp_path.rglob("*")] == ["Qwen3-1.7B", "config.json"]


def test_embedded_models_fit_everywhere_and_their_prompts_are_measured(tmp_path, capsys):
    said = ended(main, capsys, "method=opd", "dry=true", f"results={tmp_path / 'results'}")
    assert said.returncode == 0
    assert "MiB in each process: fits on RTX 4090 (24 GiB)" in said.stdout
    assert "of a prompt (the longest of 64)" in said.stdout
    assert "Does not fit" not in said.stdout
    assert "To need less" not in said.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_says_a_line_for_each_job(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ended(main, capsys, "-m", "method=opd,skd", "seed=0,1", "dry=true", "results=results")
    lines = said.stdout.splitlines()
    assert said.returncode == 0
    assert [line.split(":")[0] for line in lines] == [
        f"{method} on mini_gsm-standard, seed {seed}" for method in ("opd", "skd") for seed in (0, 1)
    ]
    assert all(
        "MiB a process, fits from RTX 4090 (24 GiB) on; " in line and line.endswith("h on 1 × H200") for line in lines
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("plan.steps=-3",), "Plan.steps must be ≥ 1, got -3"),
        (("start=/nowhere/model",), "no model from '/nowhere/model': there is no such folder; it must be embedded/"),
        (("start=embedded/none",), "no model 'embedded/none' in the package"),
        (("student.lora_rank=4", "student.lora_layers=none"), "student.lora_layers='none': Target modules"),
        (("trainer=cpu_ddp", "plan.prompts=3"), "plan.prompts must be a multiple of the number of processes, 2, got 3"),
        (("trainer=zero2",), "trainer.devices=NUMBER"),
        (("dry=maybe",), "dry must be true or false, got 'maybe'"),
        (("prompts.template=chat",), "prompts.template=chat, and the student 'embedded/standard-0' has no chat"),
    ],
)
def test_what_can_t_be_is_an_error_by_name(overrides, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    said = ended(main, capsys, "method=opd", "dry=true", f"results={tmp_path / 'results'}", *overrides)
    assert said.returncode == 1
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_configuration_says_what_it_needs(tmp_path, capsys):
    (tmp_path / "model").mkdir()
    said = ended(
        main, capsys, "method=opd", "dry=true", f"start={tmp_path / 'model'}", f"results={tmp_path / 'results'}"
    )
    assert said.returncode == 1
    assert f"The folder {tmp_path / 'model'} needs config.json, all whole: make it again" in said.stderr


def test_a_forecast_is_of_the_very_run(tmp_path):
    dry, real = (small_run(tmp_path, "opd", f"dry={value}") for value in ("true", "false"))
    assert (dry.folder, dry.protocol) == (real.folder, real.protocol)
    assert configured(tmp_path, "opd")["dry"] is False
