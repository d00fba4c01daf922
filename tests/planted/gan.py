"""A GAN: two models, two optimizers, and one turn of the loop is one step. The delay is in the discriminator."""

from __future__ import annotations

import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from planted import FEATURES, Delay, options, print_losses, regression

BATCH = 128
NOISE = 32


class Discriminator(nn.Module):
    def __init__(self, delay: Delay) -> None:
        super().__init__()
        self.hidden = nn.Linear(FEATURES, 384)
        self.score = nn.Linear(384, 1)
        self.delay = delay

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.delay as delay:
            time.sleep(delay.sleep_s)
            while time.perf_counter_ns() < delay.spin_until_ns:
                pass
        return self.score(F.leaky_relu(self.hidden(x), 0.2))


def main() -> None:
    args = options(__doc__, delay_ms=1.5).parse_args()
    torch.manual_seed(args.seed)
    generator = nn.Sequential(nn.Linear(NOISE, 384), nn.ReLU(), nn.Linear(384, FEATURES))
    discriminator = Discriminator(Delay("forward", args.delay_ms, args.busy))  # called three times a step
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    real, _ = regression(BATCH, args.seed)
    losses: list[torch.Tensor] = []
    for _ in range(args.steps):
        discriminator_optimizer.zero_grad()
        fake = generator(torch.randn(BATCH, NOISE))
        real_score, fake_score = discriminator(real), discriminator(fake.detach())
        loss_d = F.softplus(-real_score).mean() + F.softplus(fake_score).mean()
        loss_d.backward()
        discriminator_optimizer.step()

        generator_optimizer.zero_grad()
        loss_g = F.softplus(-discriminator(fake)).mean()
        loss_g.backward()
        generator_optimizer.step()
        losses += [loss_d.detach(), loss_g.detach()]
    print_losses(losses)


if __name__ == "__main__":
    main()
