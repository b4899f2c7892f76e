"""Pairs of random models of a given shape, prompts for them, and a tokenizer whose end token neither can write."""

from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

SPECIAL = ("<pad>", "<bos>", "<unk>")
END = "<eos>"
PROMPTS = (16, 32)
"""Tokens of the shortest and of the longest prompt, unless a shape says otherwise."""


class Place(NamedTuple):
    """Where a step is taken, and in which numbers."""

    device: str = "cpu"  # cpu | cuda
    precision: str = "fp32"  # fp32 | bf16: weights in float32, computing in bfloat16

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


CPU = Place()


class Trunk(NamedTuple):
    """A model's size without its vocabulary."""

    hidden: int
    layers: int
    heads: int = 4
    key_value_heads: int = 2
    inner: int | None = None  # None: 2.75 times the hidden size

    @property
    def width(self) -> int:
        """Of the feed-forward layers."""
        return self.inner or int(self.hidden * 2.75) // 8 * 8


class Shape(NamedTuple):
    """What a step is made of."""

    student: Trunk
    teacher: Trunk
    vocabulary: int
    batch: int  # sequences
    new_tokens: int  # of each
    prompts: tuple[int, int] = PROMPTS

    @property
    def mean_prompt(self) -> float:
        """Tokens."""
        return sum(self.prompts) / 2

    @property
    def name(self) -> str:
        """For people."""
        pair = f"{self.student.hidden}×{self.student.layers} ← {self.teacher.hidden}×{self.teacher.layers}"
        return f"{pair}, V {self.vocabulary:,}, batch {self.batch}, {self.new_tokens} tokens"


def model(trunk: Trunk, vocabulary: int, seed: int, device: str = "cpu") -> Qwen2ForCausalLM:
    """A random Qwen2 with tied embeddings; logits are spread enough for two of them to differ."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=trunk.hidden,
        intermediate_size=trunk.width,
        num_hidden_layers=trunk.layers,
        num_attention_heads=trunk.heads,
        num_key_value_heads=trunk.key_value_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=vocabulary,  # one more than there is: every response goes on to its limit
        pad_token_id=0,
    )
    with torch.device(device):
        return Qwen2ForCausalLM(config)


def pair(shape: Shape, device: str = "cpu") -> tuple[Qwen2ForCausalLM, Qwen2ForCausalLM]:
    """The same student and the same frozen teacher at every call."""
    student = model(shape.student, shape.vocabulary, 0, device)
    teacher = model(shape.teacher, shape.vocabulary, 1, device)
    return student, teacher.eval().requires_grad_(False)


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One word a token, `t7` is 7; the end token is the first that the models don't have."""
    words = {word: index for index, word in enumerate(SPECIAL)}
    words |= {f"t{index}": index for index in range(len(SPECIAL), vocabulary)} | {END: vocabulary}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token=END,
        unk_token="<unk>",
        padding_side="left",
    )
    made.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    return made


def questions(shape: Shape, count: int) -> list[str]:
    """Random prompts, of random lengths."""
    chance = torch.Generator().manual_seed(2)
    low, high = shape.prompts
    lengths = torch.randint(low, high + 1, (count,), generator=chance).tolist()
    return [text(torch.randint(len(SPECIAL), shape.vocabulary, (n,), generator=chance)) for n in lengths]


def text(ids: torch.Tensor) -> str:
    """As words."""
    return " ".join(f"t{index}" for index in ids.tolist())
