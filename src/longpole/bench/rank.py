"""One rank of a group of processes on this machine: `python -m longpole.bench.rank SPEC.json RANK`.

Ranks meet at a file, so no port is opened for the meeting; gloo's own sockets stay on the loopback interface.
Rank 0 writes one JSON line a message to the results file, as it goes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

from longpole.bench.collectives import Message, run_message, time_is_over


def main(spec_path: str, rank: int) -> None:
    """Runs every message of the specification."""
    spec = json.loads(Path(spec_path).read_text())
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = FileStore(spec["store"], spec["ranks"])
    dist.init_process_group(
        spec["backend"], store=store, rank=rank, world_size=spec["ranks"], timeout=timedelta(seconds=spec["timeout_s"])
    )
    deadline_s = None if spec["begin_within_s"] is None else time.monotonic() + spec["begin_within_s"]
    device = "cpu" if spec["backend"] == "gloo" else f"cuda:{rank}"
    try:
        with Path(spec["results"]).open("a") as results:
            for message in spec["messages"]:
                if time_is_over(deadline_s):
                    break
                found = run_message(Message(*message), device, spec["budget_s"])
                if rank == 0:
                    results.write(json.dumps(found) + "\n")
                    results.flush()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
