"""What student and teacher must agree on, each refusal in its own words, and what is made of those that do."""

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from opd_bench.catalogue import load_method
from opd_bench.models.load import located
from opd_bench.models.network import frozen, right_aligned
from opd_bench.models.pair import Side, paired
from opd_bench.models.vocabulary import word_tokenizer
from opd_bench.models.words import Rendering
from opd_bench.scoring import Heads, ScoredBatch, batch_loss
from tests.families import tiny
from tests.runs import small_run

WORDS = [f"w{number}" for number in range(60)]
PLAIN = {"template": "plain", "system": None, "thinking": None, "end": None}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>"
    "{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}{% endif %}"
)


def words(size=80, **options):
    tokenizer = word_tokenizer(WORDS, size)
    for name, value in options.items():
        setattr(tokenizer, name, value)
    return tokenizer


def side(name, tokenizer=None, rows=96, seed=0, **settings) -> Side:
    model = tiny("qwen2", seed, vocab_size=rows)
    for key, value in settings.items():
        setattr(model.generation_config, key, value)
    return Side(name, model, tokenizer or words())


def pair(student=None, teacher=None, **rendering):
    return paired(student or side("mine"), teacher or side("theirs", seed=1), Rendering(**{**PLAIN, **rendering}), 1.0)


def test_a_pair_that_agrees_is_cut_to_the_tokens_that_both_know():
    found = pair(side("mine", rows=96), side("theirs", rows=128, seed=1))
    assert found.student.vocabulary == found.teacher.vocabulary == 80
    assert found.agreed["vocabulary"] == {"shared": 80, "student": 96, "teacher": 128}
    assert found.agreed["end"] == ["<eos>"]
    assert found.words.end == [2]
    assert len(set(found.agreed["tokenizers"])) == 1


def test_rows_beyond_the_shared_tokens_change_no_loss_and_no_gradient():
    """Qwen2 has 151,936 rows in the small models and 152,064 in the large: what is in them must not matter."""
    narrow = _loss(pair(side("mine", rows=80), side("theirs", rows=80, seed=1)))
    wide = pair(side("mine", rows=96), side("theirs", rows=128, seed=1))
    plain = pair(side("mine", rows=80), side("theirs", rows=80, seed=1))
    for big, small in ((wide.student, plain.student), (wide.teacher, plain.teacher)):
        weights = small.model.state_dict()
        own = big.model.state_dict()
        for name, value in weights.items():
            own[name][: len(value)] = value
        big.model.load_state_dict(own)
    torch.testing.assert_close(_loss(wide)[0], _loss(plain)[0])
    torch.testing.assert_close(_loss(wide)[1][:80], _loss(plain)[1])
    assert _loss(wide)[1][80:].abs().max() == 0
    assert narrow[0] > 0


def _loss(found):
    """A value, and the gradient in the student's head, which is its embedding too."""
    student, teacher = found.student, found.teacher._replace(model=frozen(found.teacher.model))
    student.model.zero_grad()
    generator = torch.Generator().manual_seed(3)
    ids, mask = right_aligned([torch.randint(5, 80, (8,), generator=generator) for _ in range(3)])
    fields = (ids, mask, torch.zeros_like(ids), torch.zeros(ids.shape), torch.rand(ids.shape, generator=generator))
    states = (one.hidden(ids, mask)[:, :-1] for one in (student, teacher))
    batch = ScoredBatch(*states, *(field[:, 1:] for field in fields))
    loss = batch_loss(load_method("vopd").estimator, [batch], 0.0, 4, Heads(student.head, teacher.head))
    loss = loss + batch_loss(load_method("gkd").estimator, [batch], 0.0, 4, Heads(student.head, teacher.head))
    loss.backward()
    return loss.detach(), student.model.get_output_embeddings().weight.grad.clone()


def test_other_tokens_are_refused_with_the_ids_that_differ():
    other = word_tokenizer([*WORDS[:30], "zwei", "drei", *WORDS[32:]], 80)
    message = r"'mine' and teacher 'theirs' have different tokenizers: 2 of 80 ids .*35 is 'w30' and 'zwei'"
    with pytest.raises(ValueError, match=message):
        pair(teacher=side("theirs", other))


def test_text_that_is_cut_up_differently_is_refused():
    raw = json.loads(words().backend_tokenizer.to_str())
    other = Tokenizer.from_str(json.dumps(raw))
    other.normalizer = normalizers.Replace("What", "w7")
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "sep", "unk")}
    with pytest.raises(ValueError, match="same tokens and cut the same text up differently"):
        pair(teacher=side("theirs", PreTrainedTokenizerFast(tokenizer_object=other, **special)))


def test_other_ends_are_refused_and_may_be_chosen():
    other = side("theirs", seed=1, eos_token_id=[2, 9])
    message = r"'mine' ends a response with <eos>, teacher 'theirs' with <eos> w4: .*prompts.end='<eos> w4'"
    with pytest.raises(ValueError, match=message):
        pair(teacher=other)
    found = pair(teacher=other, end="w4 <eos>")
    assert found.words.end == [9, 2]
    assert found.words.answer("w0")[-1] == 9
    assert pair(side("mine", eos_token_id=[9, 2]), other).words.end == [2, 9]  # the tokenizer's own comes first
    with pytest.raises(ValueError, match=r"prompts.end must name tokens that both models have, got '<stop>'"):
        pair(end="<stop>")
    with pytest.raises(ValueError, match="neither 'mine' nor its teacher says what ends a response"):
        pair(*(_endless(one) for one in (side("mine"), side("theirs"))))


def _endless(one: Side) -> Side:
    one.model.generation_config.eos_token_id = one.model.config.eos_token_id = None
    one.tokenizer.eos_token = None
    return one


def test_a_chat_needs_a_template_and_a_thinking_mode_must_be_chosen():
    with pytest.raises(ValueError, match=r"the student 'mine' has no chat template; prompts.template=plain"):
        pair(template="chat")
    knows = words(chat_template=CHAT)
    with pytest.raises(ValueError, match=r"has a thinking mode, which must be chosen: prompts.thinking=true or false"):
        pair(side("mine", knows), template="chat")
    simple = words(chat_template=CHAT.replace("enable_thinking", "other"))
    with pytest.raises(ValueError, match=r"prompts.thinking=false, and the chat template .* knows no such mode"):
        pair(side("mine", simple), template="chat", thinking=False)
    with pytest.raises(ValueError, match=r"are of prompts.template=chat, which is plain"):
        pair(thinking=True)


def test_both_read_the_students_rendering():
    mine, theirs = words(chat_template=CHAT), words(chat_template="{{ messages[0].content }}")
    found = pair(side("mine", mine), side("theirs", theirs, seed=1), template="chat", thinking=False, system="w1")
    assert found.words.rendered("w5") == "<system>w1<user>w5<assistant><no>"
    assert len(set(found.agreed["templates"])) == 2
    question = "w5 w6"
    assert pair(side("mine", mine)).words.prompt(question).tolist() == mine(question)["input_ids"]


def test_a_tokenizer_that_ends_prompts_is_refused():
    tokenizer = words()
    ending = json.loads(tokenizer.backend_tokenizer.to_str())
    ending["post_processor"]["single"].append({"SpecialToken": {"id": "<eos>", "type_id": 0}})
    ending["post_processor"]["special_tokens"]["<eos>"] = {"id": "<eos>", "ids": [2], "tokens": ["<eos>"]}
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "sep", "unk")}
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(ending)), **special)
    with pytest.raises(ValueError, match="ends prompts with <eos>, which ends responses"):
        pair(side("mine", other), side("theirs", other))


def test_a_run_refuses_before_anything_is_written(tmp_path):
    folder = tmp_path / "teacher"
    shutil.copytree(located("embedded/teacher"), folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": [2, 17]}))
    run = small_run(tmp_path, "opd", f"models.teacher={folder}")
    with pytest.raises(ValueError, match=r"prompts\.end="):
        run.perform()
    assert not list(tmp_path.rglob("record.json"))


def test_a_record_tells_what_was_agreed(tmp_path):
    record = small_run(tmp_path, "opd", "plan.steps=1").perform()
    agreed = record["models"]["pair"]
    assert agreed["vocabulary"] == {"shared": 512, "student": 512, "teacher": 512}
    assert agreed["end"] == ["<eos>"]
    tokenizer = AutoTokenizer.from_pretrained(located("embedded/teacher"))
    assert len(tokenizer) == 512
    assert record["training"]["sampler_gap"] < 1e-4
