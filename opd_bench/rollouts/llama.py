"""Models laid out as Llama is, read token by token without what transformers does around each product."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaModel, MistralModel, Qwen2Model, Qwen3Model

from opd_bench.models.network import Network, numbers
from opd_bench.rollouts.decoders import Projection, compute_type

TRUNKS = (LlamaModel, MistralModel, Qwen2Model, Qwen3Model)
"""Whose layers are RMSNorm, attention over all that was read, RMSNorm and a gated MLP, and nothing else."""
STEADY = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings that are those of a position, however much was read."""
SMALL = 10**8
"""Parameters up to which weights are put side by side: in larger trunks it gains nothing, and a copy takes memory."""
GROWTH = 256
"""Positions by which the room for keys and values grows."""


def fits(network: Network) -> bool:
    """Whether a model is one that `Llama` reads: its modules are exactly those, with nothing hooked onto them."""
    trunk: Any = network.model.base_model
    if not network.is_split or type(trunk) not in TRUNKS:
        return False
    config = trunk.config
    return (
        all(_is_plain(module, trunk) for module in trunk.modules())
        and all(weight.numel() > 0 for weight in trunk.parameters())  # of shards there is nothing here
        and len(trunk.layers) == config.num_hidden_layers
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and (type(trunk) is not MistralModel or config.sliding_window is None)
        and trunk.rotary_emb.rope_type in STEADY
        and config._attn_implementation == "sdpa"
    )


def _is_plain(module: nn.Module, trunk: nn.Module) -> bool:
    """A class of torch's or of the trunk's own file, with its own forward and no hooks."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    known = (nn.Linear, nn.Embedding, nn.ModuleList)
    files = ("torch.nn.modules.activation", "transformers.activations", type(trunk).__module__)
    return not hooked and (type(module) in known or type(module).__module__ in files)


class Llama:
    """Keys and values in place, q, k, v as one product, and the query heads of a key head as its queries."""

    def __init__(self, network: Network, mask: Tensor, limit: int):
        trunk: Any = network.model.base_model
        self.network, self.mask, self.trunk = network, mask, trunk
        self.head = Projection(network.head, limit)
        small = numbers(trunk.parameters()) <= SMALL
        self.layers, self.final = [_Layer(layer, small) for layer in trunk.layers], _Norm(trunk.norm)
        self.count, self.room, self.end = 0, 0, mask.shape[1] + limit  # positions read, those with room, the most
        self.kept: list[Tensor] = []  # of each layer its keys and values [2, B, heads, room, width]
        self.position = mask.sum(-1)  # [B] of the next token
        self.cover: Tensor | None = None  # [B, 1, 1, room] added to scores: −∞ on padding; None: there is none

    def read(self, ids: Tensor) -> Tensor:  # [B, V]
        """The prompts by the model's own forward."""
        if not self.count:
            return self._begin(ids)
        if self.count == self.room:
            self._grow()
        hidden = self.trunk.embed_tokens(ids[:, 0])
        turn = self.turns[self.position][:, None].chunk(2, -1)
        self.position += 1
        mask = None if self.cover is None else self.cover[..., : self.count + 1]
        for layer, kept in zip(self.layers, self.kept, strict=True):
            hidden = layer(hidden, kept, self.count, turn, mask)
        self.count += 1
        return self.head(self.final(hidden))

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self.position = self.position[rows]
        self.cover = None if self.cover is None else self.cover[rows]
        for number in range(len(self.kept)):  # one after the other: two copies of one layer, not of all
            self.kept[number] = self.kept[number][:, rows]

    def _begin(self, ids: Tensor) -> Tensor:
        cache: Any = DynamicCache(config=self.network.model.config)
        last = self.network.hidden(ids, self.mask, cache)[:, -1]
        kind = self.layers[0].kind
        self.kept = [torch.stack([layer.keys, layer.values]).to(kind) for layer in cache.layers]
        self.count = self.room = ids.shape[1]
        if not bool(self.mask.all()):
            self.cover = torch.zeros_like(self.mask, dtype=kind).masked_fill_(~self.mask, -torch.inf)[:, None, None]
        return self.head(last)

    def _grow(self) -> None:
        more = min(GROWTH, self.end - self.room)
        self.room += more
        for number in range(len(self.kept)):
            self.kept[number] = F.pad(self.kept[number], (0, 0, 0, more))
        self.cover = None if self.cover is None else F.pad(self.cover, (0, more))
        place = torch.arange(self.room, device=self.position.device)
        cos, sin = self.trunk.rotary_emb(self.trunk.embed_tokens.weight, place[None])  # of its type
        half = sin.shape[-1] // 2
        self.turns = torch.cat([cos, -sin[..., :half], sin[..., half:]], -1)[0]


class _Layer:
    """RMSNorm, attention, RMSNorm, gated MLP: one token a row."""

    def __init__(self, layer: Any, copied: bool):
        attention, mlp = layer.self_attn, layer.mlp
        self.before, self.between = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.inner = [_Norm(attention.q_norm), _Norm(attention.k_norm)] if hasattr(attention, "q_norm") else []
        self.into = _Product([attention.q_proj, attention.k_proj, attention.v_proj], copied)
        self.out = _Product([attention.o_proj], copied)
        self.gated = _Product([mlp.gate_proj, mlp.up_proj], copied)
        self.down = _Product([mlp.down_proj], copied)
        self.activation, self.scale, self.width = mlp.act_fn, attention.scaling, attention.head_dim
        self.queries, self.keys = (one.out_features // self.width for one in (attention.q_proj, attention.k_proj))
        self.kind = compute_type(attention.k_proj.weight)

    def __call__(self, hidden: Tensor, kept: Tensor, place: int, turn: Sequence[Tensor], mask: Tensor | None) -> Tensor:
        """The hidden states [B, H] after it; keys and values are put at `place`."""
        hidden = hidden + self._attention(self.before(hidden), kept, place, turn, mask)
        gate, up = self.gated(self.between(hidden)).chunk(2, -1)
        return hidden + self.down(self.activation(gate) * up)

    def _attention(
        self, hidden: Tensor, kept: Tensor, place: int, turn: Sequence[Tensor], mask: Tensor | None
    ) -> Tensor:
        rows, both = len(hidden), self.queries + self.keys
        heads = self.into(hidden).view(rows, -1, self.width)
        turned = heads[:, :both]
        if self.inner:
            parts = turned.split([self.queries, self.keys], 1)
            turned = torch.cat([norm(part) for norm, part in zip(self.inner, parts, strict=True)], 1)
        cos, sin = turn
        turned = (turned * cos + turned.roll(self.width // 2, -1) * sin).to(self.kind)
        keys, values = kept.unbind()
        keys[:, :, place] = turned[:, self.queries :]
        values[:, :, place] = heads[:, both:]
        read = F.scaled_dot_product_attention(
            turned[:, : self.queries].view(rows, self.keys, -1, self.width),
            keys[:, :, : place + 1],
            values[:, :, : place + 1],
            attn_mask=mask,
            scale=self.scale,
        )
        return self.out(read.reshape(rows, -1))


class _Norm:
    """RMSNorm in one step where that is the same to rounding; in half precision only the module's own steps are."""

    def __init__(self, norm: Any):
        self.norm, self.weight, self.epsilon = norm, norm.weight, norm.variance_epsilon

    def __call__(self, hidden: Tensor) -> Tensor:
        if hidden.dtype == self.weight.dtype == torch.float32:
            return F.rms_norm(hidden, self.weight.shape, self.weight, self.epsilon)
        own: Tensor = self.norm(hidden)
        return own


class _Product:
    """Linear layers of the same input as one product, if their weights may be copied."""

    def __init__(self, layers: Sequence[nn.Linear], copied: bool):
        self.layers, self.copied = layers, copied
        if copied:
            kind = compute_type(layers[0].weight)
            self.weight = _joined([layer.weight for layer in layers]).to(kind)
            biases = [layer.bias for layer in layers if layer.bias is not None]
            self.bias = _joined(biases).to(kind) if biases else None

    def __call__(self, hidden: Tensor) -> Tensor:
        if self.copied:
            return F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        return _joined([layer(hidden) for layer in self.layers], -1)


def _joined(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)
