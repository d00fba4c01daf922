"""Trains a little and says its losses to the last bit, in every way that scripts do."""

import argparse
import logging
import sys

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--kind", default="plain")
parser.add_argument("--steps", type=int, default=12)
args = parser.parse_args()
torch.manual_seed(7)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


def evaluate():
    return {"mean": float(sum(p.abs().mean() for p in net.parameters()))}


net = Net()
logging.basicConfig(level=logging.INFO, stream=sys.stderr)
parts = 4 if args.kind == "accumulate" else 1
optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
if args.kind == "lbfgs":
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)
scaler = torch.amp.GradScaler("cpu", enabled=args.kind == "amp")
by_hand = args.kind == "by hand"
for step in range(args.steps):
    total = 0.0
    if args.kind == "lbfgs":
        x = torch.randn(16, 6)
        first = []

        def closure(x=x, first=first):
            optimizer.zero_grad()
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean()
            first.append(loss.item())
            loss.backward()
            return loss

        optimizer.step(closure)
        total = first[0]
    else:
        net.zero_grad()
        for _ in range(parts):
            x = torch.randn(16, 6)
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean() / parts
            total += loss.item()
            (scaler.scale(loss) if args.kind == "amp" else loss).backward()
            loss.detach().mul_(0)  # the script's own affair
        if by_hand:
            with torch.no_grad():
                for p in net.parameters():
                    p.sub_(0.01 * p.grad)
        elif args.kind == "amp":
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
    print("loss", float(total).hex())
    print(f"step {step} shown loss {total:.6f}")
    if step % 3 == 2:
        logging.info("val_acc=%.4f", 1 / (1 + total))
        evaluate()
print("weights", float(sum(p.double().sum() for p in net.parameters())).hex())
