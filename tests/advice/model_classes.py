"""Classes of models as people write them, at small widths."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from tests.advice.test_classes import Conv1D

# Shapes: B batch, S sequence, T time steps, W width, N hidden width, H heads, D head_dim, I
# in_channels or input_size, R rows and C columns of an image.

WIDTH, HEADS, HEAD_DIM, TOKENS = 12, 2, 2, torch.zeros(2, 7, dtype=torch.long)


class Gpt2Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.c_proj = Conv1D(3 * WIDTH, WIDTH), Conv1D(WIDTH, WIDTH)
        self.c_fc, self.c_out = Conv1D(4 * WIDTH, WIDTH), Conv1D(WIDTH, 4 * WIDTH)

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            each.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for each in self.c_attn(self.ln_1(x_bsw)).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_bsw = x_bsw + self.c_proj(seen.transpose(1, 2).flatten(2))
        hidden_bsn: torch.Tensor = self.c_fc(self.ln_2(x_bsw)).relu()
        result: torch.Tensor = x_bsw + self.c_out(hidden_bsn)
        return result


class Gpt2(nn.Module):
    """As HuggingFace's: weights transposed, and scores tied to the words."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50, WIDTH), nn.Embedding(9, WIDTH)
        self.h = nn.Sequential(Gpt2Block(), Gpt2Block())
        self.lm_head = nn.Linear(WIDTH, 50, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        scores: torch.Tensor = self.lm_head(self.h(self.wte(input_ids) + self.wpe(places)))
        return scores


class LlamaAttention(nn.Module):
    """Two heads of keys for each head of queries, which are turned by their place."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.o_proj = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(WIDTH, WIDTH // 2, bias=False) for _ in range(2))

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            project(x_bsw).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = functional.scaled_dot_product_attention(
            turn(query), turn(key), value, is_causal=True, enable_gqa=True
        )
        result: torch.Tensor = self.o_proj(seen.transpose(1, 2).flatten(2))
        return result


def turn(x_bhsd: torch.Tensor) -> torch.Tensor:
    """Each pair of numbers turned by an angle that grows with its place in the sequence."""
    places_s = torch.arange(x_bhsd.shape[-2], device=x_bhsd.device)[:, None]
    first, second = x_bhsd.chunk(2, dim=-1)
    return torch.cat(
        [
            first * places_s.cos() - second * places_s.sin(),
            second * places_s.cos() + first * places_s.sin(),
        ],
        dim=-1,
    )


class LlamaMlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, 30, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(30, WIDTH, bias=False)

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.down_proj(
            functional.silu(self.gate_proj(x_bsw)) * self.up_proj(x_bsw)
        )
        return result


class LlamaBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = LlamaAttention(), LlamaMlp()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(WIDTH) for _ in range(2))

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        x_bsw = x_bsw + self.self_attn(self.input_layernorm(x_bsw))
        result: torch.Tensor = x_bsw + self.mlp(self.post_attention_layernorm(x_bsw))
        return result


class Llama(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Embedding(50, WIDTH),
            *(LlamaBlock() for _ in range(2)),
            nn.RMSNorm(WIDTH),
            nn.Linear(WIDTH, 50, bias=False),
        )


class InvertedResidual(nn.Sequential):
    """A block of MobileNet: wider, each channel by itself, and narrower."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 18, 1, bias=False), nn.BatchNorm2d(18), nn.ReLU6()),
            *(nn.Conv2d(18, 18, 3, stride=2, padding=1, groups=18, bias=False), nn.BatchNorm2d(18)),
            *(nn.Conv2d(18, 5, 1, bias=False), nn.BatchNorm2d(5)),
        )


class Residual(nn.Module):
    """A block of ResNet with a short cut of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, stride=2, bias=False)
        self.second = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.short_cut = nn.Conv2d(3, 6, 1, stride=2, bias=False)

    def forward(self, x_birc: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x_birc).relu()) + self.short_cut(x_birc)
        return result


class CellLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x_tbi: torch.Tensor) -> torch.Tensor:
        state = None
        for x_bi in x_tbi:
            state = self.cell(x_bi, state)
        assert state is not None
        result: torch.Tensor = state[0]
        return result


class Translator(nn.Module):
    """Several inputs, one of them by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, WIDTH)
        self.both = nn.Transformer(WIDTH, HEADS, 1, 1, 20, batch_first=True)

    def forward(self, source: torch.Tensor, *, target: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.both(self.words(source), self.words(target))
        return result


class PackedGru(nn.Module):
    """A tagger of sentences that differ in length."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.tags = nn.Linear(6, 5)

    def forward(self, sentences: PackedSequence) -> torch.Tensor:
        states, _ = self.gru(sentences)
        result: torch.Tensor = self.tags(states.data)
        return result


class Recurrent(nn.Module):
    """Several layers in both directions, and the words that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 4)
        self.lstm = nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(12, 5)

    def forward(self, words_bt: torch.Tensor) -> torch.Tensor:
        states_bti, _ = self.lstm(self.words(words_bt))
        result: torch.Tensor = self.tags(states_bti)
        return result


class SelfAttention(nn.Module):
    """Attention of a sequence to itself, as most users call the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x_bsw: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.attention(x_bsw, x_bsw, x_bsw, need_weights=False)[0]
        return result
