"""Trains nothing: with --torch it imports torch and runs a forward without gradients, otherwise not even that."""

from __future__ import annotations

import argparse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", action="store_true")
    args = parser.parse_args()
    if args.torch:
        import torch

        with torch.no_grad():
            print(float(torch.nn.Linear(4, 1)(torch.zeros(1, 4)).shape[0]))
    print("nothing to train")


if __name__ == "__main__":
    main()
