"""vLLM writes what the student writes alone. What is said of its tokens the run's own student says."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opd_bench.configs import made
from opd_bench.maths.divergences import floored
from opd_bench.models.network import Network
from opd_bench.rollouts.choices import AS_IT_IS, Alone, Bent, Choice, Greedy, Sampling
from opd_bench.rollouts.engine import Engine, evaluating
from opd_bench.rollouts.served import Answer, Asked, Served
from opd_bench.settings import Count, Positive, Settings, Share
from opd_bench.tokens import Origin, Written

COLDEST = 0.01
"""The temperature to which vLLM warms whatever is colder, other than 0."""
GAP = 0.1
"""Nats by which vLLM's log-probabilities may differ from the student's, on average: more is another law."""


@dataclass(kw_only=True, eq=False)
class VLLM(Settings):
    """The student's tokens by vLLM, with the weights it has at that moment; all others by `others`."""

    others: Mapping[str, Any]
    memory_share: Share
    cache_gigabytes: Positive | None
    sequences: Count
    positions: Count | None
    eager: bool
    rows: Count
    chunk: Count

    def __post_init__(self) -> None:
        super().__post_init__()
        if find_spec("vllm") is None:
            raise ValueError(
                "rollout=vllm needs the package vllm: pip install 'opd-bench[vllm]' with a GPU, or, in a checkout and "
                "without one, make test-vllm, which has an environment of its own. Or choose rollout=own"
            )
        self._others: Engine = made(self.others)
        self._served: Served | None = None
        self._is_stale = True
        self.gap = 0.0
        """Nats between what vLLM and the student said of the last tokens, on average."""

    def renew(self) -> None:
        """The weights are pushed when vLLM writes next."""
        self._is_stale = True
        self._others.renew()

    @torch.no_grad()
    def write(
        self,
        networks: Mapping[Origin, Network],
        ids: Tensor,
        mask: Tensor,
        choice: Choice,
        uniform: Tensor,
        end: Sequence[int],
    ) -> Written:
        """A response depends on weights, prompt and its row's numbers, of which vLLM's own generator is seeded."""
        student = networks[Origin.STUDENT]
        sampling = law_of(choice, student.logit_scale)
        if sampling is None:
            return self._others.write(networks, ids, mask, choice, uniform, end)
        served = self._ready(student)
        limit = uniform.shape[1]
        if ids.shape[1] + limit > served.positions:
            raise ValueError(
                f"a prompt of {ids.shape[1]} tokens and a response of {limit} are longer than vLLM's "
                f"{served.positions}: rollout.positions and the model's own say what there is room for, "
                "plan.response_limit how long a response may be"
            )
        if not len(ids) or not limit:
            return self._others.write(networks, ids, mask, choice, uniform, end)
        prompts = [row[own].tolist() for row, own in zip(ids, mask, strict=True)]
        answers = served.write(prompts, seeds(uniform), Asked(sampling, limit, end))
        return self._written(student, ids, mask, answers, Asked(_of(choice)[1], limit, end))

    def _ready(self, student: Network) -> Served:
        """With the weights as they are. All processes come here together, for vLLM makes groups of them."""
        if self._served is None or not self._served.is_open:
            options: dict[str, Any] = {"max_num_seqs": self.sequences, "max_model_len": self.positions}
            options |= {"gpu_memory_utilization": self.memory_share, "enforce_eager": self.eager}
            if self.cache_gigabytes is not None:
                options["kv_cache_memory_bytes"] = int(self.cache_gigabytes * 2**30)
            self._served, self._is_stale = Served(student, _type(student), options), True
        if self._is_stale:
            self._served.push(student)
            self._is_stale = False
        return self._served

    def _written(self, student: Network, ids: Tensor, mask: Tensor, answers: list[Answer], asked: Asked) -> Written:
        """With the student's own log-probabilities; the likeliest token has that of a certain one."""
        told = padded(answers, asked.end, ids.device)
        if asked.sampling.temperature == 0:
            return told._replace(logp=torch.zeros_like(told.logp))
        logp = scored(student, (ids, mask), told, asked.sampling, rows=self.rows, chunk=self.chunk)
        self.gap = float((logp - told.logp)[told.mask].abs().mean())
        if not self.gap <= GAP:
            warnings.warn(
                f"vLLM's log-probabilities of its own tokens are {self.gap:.3g} nats from the student's, on average: "
                "tokens come from another law than is scored, and every estimator is biased by that. Half precision "
                "makes hundredths; more is a fault of vLLM's model or of its weights: try rollout=own",
                stacklevel=2,
            )
        return told._replace(logp=logp)


def law_of(choice: Choice, scale: float) -> Sampling | None:
    """What vLLM is to make of the student's logits before `scale`; None where it does not write.

    Temperature 0 is the likeliest token's.
    """
    writer, sampling = _of(choice)
    if type(writer) not in (Alone, Greedy) or writer.readers != (Origin.STUDENT,):
        return None
    found = sampling._replace(temperature=sampling.temperature / scale)
    return None if 0 < found.temperature < COLDEST else found


def _of(choice: Choice) -> tuple[Choice, Sampling]:
    """A choice that is not bent, and what bends the student's law."""
    inner, sampling = choice, AS_IT_IS
    if isinstance(choice, Bent):
        inner, sampling = choice.choice, choice.sampling.get(Origin.STUDENT, AS_IT_IS)
    return inner, sampling._replace(temperature=0.0) if isinstance(inner, Greedy) else sampling


def seeds(uniform: Tensor) -> list[int]:
    """One a row of [B, T, 2], of the 48 random bits of its first two numbers: by seed, stream, step and row alone."""
    bits = (uniform[:, 0].double() * 2**24).long()
    return (bits[:, 0] * 2**24 + bits[:, 1]).tolist()


def padded(answers: Sequence[Answer], end: Sequence[int], device: torch.device) -> Written:
    """Right-padded, with vLLM's log-probabilities. Whether an end token came is what says if a response was cut off."""
    token = pad_sequence([torch.tensor(answer.token) for answer in answers], batch_first=True).to(device)
    logp = pad_sequence([torch.tensor(answer.logp) for answer in answers], batch_first=True).to(device)
    length = torch.tensor([len(answer.token) for answer in answers], device=device)
    cut = torch.tensor([answer.token[-1] not in end for answer in answers], device=device)
    return Written(token, torch.full_like(token, Origin.STUDENT), logp, length, cut)


@torch.no_grad()
def scored(
    network: Network, prompts: tuple[Tensor, Tensor], written: Written, sampling: Sampling, *, rows: int, chunk: int
) -> Tensor:  # [B, T]
    """log-probabilities of responses under the law as it is bent, by one forward pass, `rows` at a time.

    The head sees response positions alone, `chunk` at a time.
    """
    whole = torch.cat([prompts[0], written.token], 1), torch.cat([prompts[1], written.mask], 1)
    first, found = prompts[0].shape[1] - 1, torch.zeros(written.token.shape, device=written.token.device)
    with evaluating([network.model]):
        for start in range(0, len(found), rows):
            some = slice(start, start + rows)
            response = written.mask[some]
            hidden = network.hidden(whole[0][some], whole[1][some])[:, first:-1][response]
            pairs = zip(hidden.split(chunk), written.token[some][response].split(chunk), strict=True)
            found[some][response] = torch.cat([_logp(network, *pair, sampling) for pair in pairs])
    return found


def _logp(network: Network, hidden: Tensor, token: Tensor, sampling: Sampling) -> Tensor:  # [N]
    head = network.head
    logits = head.logits(head.project(hidden))
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if sampling != AS_IT_IS:
        logits = sampling.law(logits.log_softmax(-1))
    return floored(logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)).float()


def _type(network: Network) -> torch.dtype:
    """What the student computes in while it writes; vLLM has no float64."""
    kind, own = network.device.type, network.model.dtype
    found: torch.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else own
    return torch.float32 if found == torch.float64 else found
