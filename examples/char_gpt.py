"""Trains a small GPT to write Python, byte by byte, on the source of Python's own standard library.

Nothing to download: every machine that runs this has the text. The same seed gives the same losses.

    python examples/char_gpt.py --steps 200
"""

from __future__ import annotations

import argparse
import math
import sysconfig
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY = 256  # a token is a byte
TEXT_BYTES = 4_000_000
HELD_OUT = 0.1


class CausalSelfAttention(nn.Module):
    def __init__(self, embed: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(embed, 3 * embed)
        self.proj = nn.Linear(embed, embed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, embed = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, embed // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(batch, length, embed))


class MLP(nn.Module):
    def __init__(self, embed: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed, 4 * embed)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * embed, embed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, embed: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed)
        self.attn = CausalSelfAttention(embed, heads)
        self.norm2 = nn.LayerNorm(embed)
        self.mlp = MLP(embed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, layers: int, heads: int, embed: int, block_size: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, embed)
        self.position_embedding = nn.Embedding(block_size, embed)
        self.blocks = nn.ModuleList(Block(embed, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(embed)
        self.lm_head = nn.Linear(embed, VOCABULARY, bias=False)
        self.apply(self._start_small)

    @staticmethod
    def _start_small(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


def load_text() -> tuple[torch.Tensor, torch.Tensor]:
    """The standard library's own modules as two int64 vectors of bytes: to train on, and held out."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = b"\n".join(path.read_bytes() for path in sorted(folder.glob("*.py")))[:TEXT_BYTES]
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    cut = int(len(data) * (1 - HELD_OUT))
    return data[:cut], data[cut:]


def get_batch(data: torch.Tensor, batch_size: int, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random crops and, as targets, the same crops one byte later: two (batch_size, block_size) tensors."""
    starts = torch.randint(len(data) - block_size - 1, (batch_size,)).tolist()
    x = torch.stack([data[start : start + block_size] for start in starts])
    y = torch.stack([data[start + 1 : start + 1 + block_size] for start in starts])
    return x, y


def loss_of(model: GPT, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x).view(-1, VOCABULARY), y.view(-1))


@torch.no_grad()
def evaluate(model: GPT, data: torch.Tensor, args: argparse.Namespace) -> float:
    """Mean loss of a few held-out batches, in nats a byte."""
    model.eval()
    losses = [loss_of(model, *get_batch(data, args.batch_size, args.block_size)) for _ in range(args.eval_batches)]
    model.train()
    return torch.stack(losses).mean().item()


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up over a twentieth of the run, then a cosine down to a tenth."""
    warmup = max(1, args.steps // 20)
    if step < warmup:
        return args.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, args.steps - warmup)
    return args.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small byte-level GPT on the standard library's source.")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--embed", type=int, default=192)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--eval-every", type=int, default=50)
    parser.add_argument("--eval-batches", type=int, default=4)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    train_data, held_out = load_text()
    model = GPT(args.layers, args.heads, args.embed, args.block_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.1)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(train_data):,} bytes to train on")

    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        x, y = get_batch(train_data, args.batch_size, args.block_size)
        loss = loss_of(model, x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % args.log_every == 0 or step == args.steps - 1:
            print(f"step {step:4d}  loss {loss.item():.4f}")
        if args.eval_every and (step + 1) % args.eval_every == 0:
            print(f"step {step:4d}  held-out loss {evaluate(model, held_out, args):.4f}")


if __name__ == "__main__":
    main()
