"""What the papers' experiments read, made small: models of the same families, invented problems in public formats."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.families import tiny

TEXT = (
    "Ann has 3 boxes of 12 eggs and eats 6 of them. How many eggs are left?",
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "So there are $\\boxed{30}$ eggs left. #### 30",
    "def added(one, other):\n    return one + other\n\nassert added(1, 2) == 3",
    "#Person1#: I am late because my bus broke down. #Person2#: Never mind.",
)
QWEN = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}THINKING{%- endif %}"
)
THINKING = "{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}"
R1 = (
    "{{ bos_token }}{%- for message in messages %}{{ '<｜User｜>' + message.content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{%- endif %}"
)
ENDS = ("<|endoftext|>", "<|im_end|>")
R1_ENDS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")


def family_of(name: str) -> str:
    """Of a model on the Hub, by its name: what was distilled from R1 and what was made of that are of Qwen2's."""
    return "qwen3" if "Qwen3" in name else "olmo3" if "Olmo-3" in name else "qwen2"


def saved(folder: Path, name: str, rows: int, seed: int) -> Path:
    """A tiny model in place of one on the Hub, with a tokenizer that is shorter than its head, as those are."""
    tokenizer = tokenizer_of(name)
    bos, ends = tokenizer.bos_token_id, [tokenizer.convert_tokens_to_ids(one) for one in ends_of(name)]
    special = {"bos_token_id": bos, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = tiny(family_of(name), seed, vocab_size=rows, max_position_embeddings=4096, **special)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ends_of(name: str) -> tuple[str, ...]:
    """A base model ends texts, one that chats ends turns too; R1's has one end for both."""
    if is_r1(name):
        return R1_ENDS[1:]
    return ENDS[:1] if "Base" in name or "1025" in name else ENDS


def is_r1(name: str) -> bool:
    return "R1" in name or "Skywork" in name


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """Of bytes, with the special tokens and a chat template of the model's family."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = [*R1_ENDS, "<｜User｜>", "<｜Assistant｜>"] if is_r1(name) else [*ENDS, "<|im_start|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXT,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    first = {"bos_token": R1_ENDS[0]} if is_r1(name) else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=ends_of(name)[-1], pad_token=special[0], **first
    )
    tokenizer.chat_template = R1 if is_r1(name) else QWEN.replace("THINKING", THINKING * (family_of(name) == "qwen3"))
    return tokenizer


# ---------------------------------------------------------------- problems


def _worked(number: int) -> dict[str, Any]:
    question, answer = f"What is {number} plus 5?", str(number + 5)
    return {"problem": question, "question": question, "answer": answer, "solution": f"It is $\\boxed{{{answer}}}$."}


def _gsm8k(number: int) -> dict[str, Any]:
    return {"question": f"Ann has {number} eggs and finds 5. How many?", "answer": f"{number}+5\n#### {number + 5}"}


def _deepmath(number: int) -> dict[str, Any]:
    row = _worked(number)
    return {"question": row["problem"], "final_answer": row["answer"], "r1_solution_1": row["solution"]}


def _openthoughts3(number: int) -> dict[str, Any]:
    row = _worked(number)
    said = [{"from": "human", "value": row["problem"]}, {"from": "gpt", "value": row["solution"]}]
    return {"domain": "math", "conversations": said}


def _dialogsum(number: int) -> dict[str, Any]:
    dialogue = f"#Person1#: I am {number} minutes late.\n#Person2#: Never mind."
    return {"fname": f"test_{number}", "dialogue": dialogue, "summary": f"#Person1# is {number} minutes late."}


def _mbpp(number: int) -> dict[str, Any]:
    name = f"plus_{number}"
    return {
        "task_id": (601 if number % 2 else 511) + number // 2,
        "text": f"Write a function to add {number}.",
        "code": f"def {name}(x):\n    return x + {number}",
        "test_list": [f"assert {name}(1) == {number + 1}"],
        "test_setup_code": "",
    }


def _humaneval(number: int) -> dict[str, Any]:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def plus(x):\n    """ Add {number}. """\n',
        "canonical_solution": f"    return x + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n",
        "entry_point": "plus",
    }


FILES = {
    **{f"{name}/test.jsonl": _worked for name in ("math500", "minerva", "amc23", "aime24", "aime25", "hmmt25")},
    "dapo_math/train.jsonl": _worked,
    "deepmath/train.jsonl": _deepmath,
    "openthoughts3/train.jsonl": _openthoughts3,
    **{f"gsm8k/{split}.jsonl": _gsm8k for split in ("train", "test")},
    **{f"dialogsum/{split}.jsonl": _dialogsum for split in ("train", "dev", "test")},
    "mbpp/mbpp.jsonl": _mbpp,
    "humaneval/HumanEval.jsonl.gz": _humaneval,
}


def data(folder: Path, rows: int = 300) -> Path:
    """As a folder for $OPD_BENCH_DATA."""
    for name, row in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row(number)) + "\n" for number in range(rows if "train" in name else 12))
        with gzip.open(file, "wt") if file.suffix == ".gz" else file.open("w") as opened:
            opened.write(text)
    return folder
