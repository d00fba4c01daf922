"""The check that runs after every test sees what it is there to see; each thing is put back before that check runs."""

from __future__ import annotations

import functools
import gc
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import leftovers

torch = pytest.importorskip("torch")


def test_nothing_changed_is_no_difference() -> None:
    assert leftovers.differences(leftovers.take()) == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (torch.autograd, "backward"),
        (torch.autograd, "grad"),
        (torch, "save"),
        (torch.nn.Module, "__call__"),
        (torch.nn.utils, "clip_grad_norm_"),
        (torch.nn.utils.clip_grad, "clip_grad_value_"),
        (torch.utils.data.dataloader._BaseDataLoaderIter, "__next__"),
        (torch.optim.Optimizer, "zero_grad"),
        (torch.nn.functional, "cross_entropy"),
    ],
)
def test_a_patch_is_seen_even_if_it_is_disguised(owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = leftovers.take()
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: object, **kwargs: object) -> object:
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, patched)
    assert any(f".{name} was replaced" in line for line in leftovers.differences(before))
    monkeypatch.undo()
    assert leftovers.differences(before) == []


@pytest.mark.parametrize("name", ["to", "cpu", "cuda", "backward", "item"])
def test_a_patched_tensor_method_is_seen_though_tensor_only_inherits_it(name: str) -> None:
    before = leftovers.take()
    inherited = name not in vars(torch.Tensor)
    original = getattr(torch.Tensor, name)

    def patched(*args: object, **kwargs: object) -> object:
        return original(*args, **kwargs)

    setattr(torch.Tensor, name, patched)
    try:
        assert [line for line in leftovers.differences(before) if f"torch.Tensor.{name} was" in line]
    finally:
        if inherited:
            delattr(torch.Tensor, name)
        else:
            setattr(torch.Tensor, name, original)
    assert leftovers.differences(before) == []


def test_hooks_modes_and_profiler_are_seen() -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    before = leftovers.take()
    handle = register_optimizer_step_post_hook(lambda *args: None)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x), torch.autograd.profiler.profile():
        found = "; ".join(leftovers.differences(before))
    handle.remove()
    assert "_global_optimizer_post_hooks was ()" in found
    assert "profiler on was False and is True" in found
    assert "saved-tensor hooks was None" in found
    assert leftovers.differences(before) == []


def test_signals_switch_interval_and_threads_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "THREAD_GRACE_S", 0.0)
    before = leftovers.take()
    interval, handler, stop = sys.getswitchinterval(), signal.getsignal(signal.SIGTERM), threading.Event()
    thread = threading.Thread(target=stop.wait, name="forgotten", daemon=True)
    try:
        sys.setswitchinterval(interval / 2)
        signal.signal(signal.SIGTERM, lambda *args: None)
        thread.start()
        found = "; ".join(leftovers.differences(before))
    finally:
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGTERM, handler)
        stop.set()
        thread.join()
    assert "sys.getswitchinterval() was" in found
    assert "SIGTERM was" in found
    assert "thread forgotten still runs" in found


def test_in_lists_shared_with_others_only_ours_count() -> None:
    def theirs(phase: str, info: object) -> None:
        return

    def ours(phase: str, info: object) -> None:
        return

    ours.__module__ = "longpole.capture.somewhere"
    before = leftovers.take()
    gc.callbacks.extend([theirs, ours])
    try:
        found = leftovers.differences(before)
    finally:
        gc.callbacks.remove(theirs)
        gc.callbacks.remove(ours)
    assert [line.split(" holds ")[0] for line in found] == ["gc.callbacks"]


def test_looking_imports_no_torch() -> None:
    code = "import leftovers, sys; leftovers.differences(leftovers.take()); sys.exit('torch' in sys.modules)"
    folder = Path(leftovers.__file__).parent
    assert subprocess.run([sys.executable, "-c", code], cwd=folder, check=False).returncode == 0
