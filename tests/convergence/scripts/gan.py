"""Two networks with an optimizer each: one tells real from made, the other makes. Says its losses to the last bit."""

import argparse

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--critic-steps", type=int, default=1)
args = parser.parse_args()
torch.manual_seed(3)
maker = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
judge = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
maker_optimizer = torch.optim.Adam(maker.parameters(), lr=2e-3)
judge_optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3)
for _ in range(args.steps):
    for _ in range(args.critic_steps):
        real, made = torch.randn(32, 2) * 0.5 + 1, maker(torch.randn(32, 4)).detach()
        judge_optimizer.zero_grad()
        judged = cross_entropy(judge(real), torch.ones(32, 1)) + cross_entropy(judge(made), torch.zeros(32, 1))
        judged.backward()
        judge_optimizer.step()
        print("judge", judged.item().hex())
    maker_optimizer.zero_grad()
    fooled = cross_entropy(judge(maker(torch.randn(32, 4))), torch.ones(32, 1))
    fooled.backward()
    maker_optimizer.step()
    print("maker", fooled.item().hex())
