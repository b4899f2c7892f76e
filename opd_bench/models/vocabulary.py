"""A word-level tokenizer: one word, one token; one whole number, one token."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<eos>", "<sep>", "<unk>")


def word_tokenizer(words: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    """`size` tokens: the special ones, the words, and as many numbers from 0 up as still fit.

    Encoding with special tokens makes a prompt, "<bos> … <sep>"; without them, the words alone.
    """
    numbers = [str(number) for number in range(size - len(SPECIAL) - len(words))]
    entries = {word: index for index, word in enumerate([*SPECIAL, *words, *numbers])}
    if len(entries) != size:
        raise ValueError(f"{len(words)} words and {len(SPECIAL)} special tokens don't fit a vocabulary of {size}")
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = [(word, entries[word]) for word in ("<bos>", "<sep>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A <sep>", special_tokens=around)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        sep_token="<sep>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
