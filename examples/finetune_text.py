"""Trains a small byte-level GPT on Python's standard library: on its source, or on its documentation strings.

Nothing to download. The documentation strings come from other modules than the source, and the source is without
its own, so that no text is in both. Learn source and keep the weights, then learn documentation from them, and
beside it from scratch:

    python examples/finetune_text.py --text source --save source.pt
    python examples/finetune_text.py --text documentation --start-from source.pt
    python examples/finetune_text.py --text documentation
"""

from __future__ import annotations

import argparse
import ast
import sysconfig
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY = 256  # a token is a byte
HELD_OUT_SHARE = 0.1


class Block(nn.Module):
    def __init__(self, embed: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(embed)
        self.qkv = nn.Linear(embed, 3 * embed)
        self.proj = nn.Linear(embed, embed)
        self.norm2 = nn.LayerNorm(embed)
        self.fc1 = nn.Linear(embed, 4 * embed)
        self.fc2 = nn.Linear(4 * embed, embed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, embed = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, embed // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(seen.transpose(1, 2).reshape(batch, length, embed))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class SmallGPT(nn.Module):
    def __init__(self, layers: int, heads: int, embed: int, length: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(VOCABULARY, embed)
        self.places = nn.Embedding(length, embed)
        self.blocks = nn.Sequential(*(Block(embed, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(embed)
        self.head = nn.Linear(embed, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(self.norm(self.blocks(self.bytes(tokens) + self.places(places))))


def documentation_of(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The documentation strings of a module, and the lines that each takes, first and last."""
    found: list[str] = []
    lines: list[tuple[int, int]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            string = ast.get_docstring(node)
            if string:
                found.append(string)
                lines.append((node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno))
    return found, lines


def load_text(which: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes of every other module's source without documentation, or of the others' documentation; and held out."""
    modules = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    pieces: list[str] = []
    for path in modules[1::2] if which == "documentation" else modules[::2]:
        text = path.read_text(encoding="utf-8", errors="replace")
        strings, taken = documentation_of(text)
        if which == "documentation":
            pieces += strings
        else:
            gone = {number for first, last in taken for number in range(first, last + 1)}
            pieces.append("\n".join(line for at, line in enumerate(text.splitlines(), 1) if at not in gone))
    data = torch.frombuffer(bytearray("\n\n".join(pieces).encode()), dtype=torch.uint8).long()
    cut = int(len(data) * (1 - HELD_OUT_SHARE))
    return data[:cut], data[cut:]


def get_batch(data: torch.Tensor, batch_size: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random crops and the same one byte later: two (batch_size, length) tensors."""
    starts = torch.randint(len(data) - length - 1, (batch_size,)).tolist()
    rows = torch.stack([data[start : start + length + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:]


def loss_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x).reshape(-1, VOCABULARY), y.reshape(-1))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small GPT on source or on documentation.")
    parser.add_argument("--text", default="documentation", choices=["source", "documentation"])
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--embed", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    data, held_out = load_text(args.text)
    model = SmallGPT(args.layers, args.heads, args.embed, args.length)
    if args.start_from:
        model.load_state_dict(torch.load(args.start_from, weights_only=True))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    for step in range(1, args.steps + 1):
        loss = loss_of(model, *get_batch(data, args.batch_size, args.length))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            with torch.no_grad():
                held = loss_of(model, *get_batch(held_out, 64, args.length)).item()
            print(f"step {step}  loss {loss.item():.4f}  held-out loss {held:.4f}")
    if args.save:
        torch.save(model.state_dict(), args.save)


if __name__ == "__main__":
    main()
