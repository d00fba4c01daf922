"""Small trainings in this process: what is found in them, and that they stay what they are."""

from __future__ import annotations

import contextlib
import gc
import linecache
import threading
import warnings
import weakref
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import longpole
from longpole.capture.plan import WindowOptions
from longpole.capture.recorder import Recorder, StopScriptError
from longpole.trace import Kind, Level, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from longpole.analysis.study import LayerTime, Study

pytestmark = pytest.mark.usefixtures("one_thread")

ENOUGH = 45  # turns: more than the window of `measured` has


def measured(turn: Callable[[int], Any], turns: int = ENOUGH, steps: int = 4) -> longpole.Recording:
    with longpole.record(steps=steps, warmup=1) as recording:
        for number in range(turns):
            turn(number)
    return recording


def trainer(model: nn.Module, *inputs: torch.Tensor, **options: Any) -> Callable[[int], None]:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3, **options)

    def turn(_: int) -> None:
        optimizer.zero_grad()
        model(*inputs).square().mean().backward()
        optimizer.step()

    return turn


def layers_of(study: Study) -> dict[str, LayerTime]:
    return {layer.layer: layer for layer in study.layers}


def mlp(width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))


# -- layers ----------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    """`block` is called twice, and `last` has the weights of `first`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16, bias=False)
        self.block = nn.ModuleDict({"a": nn.Linear(16, 16), "b": nn.Tanh()})
        self.last = nn.Linear(16, 16, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for _ in range(2):
            x = self.block["b"](self.block["a"](x))
        return self.last(x)


def test_layers_have_the_paths_of_named_modules() -> None:
    model = Shared()
    study = measured(trainer(model, torch.randn(4, 16))).study()
    assert [layer.layer for layer in study.layers] == [path for path, _ in model.named_modules()]
    assert [layer.container for layer in study.layers] == [True, False, True, False, False, False]


def test_calls_are_counted_and_tied_weights_are_counted_once() -> None:
    model = Shared()
    layers = layers_of(measured(trainer(model, torch.randn(4, 16))).study())
    assert {path: layer.calls for path, layer in layers.items() if path != "block"} == {
        "": 1,
        "first": 1,
        "block.a": 2,
        "block.b": 2,
        "last": 1,
    }
    assert layers[""].params == sum(p.numel() for p in model.parameters())
    assert layers["last"].params == 0
    assert (layers["last"].weight_grad_ms or 0) > 0, "its gradient is computed all the same"


def test_children_sum_to_their_container() -> None:
    study = measured(trainer(Shared(), torch.randn(4, 16))).study()
    layers = study.layers
    for index, layer in enumerate(layers):
        children = [child for child in layers if child.parent == index]
        if not children:
            continue
        for part in ("forward_ms", "backward_ms"):
            total = getattr(layer, f"own_{part}") + sum(getattr(child, part) for child in children)
            assert getattr(layer, part) == pytest.approx(total, abs=1e-9)


def test_models_of_one_run_are_told_apart_by_their_class() -> None:
    one, other = mlp(), mlp()
    optimizer = torch.optim.SGD([*one.parameters(), *other.parameters()], lr=1e-3)
    x = torch.randn(4, 8)

    def turn(_: int) -> None:
        optimizer.zero_grad()
        (one(x) - other(x)).square().mean().backward()
        optimizer.step()

    paths = set(layers_of(measured(turn).study()))
    assert {"Sequential", "Sequential.0", "Sequential#2", "Sequential#2.2"} <= paths


# -- roles, by experiment --------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)
        self.proj = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Only(nn.Module):
    """The output of nn.LSTM, without its state."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(32, 32, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


class Net(nn.Module):
    def __init__(self, first: nn.Module, middle: nn.Module, last: nn.Module, *, detach: bool = False) -> None:
        super().__init__()
        self.first, self.middle, self.last = first, middle, last
        self.detach = detach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.middle(x.detach() if self.detach else x)))


def net(kind: str, *, detach: bool = False) -> tuple[Net, torch.Tensor]:
    """first, middle and last, `middle` of this kind, and a batch for them."""
    rows, image = torch.randn(16, 6, 32), torch.randn(4, 3, 12, 12)

    def linear() -> nn.Module:
        return nn.Linear(32, 32)

    def conv(channels: int) -> nn.Module:
        return nn.Conv2d(channels, 6, 3, padding=1)

    if kind == "embedding":
        return Net(nn.Embedding(100, 32), linear(), linear(), detach=detach), torch.randint(100, (16, 6))
    if kind in ("conv", "batchnorm", "groupnorm"):
        middle = {"conv": conv(6), "batchnorm": nn.BatchNorm2d(6), "groupnorm": nn.GroupNorm(2, 6)}[kind]
        return Net(conv(3), middle, conv(6), detach=detach), image
    middles = {"linear": linear, "attention": Attention, "lstm": Only, "layernorm": lambda: nn.LayerNorm(32)}
    return Net(linear(), middles[kind](), linear(), detach=detach), rows


KINDS = ("linear", "conv", "attention", "embedding", "batchnorm", "groupnorm", "layernorm", "lstm")


def roles_of(kind: str, freeze: str = "", *, detach: bool = False) -> dict[str, tuple[bool, bool]]:
    """Which layers have an input gradient and which a weight gradient."""
    model, x = net(kind, detach=detach)
    if freeze:
        model.get_submodule(freeze).requires_grad_(False)
    layers = layers_of(measured(trainer(model, x)).study())
    return {
        path: (bool(layer.input_grad_ms), bool(layer.weight_grad_ms))
        for path, layer in layers.items()
        if path in ("first", "middle", "last")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_has_both_gradients_but_the_first_has_no_input_gradient(kind: str) -> None:
    assert roles_of(kind) == {"first": (False, True), "middle": (True, True), "last": (True, True)}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "embedding"])
def test_freezing_a_layer_removes_its_weight_gradient_and_nothing_else(kind: str) -> None:
    assert roles_of(kind, freeze="middle") == {"first": (False, True), "middle": (True, False), "last": (True, True)}


def test_freezing_the_first_layer_leaves_it_no_backward_at_all() -> None:
    assert roles_of("embedding", freeze="first")["first"] == (False, False)
    assert roles_of("embedding", freeze="first")["middle"] == (False, True)


@pytest.mark.parametrize("kind", ["linear", "conv", "batchnorm", "lstm", "attention"])
def test_detaching_a_layers_input_removes_its_input_gradient(kind: str) -> None:
    found = roles_of(kind, detach=True)
    assert found["last"] == (True, True)
    if kind != "attention":  # inside of it, proj still hands a gradient to qkv
        assert found["middle"] == (False, True)
    assert found["first"] == (False, False)


@pytest.mark.parametrize("kind", KINDS)
def test_input_and_weight_gradients_are_the_layers_backward(kind: str) -> None:
    model, x = net(kind)
    for layer in measured(trainer(model, x)).study().layers:
        if not layer.container:
            assert layer.input_grad_ms is not None
            assert layer.weight_grad_ms is not None
            assert layer.input_grad_ms + layer.weight_grad_ms == pytest.approx(layer.backward_ms, rel=0.05)


# -- bytes held for backward -----------------------------------------------------------------------------------


def test_saved_bytes_of_an_mlp_on_paper() -> None:
    """A Linear keeps its input (batch x in), ReLU its output, float32. The ReLU's output is the next one's input."""
    study = measured(trainer(mlp(32), torch.randn(16, 8))).study()
    layers = layers_of(study)
    assert {path: layer.saved_bytes for path, layer in layers.items()} == {
        "": 16 * 8 * 4 + 16 * 32 * 4,
        "0": 16 * 8 * 4,
        "1": 16 * 32 * 4,
        "2": 0,
    }
    output = 16 * 4 * 4  # square() keeps the network's output, outside of any layer
    assert study.memory.saved_bytes == 16 * 8 * 4 + 16 * 32 * 4 + output


def test_saved_bytes_of_a_conv_net_on_paper() -> None:
    """A conv keeps its input; max pooling its input (the ReLU's output, counted there) and 64-bit indices."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3))
    layers = layers_of(measured(trainer(model, torch.randn(2, 3, 10, 10))).study())
    assert {path: layer.saved_bytes for path, layer in layers.items() if path} == {
        "0": 2 * 3 * 10 * 10 * 4,
        "1": 2 * 8 * 8 * 8 * 4,
        "2": 2 * 8 * 4 * 4 * 8,
        "3": 2 * 8 * 4 * 4 * 4,
    }


# -- turns of the loop -----------------------------------------------------------------------------------------


def seen(recording: longpole.Recording) -> int:
    return recording.study().run.steps.seen


def test_a_gans_two_optimizers_are_one_step() -> None:
    maker, judge = mlp(), nn.Linear(4, 1)
    both = [torch.optim.Adam(m.parameters()) for m in (judge, maker)]

    def turn(_: int) -> None:
        fake = maker(torch.randn(4, 8))
        for optimizer, sign in zip(both, (1, -1), strict=True):
            optimizer.zero_grad()
            (sign * judge(fake if sign < 0 else fake.detach())).mean().backward()
            optimizer.step()

    recording = measured(turn, turns=20, steps=100)
    assert seen(recording) == 21, "20 turns, and one more where the second optimizer was met first"


def test_accumulated_micro_batches_are_one_step() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def turn(_: int) -> None:
        optimizer.zero_grad()
        for _ in range(4):
            model(torch.randn(4, 8)).mean().backward()
        optimizer.step()

    recording = measured(turn, turns=20, steps=100)
    assert seen(recording) == 20
    assert layers_of(recording.study())["0"].calls == 4


def test_a_closure_that_is_called_many_times_is_one_step() -> None:
    model, x = mlp(), torch.randn(4, 8)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    recording = measured(lambda _: optimizer.step(closure), turns=20, steps=100)
    assert seen(recording) == 20
    phases = {phase.phase for phase in recording.study().phases}
    assert {"forward", "backward", "optimizer"} <= phases


def test_an_optimizer_whose_step_calls_that_of_its_base() -> None:
    class Wrapped(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)  # torch hooks a class when it is first used
    model = mlp()
    optimizer = Wrapped(model.parameters(), lr=1e-3)

    def turn(_: int) -> None:
        model(torch.randn(4, 8)).mean().backward()
        optimizer.step()

    recording = measured(turn, turns=20, steps=100)
    assert seen(recording) == 20
    marks = recording.trace.events.rows_of(Kind.PHASE)
    names = [recording.trace.name_of(int(row)) for row in marks]
    assert names.count("optimizer") == names.count("backward")


def test_an_optimizer_that_raised_once_is_measured_on() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    broken = [True]

    def closure() -> Any:
        if broken.pop() if broken else False:
            raise ValueError("once")
        loss = model(torch.randn(4, 8)).mean()
        loss.backward()
        return loss

    def turn(_: int) -> None:
        with contextlib.suppress(ValueError):
            optimizer.step(closure)

    assert seen(measured(turn, turns=20, steps=100)) == 19


@pytest.mark.parametrize("how", ["backward", "grad"])
def test_a_loop_without_an_optimizer_is_counted_by_its_backward(how: str) -> None:
    weight = torch.randn(8, 4, requires_grad=True)

    def turn(_: int) -> None:
        loss = (torch.randn(4, 8) @ weight).square().mean()
        if how == "grad":
            (gradient,) = torch.autograd.grad(loss, weight)
        else:
            loss.backward()
            gradient, weight.grad = weight.grad, None
        assert gradient is not None
        with torch.no_grad():
            weight.sub_(gradient, alpha=0.01)

    recording = measured(turn, turns=60, steps=8)
    study = recording.study()
    assert study.run.steps.measured >= 6
    assert "backward" in {phase.phase for phase in study.phases}


class Lion:
    """An optimizer that torch knows nothing of."""

    def __init__(self, weights: Iterator[nn.Parameter]) -> None:
        self.weights = list(weights)
        self.moments = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def step(self) -> None:
        for weight, moment in zip(self.weights, self.moments, strict=True):
            assert weight.grad is not None
            moment.lerp_(weight.grad, 0.1)
            weight.sub_(moment.sign(), alpha=1e-4)
            weight.grad = None


def test_lines_of_an_optimizer_that_is_none_of_torchs() -> None:
    model = mlp()
    optimizer = Lion(model.parameters())
    with longpole.record(steps=8, warmup=1) as recording:
        for _ in range(60):
            model(torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
            len(optimizer.moments)
    assert recording._recorder is not None
    loop = recording._recorder._loop
    (line,) = loop.levels[-1].update_lines
    assert loop.phase_at(len(loop.levels) - 1, line) == Phase.OPTIMIZER
    assert linecache.getline(__file__, line).strip() == "optimizer.step()"


def test_steps_that_end_inside_a_transform_of_torch_func() -> None:
    """Its backward is the rhythm. Hooks on saved tensors are forbidden in there, and shapes lack the batch."""
    model = mlp()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, weights, (x[None],)).square().mean()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 0))
    recording = measured(lambda _: gradients(weights, torch.randn(4, 8)), turns=80)
    assert recording._recorder is not None
    assert recording._recorder.failure is None
    study = recording.study()
    assert study.run.steps.measured >= 4
    assert study.run.batch_size is None
    assert [warning for warning in study.run.warnings if "torch.func" in warning]


def test_steps_told_by_hand() -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with longpole.record(steps=100, warmup=1) as recording:
        for _ in range(10):
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.randn(4, 8)).mean().backward()
                optimizer.step()
            recording.step()
    found = recording.study().run.steps.seen
    assert 10 <= found <= 13, "until the first call, turns were found from the optimizer"


def test_a_step_that_ends_inside_of_a_module() -> None:
    class Trainer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            self.optimizer = torch.optim.SGD(self.net.parameters(), lr=1e-3)

        def forward(self, x: torch.Tensor) -> None:
            self.optimizer.zero_grad()
            self.net(x).mean().backward()
            self.optimizer.step()

    model = Trainer()
    assert seen(measured(lambda _: model(torch.randn(4, 8)), turns=30, steps=100)) == 30


# -- the script's own things -----------------------------------------------------------------------------------


def test_losses_are_the_same_to_the_last_bit() -> None:
    def losses(turns: int) -> Iterator[str]:
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(384, 5)
        )
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(turns):
            loss = nn.functional.cross_entropy(model(torch.randn(4, 3, 10, 10)), torch.randint(5, (4,)))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            yield loss.item().hex()

    bare = list(losses(ENOUGH))
    with longpole.record(steps=6, warmup=1) as recording:
        assert list(losses(ENOUGH)) == bare
    assert {Level.PHASES, Level.OPS, Level.GRADIENTS, Level.SITES} <= {step.level for step in recording.trace.steps}


def test_an_exception_inside_goes_its_way_and_what_was_measured_stays() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    for last in range(3, 30):
        recording = longpole.record(steps=20, warmup=0)
        with contextlib.suppress(ZeroDivisionError), recording:
            for number in range(ENOUGH):
                turn(number)
                if number == last:
                    raise ZeroDivisionError
            pytest.fail("the exception was lost")
        assert recording.study().run.stopped == "error"


def test_an_exception_in_the_midst_of_a_module_is_survived() -> None:
    class Fails(nn.Module):
        def forward(self, x: torch.Tensor, fail: bool) -> torch.Tensor:
            if fail:
                raise ValueError("out of memory, say")
            return x

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.fails = mlp(), Fails()

        def forward(self, x: torch.Tensor, fail: bool) -> torch.Tensor:
            return self.fails(self.net(x), fail)

    model = Outer()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def turn(number: int) -> None:
        for fail in (True, False):
            try:
                model(torch.randn(4, 8), fail).mean().backward()
            except ValueError:
                continue
            optimizer.step()

    assert layers_of(measured(turn).study())["net.0"].calls == 2


def test_one_after_the_other() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    first, second = measured(turn).study(), measured(turn).study()
    assert [layer.layer for layer in first.layers] == [layer.layer for layer in second.layers]
    assert first.run.steps == second.run.steps


def test_a_profiler_of_the_scripts_own_comes_first() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    ready: list[int] = []

    def note(profiler: Any) -> None:
        ready.append(sum(event.name == "aten::addmm" for event in profiler.events()))

    def loop() -> None:
        schedule = torch.profiler.schedule(wait=3, warmup=1, active=3, repeat=4)
        with warnings.catch_warnings(), torch.profiler.profile(schedule=schedule, on_trace_ready=note) as profiler:
            warnings.simplefilter("ignore")
            for number in range(40):
                turn(number)
                profiler.step()

    with longpole.record(steps=12, warmup=1) as recording:
        loop()
    assert ready == [6, 6, 6, 6], "four blocks of three steps of two layers: all its own"
    assert any("profiler of its own" in warning for warning in recording.study().run.warnings)


def test_inside_a_profiler_of_the_scripts_own() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    with torch.profiler.profile() as profiler:
        recording = measured(turn, turns=30)
    assert sum(event.name == "aten::addmm" for event in profiler.events()) == 60
    study = recording.study()
    assert any("profiler of its own" in warning for warning in study.run.warnings)
    assert study.layers == []
    assert {"forward", "backward", "optimizer"} <= {phase.phase for phase in study.phases}


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_dispatch_mode_of_the_scripts_own_sees_what_it_saw_before() -> None:
    counts: list[int] = []
    turn = trainer(mlp(), torch.randn(4, 8))
    for _ in range(2):
        with Counting() as mode:
            for number in range(ENOUGH):
                turn(number)
        counts.append(mode.count)
    with Counting() as mode:
        recording = measured(turn)
    assert mode.count - counts[1] in range(20), "our own bookkeeping may add a few ops, and takes none"
    assert any("dispatch mode of the script" in warning for warning in recording.study().run.warnings)


def test_a_mode_and_hooks_that_the_script_enters_within_a_step_are_left_to_it() -> None:
    """Entered below our own, left after it: neither may take the other's place."""
    turn, mode = trainer(mlp(), torch.randn(4, 8)), Counting()
    packed: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        packed.append(1)
        return tensor

    with longpole.record(steps=4, warmup=1):
        for number in range(ENOUGH):
            with mode, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                turn(number)
    assert len(packed) == ENOUGH * 6 or len(packed) % ENOUGH == 0
    assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == []


def test_hooks_of_the_scripts_own_are_called_as_often_as_before() -> None:
    model = mlp()
    calls: list[str] = []
    model[0].register_forward_hook(lambda *_: calls.append("forward"))
    model[2].register_full_backward_hook(lambda *_: calls.append("backward"))
    model.register_forward_pre_hook(lambda *_: calls.append("pre"))
    measured(trainer(model, torch.randn(4, 8)))
    assert {name: calls.count(name) for name in set(calls)} == dict.fromkeys(("forward", "backward", "pre"), ENOUGH)


def test_a_training_in_a_thread_is_measured() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    with longpole.record(steps=4, warmup=1) as recording:
        thread = threading.Thread(target=lambda: [turn(number) for number in range(ENOUGH)])
        thread.start()
        thread.join()
    study = recording.study()
    assert study.run.steps.measured == 6
    assert layers_of(study)["0"].calls == 1


def test_a_training_in_a_thread_that_ends_at_any_point_of_the_window() -> None:
    for turns in range(2, 16):
        turn = trainer(mlp(), torch.randn(4, 8))
        with longpole.record(steps=20, warmup=0) as recording:
            thread = threading.Thread(target=lambda n=turns, t=turn: [t(number) for number in range(n)])
            thread.start()
            thread.join()
        assert recording.trace.steps


def test_other_threads_pass_unmarked() -> None:
    turn, other = trainer(mlp(), torch.randn(4, 8)), mlp()
    over = threading.Event()

    def infer() -> None:
        while not over.is_set():
            other(torch.randn(4, 8))

    with longpole.record(steps=4, warmup=1) as recording:
        for number in range(2):
            turn(number)
        thread = threading.Thread(target=infer)
        thread.start()
        for number in range(ENOUGH):
            turn(number)
        over.set()
        thread.join()
    layers = layers_of(recording.study())
    assert layers["0"].calls == 1
    assert not any(path.startswith("Sequential#2") for path in layers)


def test_networks_are_let_go_of_after_the_window() -> None:
    model = mlp()
    recording = measured(trainer(model, torch.randn(4, 8)))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert recording.study().layers


def test_functions_that_the_script_took_from_torch_do_nothing_after_the_window() -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    recorder = Recorder(WindowOptions(steps=2, warmup=0))
    recorder.start()
    taken = nn.utils.clip_grad_norm_
    for number in range(ENOUGH):
        turn(number)
    recorder.finish()
    assert taken is not nn.utils.clip_grad_norm_
    taken([nn.Parameter(torch.ones(1))], 1.0)
    assert len(recorder._log.marks) == 0


def test_a_failure_of_ours_ends_the_measuring_and_not_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = trainer(mlp(), torch.randn(4, 8))
    inside = ("_gradients.enter", "_gradients.leave")
    for name in ("_enter_ops", "_enter_gradients", "_settle", "_leave_level", "_close_step", *inside):
        recorder = Recorder(WindowOptions(steps=4, warmup=0))

        def fail(*_: object) -> None:
            raise MemoryError("planted")

        *owner, last = name.split(".")
        monkeypatch.setattr(attrgetter(*owner)(recorder) if owner else recorder, last, fail)
        recorder.start()
        for number in range(ENOUGH):
            turn(number)
        recorder.finish()
        assert recorder.failure == "MemoryError: planted", name
        assert recorder._gradients._graph is None, "a watched graph holds the script's tensors"
        assert (
            any("Measuring stopped early" in warning for warning in recorder.builder.info.warnings) or name == "_settle"
        )


def test_a_failure_in_the_dispatch_mode_does_not_reach_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("longpole.capture.gradients._leads", fail)
    study = measured(trainer(mlp(), torch.randn(4, 8))).study()
    assert any("in part only (RuntimeError: planted)" in warning for warning in study.run.warnings)


def test_stop_ends_the_script_when_the_window_is_measured() -> None:
    recorder = Recorder(WindowOptions(steps=2, warmup=0, stop=True))
    recorder.start()
    turn = trainer(mlp(), torch.randn(4, 8))

    def loop() -> None:
        for number in range(ENOUGH):
            turn(number)

    with pytest.raises(StopScriptError) as raised:
        loop()
    assert raised.value.code == 0
    recorder.finish()
    assert recorder.stopped == "window"


def test_an_evaluation_within_a_deep_step_is_not_recorded_op_by_op() -> None:
    model = mlp()
    train = trainer(model, torch.randn(4, 8))

    def turn(number: int) -> None:
        train(number)
        if number > 6:
            model.eval()
            with torch.no_grad():
                for _ in range(150):
                    model(torch.randn(4, 8))
            model.train()

    recording = measured(turn, turns=60, steps=8)
    trace = recording.trace
    per_step = [
        int(((trace.events.start_ns >= step.start_ns) & (trace.events.start_ns < step.end_ns)).sum())
        for step in trace.steps
        if step.level == Level.OPS
    ]
    assert max(per_step) < 150 * 20
    assert "evaluation" in {phase.phase for phase in recording.study().phases}


def test_a_study_of_nothing_says_so() -> None:
    with longpole.record() as recording:
        mlp()(torch.randn(4, 8))
    with pytest.raises(longpole.LongpoleError, match="no measured step"):
        recording.study()
    with pytest.raises(longpole.LongpoleError, match="nothing is recorded yet"):
        longpole.record().study()
