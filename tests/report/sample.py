"""Made studies whose parts sum: a GPT on a CPU, and eight ranks of a GPU trace. Figures are invented."""

from __future__ import annotations

from longpole.analysis.device_results import (
    CommunicationTime,
    CriticalPath,
    PathPart,
    RankReport,
    Straggler,
)
from longpole.analysis.study import (
    Answer,
    Finding,
    Gap,
    LayerTime,
    Machine,
    Memory,
    OpClassTime,
    OpTime,
    PhaseTime,
    Rank,
    RankStep,
    Run,
    Share,
    Site,
    Spread,
    Step,
    StepCounts,
    StepSample,
    Study,
    Timeline,
)

BLOCKS = 6
# name, type, params, forward, input grad, weight grad, optimizer, saved bytes, GFLOPs of forward, op class
BLOCK_PARTS = (
    ("ln1", "LayerNorm", 768, 1.0, 0.9, 0.3, 0.1, 3_145_728, 0.0, "normalization"),
    ("attn.qkv", "Linear", 443_520, 4.0, 3.6, 3.7, 1.2, 3_145_728, 0.91, "matmul"),
    ("attn.proj", "Linear", 147_840, 1.5, 1.3, 1.4, 0.5, 3_145_728, 0.3, "matmul"),
    ("ln2", "LayerNorm", 768, 1.0, 0.9, 0.3, 0.1, 3_145_728, 0.0, "normalization"),
    ("mlp.fc1", "Linear", 591_360, 6.2, 6.0, 9.3, 2.1, 3_145_728, 1.21, "matmul"),
    ("mlp.act", "GELU", 0, 3.1, 2.0, None, None, 12_582_912, 0.0, "elementwise"),
    ("mlp.fc2", "Linear", 590_208, 6.0, 5.8, 9.1, 2.0, 12_582_912, 1.21, "matmul"),
)
ENDS = (
    ("tok_emb", "Embedding", 98_304, 1.2, None, 2.6, 0.5, 16_384, 0.0, "embedding"),
    ("ln_f", "LayerNorm", 768, 1.0, 0.9, 0.3, 0.1, 3_145_728, 0.0, "normalization"),
    ("lm_head", "Linear", 98_304, 18.0, 14.0, 17.0, 0.6, 3_145_728, 3.2, "matmul"),
)


def _leaf(prefix: str, part: tuple, step_ms: float) -> LayerTime:
    name, type_, params, forward, inputs, weights, optimizer, saved, gflops, _ = part
    backward = (inputs or 0.0) + (weights or 0.0)
    total = forward + backward + (optimizer or 0.0)
    flops = gflops * 1e9 * 3 if gflops else None
    return LayerTime(
        layer=prefix + name,
        type=type_,
        params=params,
        forward_ms=forward,
        backward_ms=backward,
        input_grad_ms=inputs,
        weight_grad_ms=weights,
        optimizer_ms=optimizer,
        total_ms=total,
        share=total / step_ms,
        saved_bytes=saved,
        flops=flops,
        bound_ms=flops / 0.39e12 * 1e3 if flops else None,
        calls=1.0,
    )


def _sum(values) -> float | None:
    found = [v for v in values if v is not None]
    return sum(found) if found else None


def _container(path: str, type_: str, inside: list[LayerTime], step_ms: float) -> LayerTime:
    parts = [x for x in inside if not x.container and (x.layer.startswith(path + ".") or not path)]
    names = ("params", "forward_ms", "backward_ms", "input_grad_ms", "weight_grad_ms", "optimizer_ms", "total_ms")
    sums = {name: _sum(getattr(x, name) for x in parts) for name in (*names, "saved_bytes", "flops")}
    return LayerTime(layer=path, type=type_, container=True, share=sums["total_ms"] / step_ms, own_ms=0.0, **sums)


def gpt_layers(step_ms: float) -> list[LayerTime]:
    """Every leaf and container, in module order."""
    leaves = [_leaf("", ENDS[0], step_ms)]
    for i in range(BLOCKS):
        leaves += [_leaf(f"blocks.{i}.", part, step_ms) for part in BLOCK_PARTS]
    leaves += [_leaf("", part, step_ms) for part in ENDS[1:]]
    out = [_container("", "GPT", leaves, step_ms), leaves[0], _container("blocks", "ModuleList", leaves, step_ms)]
    for i in range(BLOCKS):
        at = f"blocks.{i}"
        out.append(_container(at, "Block", leaves, step_ms))
        mine = [x for x in leaves if x.layer.startswith(at + ".")]
        attention, mlp = (
            _container(f"{at}.{n}", t, leaves, step_ms) for n, t in (("attn", "Attention"), ("mlp", "MLP"))
        )
        out += [mine[0], attention, *mine[1:3], mine[3], mlp, *mine[4:]]
    return out + leaves[-2:]


OUTSIDE = {"data": 9.0, "loss": 16.0, "other": 1.0}
FORWARD_OUTSIDE, BACKWARD_OUTSIDE, OPTIMIZER_OUTSIDE = 26.4, 14.0, 20.2  # work in no leaf layer


def gpt_study() -> Study:
    """One CPU run; phases sum to the mean step, leaf layers and what is outside them to their phase."""
    leaf = [x for x in gpt_layers(1.0) if not x.container]
    phase_ms = {
        "data": OUTSIDE["data"],
        "forward": sum(x.forward_ms for x in leaf) + FORWARD_OUTSIDE,
        "loss": OUTSIDE["loss"],
        "backward": sum(x.backward_ms for x in leaf) + BACKWARD_OUTSIDE,
        "optimizer": sum(x.optimizer_ms or 0.0 for x in leaf) + OPTIMIZER_OUTSIDE,
        "other": OUTSIDE["other"],
    }
    step_ms = sum(phase_ms.values())
    sites = {"data": [Site("train.py:31 in get_batch", 8.8), Site("train.py:32 in get_batch", 0.2)]}
    layers = gpt_layers(step_ms)
    phases = [
        PhaseTime(name, ms, ms / step_ms, ms * 0.98, ms * 1.02, sites.get(name, []), _note(name))
        for name, ms in phase_ms.items()
    ]
    return Study(
        headline=f"The long pole: WEIGHT GRADIENTS of the MLP matmuls (blocks.*.mlp), 110 ms of a {step_ms:.0f} ms "
        f"step ({110.4 / step_ms:.0%}).",
        run=_gpt_run(),
        machine=Machine("a made machine", 2, 2, {"matmul float32": "390 GFLOP/s", "copy": "28 GB/s"}),
        step=Step(
            Spread(step_ms - 1.2, step_ms * 0.985, step_ms * 1.02, 24, step_ms),
            samples_per_s=32 / step_ms * 1e3,
            accounted_share=1 - 2.0 / step_ms,
            probe_share=0.002,
            residual_ms=2.0,
            profiled_probe_share=0.043,
            samples=_samples(step_ms),
        ),
        phases=phases,
        layers=layers,
        op_classes=_op_classes(step_ms),
        ops=_ops(layers, step_ms),
        memory=Memory(1_482_000_000, 43_200_000, 43_200_000, 86_400_000, 305_000_000),
        answers=_answers(phase_ms, step_ms),
        findings=[
            Finding(
                "compile-mlp",
                "The MLP's GELU and its bias pass over memory four times; fused they would pass once.",
                18.0,
                "medium",
                "longpole try --only compile-mlp train.py",
            ),
            Finding("zero-grad", "Gradients are set to zero one tensor at a time, 52 calls a step."),
        ],
    )


def _note(phase: str) -> str:
    return "AdamW, 52 tensors" if phase == "optimizer" else ""


def _gpt_run() -> Run:
    return Run(
        script="train.py",
        argv=["--device", "cpu"],
        device="CPU, 2 threads",
        framework="torch 2.13.0",
        steps=StepCounts(41, 8, 24, 9, 1),
        batch_size=32,
        model="GPT, 10.8 M parameters",
        parameters=10_800_000,
        warnings=["The clock frequency changed by 11 % during the window."],
        facts={"interleaving": "levels 0 1 0 2 0 3", "allocator": "glibc"},
    )


def _samples(step_ms: float) -> list[StepSample]:
    out = []
    for i in range(41):
        kind = "warmup" if i < 8 else "profiled" if i % 4 == 3 else "set aside" if i == 29 else "measured"
        wave = 1 + 0.012 * ((i * 7) % 5 - 2) / 2
        out.append(
            StepSample(i, step_ms * wave * {"warmup": 1.2, "profiled": 1.04, "set aside": 1.5}.get(kind, 1), kind)
        )
    return out


def _op_classes(step_ms: float) -> list[OpClassTime]:
    out = []
    every = [(part, BLOCKS) for part in BLOCK_PARTS] + [(part, 1) for part in ENDS]
    for name in ("matmul", "elementwise", "normalization", "embedding"):
        mine = [(p, n) for p, n in every if p[9] == name]
        forward = sum(p[3] * n for p, n in mine)
        backward = sum(((p[4] or 0.0) + (p[5] or 0.0)) * n for p, n in mine)
        flops = sum(p[8] * 3e9 * n for p, n in mine) or None
        total = forward + backward
        bound = flops / 0.39e12 * 1e3 if flops else None
        out.append(OpClassTime(name, total, total / step_ms, forward, backward, flops, None, bound, 9.0))
    optimizer = sum((p[6] or 0.0) * n for p, n in every) + OPTIMIZER_OUTSIDE
    out.append(OpClassTime("optimizer", optimizer, optimizer / step_ms))
    out.append(OpClassTime("attention", FORWARD_OUTSIDE, FORWARD_OUTSIDE / step_ms, FORWARD_OUTSIDE))
    out.append(OpClassTime("unclassified", 0.4, 0.4 / step_ms, 0.4))
    rest = step_ms - sum(c.ms for c in out)
    return [*out, OpClassTime("host", rest, rest / step_ms)]


def _ops(layers: list[LayerTime], step_ms: float) -> list[OpTime]:
    out = []
    for x in layers:
        if x.container:
            continue
        linear = x.type == "Linear"
        op = {"Linear": "aten::addmm", "LayerNorm": "aten::native_layer_norm"}.get(x.type, f"aten::{x.type.lower()}")
        kind = {"Linear": "matmul", "LayerNorm": "normalization", "Embedding": "embedding"}.get(x.type, "elementwise")
        roles = (("forward", x.forward_ms), ("input_grad", x.input_grad_ms), ("weight_grad", x.weight_grad_ms))
        for role, ms in roles:
            if ms is not None:
                name = op if role == "forward" else "aten::mm" if linear else op + "_backward"
                flops = x.flops / 3 if x.flops else None
                bound = x.bound_ms / 3 if x.bound_ms else None
                of_ceiling = bound / ms if bound else None
                out.append(
                    OpTime(
                        name, kind, role, x.layer, "[[2048, 384], [384, 1536]]", ms, 1.0, flops, None, bound, of_ceiling
                    )
                )
    out.append(OpTime("mylib::rotary", "unclassified", "forward", None, None, 0.4, 12.0))
    return sorted(out, key=lambda op: -op.ms)


def _answers(phase_ms: dict[str, float], step_ms: float) -> list[Answer]:
    forward, backward = phase_ms["forward"], phase_ms["backward"]
    said = f"No: {forward / step_ms:.0%}. Backward is {backward / forward:.2f} times forward."
    return [
        Answer("Is it the forward pass?", "no", said, {"forward_ms": forward, "backward_ms": backward}),
        Answer(
            "Is it the matrix multiplications?",
            "partly",
            "Mostly: 71 % of the time, 99 % of the FLOPs; they run at 49 % of this machine's ceiling.",
            {"matmul_share": 0.71},
        ),
        Answer("Is it one layer?", "no", "No: the largest, lm_head, is 8 %.", {"layer": "lm_head"}),
        Answer("Is it the data?", "no", f"No: {phase_ms['data'] / step_ms:.1%}, train.py:31 in get_batch."),
        Answer(
            "Could any one fix double it?",
            "not known",
            "Not known: the ceiling of this machine was not measured (longpole machine).",
        ),
    ]


def gpu_study(ranks: int = 8, steps: int = 5) -> Study:
    """A trace-file study: `ranks` ranks, one of them (3) short of data; no layer and no interval is known."""
    rows = [_rank(i, steps) for i in range(ranks)]
    phases = [("data", 14.0), ("forward", 38.0), ("backward", 81.0), ("optimizer", 6.0), ("idle", 11.0)]
    whole = sum(ms for _, ms in phases)
    return Study(
        headline="The long pole: BACKWARD, 81 ms of a 150 ms step (54 %); rank 3 waits for data.",
        run=Run(
            device="NVIDIA H100 80GB HBM3",
            world_size=ranks,
            source="kineto",
            steps=StepCounts(seen=steps),
            warnings=["2 events of rank 5 end before they start; they were cut to nothing."],
        ),
        step=Step(Spread(150.2, None, None, steps, 150.0), accounted_share=1.0, residual_ms=0.0),
        phases=[PhaseTime(name, ms, ms / whole) for name, ms in phases],
        op_classes=[
            OpClassTime("matmul", 88.0, 88.0 / whole, 30.0, 58.0, 4.1e13),
            OpClassTime("collective", 21.0, 21.0 / whole, None, 21.0),
            OpClassTime("elementwise", 30.0, 30.0 / whole, 8.0, 22.0),
            OpClassTime("host", 11.0, 11.0 / whole),
        ],
        answers=[Answer("Is it communication?", "no", "No: 4 % of the step is communication that no compute covers.")],
        ranks=rows,
        communication=[
            CommunicationTime(
                "default_pg", "all_reduce", ranks, 240, 105.0, 30.0, 3_200_000_000, 240, 3.0e10, 5.2e10, rank=i
            )
            for i in range(ranks)
        ],
        rank_report=RankReport(
            sentences=["Rank 3 makes the others wait 46 ms a step: in data, its device is idle meanwhile."],
            stragglers=[Straggler("3", 46.0, 0.97, "0", "data", 0.98, "Rank 3 is late from step 0 on.")],
        ),
        critical_path=CriticalPath(
            window_ms=150.0,
            path_ms=150.0,
            sentence="Device work decides: 139 of 150 ms of the step are kernels.",
            exact=True,
            parts=[
                PathPart("device", 139.0, 139 / 150),
                PathPart("launch", 8.0, 8 / 150),
                PathPart("gap", 3.0, 3 / 150),
            ],
            op_classes=[PathPart("matmul", 88.0, 88 / 150), PathPart("elementwise", 62.0, 62 / 150)],
        ),
    )


def _timeline(span: float, idle: float, communication: float, exposed: float, copies: float) -> Timeline:
    compute = span - idle - exposed - copies
    parts = (span - idle, idle, compute, communication, exposed, copies)
    return Timeline(*(Share(ms, ms / span) for ms in parts), span_ms=span)


def _rank(i: int, steps: int) -> Rank:
    idle = 290.0 if i == 3 else 52.0 + i
    starved = (
        [Gap("data", 240.0, 240.0 / 750.0, 5, "next batch came 48 ms after the step before ended")] if i == 3 else []
    )
    gaps = [
        *starved,
        Gap("launch", 42.0 + i, (42.0 + i) / 750.0, 912, "launch queue empty"),
        Gap("not known", 8.0, 8 / 750, 40),
    ]
    return Rank(
        rank=i,
        device="NVIDIA H100 80GB HBM3",
        timeline=_timeline(750.0, idle, 105.0, 30.0, 4.0),
        steps=[
            RankStep(s, 150.0 + (s % 3) - (i % 2), _timeline(150.0, idle / steps, 21.0, 6.0, 0.8)) for s in range(steps)
        ],
        gaps=gaps,
        source=f"rank{i}.json.gz",
        note="No ProfilerStep: steps were found from the optimizer." if i == 5 else "",
    )


HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "[bold red]markup[/bold red]",
    "\x1b[31mred\x1b[0m\nnew line\ttab\x00",
    "\u202eevil\u202c \u2028 {{7*7}} ${x} <!--",
    "层.注意力",
    "a" * 3000,
    "\ud800 half a pair",
    "",
)


def hostile_study() -> Study:
    """The GPT study with every name replaced by something that is no name."""
    study = gpt_study()
    study.headline = HOSTILE[0] + study.headline
    study.run.script, study.run.model = HOSTILE[0], HOSTILE[2]
    study.run.warnings = list(HOSTILE)
    study.run.facts = {name: name for name in HOSTILE}
    study.layers = [
        LayerTime(f"{HOSTILE[i % len(HOSTILE)]}{i}", HOSTILE[0], forward_ms=1.0, total_ms=1.0, share=0.01)
        for i in range(24)
    ]
    for i, op in enumerate(study.ops):
        op.op = op.shapes = op.layer = HOSTILE[i % len(HOSTILE)]
    for phase in study.phases:
        phase.sites = [Site(name, 0.1) for name in HOSTILE]
    study.answers = [Answer(name, name, name, {name: name}) for name in HOSTILE]
    study.findings = [Finding(name, name, None, name, name) for name in HOSTILE]
    return study


def wide_study(layers: int = 20_000) -> Study:
    """As many leaf layers, in blocks of twenty, with as many ops."""
    leaf = [
        LayerTime(
            f"net.{i // 20}.part{i % 20}", "Linear", False, 10, 0.01, 0.02, 0.01, 0.01, None, 0.005, 0.035, 0.035 / 700
        )
        for i in range(layers)
    ]
    study = gpt_study()
    study.layers = leaf
    study.ops = [OpTime("aten::mm", "matmul", "forward", x.layer, "[[8, 8], [8, 8]]", 0.01, 1.0) for x in leaf]
    return study
