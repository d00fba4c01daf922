"""Trains one reference network: an ordinary script, which the survey runs as it would run anybody's.

python -m longpole.survey.train resnet18 --size small --steps 100
"""

from __future__ import annotations

import argparse
from itertools import count

import torch
from torch import nn
from torch.utils.data import DataLoader

from longpole.survey.catalogue import FROM_TRANSFORMERS, NETWORKS, SIZES, build


def main() -> None:
    """Trains until the steps are done, however many passes over the data that takes."""
    parser = argparse.ArgumentParser(description="Train one of the reference networks.")
    parser.add_argument("name", choices=[network.name for network in (*NETWORKS, *FROM_TRANSFORMERS)])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=None, help="that of the network where left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=20)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    training = build(args.name, args.size)
    model = training.model
    optimizers = training.optimizers(model)
    loader = DataLoader(training.data, args.batch_size or training.batch_size, shuffle=True, drop_last=True)
    model.train()

    step = 0
    for epoch in count():
        for batch in loader:
            if training.turn is not None:
                training.turn(model, optimizers, batch)
            else:
                loss = training.loss(model, batch)
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                if training.clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                for optimizer in optimizers:
                    optimizer.step()
                if step % args.log_every == 0:
                    print(f"epoch {epoch}  step {step}  loss {loss.item():.4f}", flush=True)
            step += 1
            if step == args.steps:
                return


if __name__ == "__main__":
    main()
