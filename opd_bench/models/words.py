"""Text as the student reads it, and ids as text: one rendering, the student's, for both models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from opd_bench.settings import Settings


@dataclass(kw_only=True, eq=False)
class Rendering(Settings):
    """How a question becomes a prompt, and what ends a response."""

    template: Literal["plain", "chat"]  # the question as it is, or as the user's turn in the student's chat template
    system: str | None  # chat: the system's turn
    thinking: bool | None  # chat: whether the model is to think first; null where the template knows nothing of it
    end: str | None  # tokens that end a response, with spaces; null: those on which both models' settings agree

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template == "plain" and (self.system is not None or self.thinking is not None):
            raise ValueError("prompts.system and prompts.thinking are of prompts.template=chat, which is plain")

    def check(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        """Refuse what the student's template can't do."""
        if self.template == "plain":
            return
        template = tokenizer.chat_template
        if not template:
            raise ValueError(
                f"prompts.template=chat, and the student {name!r} has no chat template; prompts.template=plain gives "
                "it the question as it is"
            )
        knows = "enable_thinking" in str(template)
        if knows and self.thinking is None:
            raise ValueError(
                f"the chat template of the student {name!r} has a thinking mode, which must be chosen: "
                "prompts.thinking=true or false"
            )
        if not knows and self.thinking is not None:
            raise ValueError(
                f"prompts.thinking={str(self.thinking).lower()}, and the chat template of the student {name!r} knows "
                "no such mode; it must be null"
            )


@dataclass(eq=False)
class Words:
    """A tokenizer, how it renders questions, and the ids that end a response, the usual one first."""

    tokenizer: PreTrainedTokenizerBase
    rendering: Rendering
    end: Sequence[int]

    def prompt(self, question: str) -> Tensor:  # [P]
        """Ids of a question, ready to be answered."""
        if self.rendering.template == "plain":
            return torch.tensor(self.tokenizer(question)["input_ids"])
        return self._ids(self.rendered(question))

    def rendered(self, question: str) -> str:
        """The question in the chat template."""
        system, thinking = self.rendering.system, self.rendering.thinking
        turns = [{"role": "system", "content": system}] if system is not None else []
        options: dict[str, Any] = {} if thinking is None else {"enable_thinking": thinking}
        text = self.tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": question}], tokenize=False, add_generation_prompt=True, **options
        )
        return str(text)

    def answer(self, text: str) -> Tensor:  # [A]
        """Ids of a response, with its end."""
        return torch.cat([self._ids(text), torch.tensor(self.end[:1])])

    def texts(self, rows: Sequence[Tensor]) -> list[str]:
        """Ids as text, without what ends or surrounds it."""
        return list(self.tokenizer.batch_decode([row.tolist() for row in rows], skip_special_tokens=True))

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.long)
