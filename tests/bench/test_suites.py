"""Every suite has exactly the sizes of the original, and one formula gives the original's FLOPs."""

from __future__ import annotations

import pytest

from longpole.bench.flags import FLAGS, described, size_from_flags
from longpole.bench.memory import bytes_needed, too_large
from longpole.bench.suites import SUITES, conv_output, counts, group_rows, load_suite, one_size
from longpole.errors import LongpoleError


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        ("deepbench-train", {"gemm": 160, "conv": 94, "rnn": 53, "all_reduce": 7 * 5}),
        ("deepbench-inference-server", {"gemm": 75, "conv": 107, "rnn": 69, "sparse_gemm": 24}),
        ("deepbench-inference-device", {"gemm": 13, "conv": 16, "rnn": 3, "sparse_gemm": 8}),
        (
            "modern",
            {"gemm": 176, "grouped_gemm": 14, "attention": 18, "conv": 73, "norm": 26, "softmax_loss": 10,
             "embedding": 34, "optimizer": 24, "elementwise": 26, "collective": 84},
        ),
    ],
)  # fmt: skip
def test_a_suite_has_exactly_its_sizes(suite: str, expected: dict[str, int]) -> None:
    assert counts(suite) == expected


@pytest.mark.parametrize("suite", SUITES)
def test_flops_by_formula_are_those_of_the_data(suite: str) -> None:
    columns = {
        "gemm": "flops",
        "conv": "fwd_flops",
        "rnn": "fwd_flops",
        "sparse_gemm": "dense_flops",
        "grouped_gemm": "flops",
    }
    checked = 0
    for size in load_suite(suite):
        if size.op in columns:
            assert size.flops == float(size.row[columns[size.op]]), size.label
            checked += 1
    assert checked > 30


def test_output_sizes_of_convolutions_are_whole_and_those_of_the_data() -> None:
    for suite in SUITES:
        for size in load_suite(suite):
            if size.op == "conv":
                assert conv_output(size) == (size.number("out_h"), size.number("out_w"))


@pytest.mark.parametrize("suite", SUITES)
def test_every_size_has_a_label_of_its_own_within_its_operation(suite: str) -> None:
    for size in load_suite(suite):
        assert size.label
        assert size.suite == suite


def test_skewed_groups_follow_zipf_and_lose_no_row() -> None:
    row = {
        "network": "x",
        "layer": "y",
        "pass": "fwd",
        "groups": "4",
        "m": "1",
        "n_per_group": "25",
        "k": "1",
        "routing": "skewed",
    }
    rows = group_rows(one_size("grouped_gemm", row))
    # 100 rows over 1 + 1/2 + 1/3 + 1/4 = 25/12: 48, 24, 16, 12
    assert rows == [48, 24, 16, 12]


def test_one_size_by_flags() -> None:
    size = size_from_flags("gemm", ["--m", "1760", "--n=128", "--k", "1760", "--a-t", "1"])
    assert size.flops == 2 * 1760 * 128 * 1760
    assert size.label.startswith("m 1760 n 128 k 1760 TN")
    attention = size_from_flags("attention", ["--heads", "4", "--seq-q", "16", "--head-dim", "8"])
    assert (attention.row["kv_heads"], attention.row["seq_kv"]) == ("4", "16")


@pytest.mark.parametrize(
    ("op", "flags", "message"),
    [
        ("gem", [], "no operation"),
        ("gemm", ["--m", "1"], "needs --n --k"),
        ("gemm", ["--m", "0", "--n", "1", "--k", "1"], "whole number"),
        ("gemm", ["--m", "1e99", "--n", "1", "--k", "1"], "whole number"),
        ("gemm", ["--m", "nan", "--n", "1", "--k", "1"], "whole number"),
        ("gemm", ["--m", "1.5", "--n", "1", "--k", "1"], "whole number"),
        ("gemm", ["--m", "1", "--n", "1", "--k"], "needs a value"),
        ("gemm", ["--q", "1", "--m", "1", "--n", "1", "--k", "1"], "no flag --q"),
        ("gemm", ["m", "1"], "no flag m"),
        ("rnn", ["--type", "tree", "--hidden", "1", "--batch", "1", "--timesteps", "1"], "one of vanilla"),
        ("sparse_gemm", ["--m", "1", "--n", "1", "--k", "1", "--sparsity", "1"], "below 1"),
        (
            "conv",
            ["--n", "1", "--c", "3", "--h", "2", "--w", "9", "--k", "4", "--filter-h", "3", "--filter-w", "3"],
            "larger than the padded image",
        ),
        (
            "conv",
            [
                "--n",
                "1",
                "--c",
                "3",
                "--h",
                "9",
                "--w",
                "9",
                "--k",
                "4",
                "--filter-h",
                "3",
                "--filter-w",
                "3",
                "--groups",
                "2",
            ],
            "multiples",
        ),
    ],
)
def test_wrong_flags_are_one_line_that_says_what(op: str, flags: list[str], message: str) -> None:
    with pytest.raises(LongpoleError, match=message):
        size_from_flags(op, flags)


def test_every_operation_has_flags() -> None:
    from longpole.bench.operations import BUILDERS

    assert set(BUILDERS) <= set(FLAGS)


def test_what_does_not_fit_is_said_with_both_figures() -> None:
    size = one_size("gemm", {"m": 1024, "n": 1024, "k": 1024, "a_t": 0, "b_t": 0})
    assert bytes_needed(size, 4) == 3 * 4 * 1024**2
    assert too_large(size, 4, available=2**30) is None
    assert too_large(size, 4, available=2**20) == "needs 0.0 GiB, 0.0 GiB are free for it"
    assert too_large(one_size("gemm", {"m": 2**17, "n": 2**17, "k": 1, "a_t": 0, "b_t": 0}), 4, available=2**30) == (
        "needs 64.0 GiB, 0.8 GiB are free for it"
    )


def test_whole_numbers_are_named_alike_however_they_are_written() -> None:
    """The label is the key that results are kept by."""
    one = size_from_flags("gemm", ["--m", "1e3", "--n", "2.0", "--k", "03"])
    assert one == size_from_flags("gemm", ["--m", "1000", "--n", "2", "--k", "3"])
    assert size_from_flags("sparse_gemm", ["--m", "2", "--n", "2", "--k", "2"]).row["sparsity"] == "0.95"


def test_help_names_the_flags_of_every_operation() -> None:
    found = dict(described())
    assert set(found) == set(FLAGS)
    assert found["rnn"] == "[--type lstm] --hidden --batch --timesteps"
    assert "[--kv-heads --heads]" in found["attention"]
    from click.testing import CliRunner

    from longpole.cli.ops import command

    said = CliRunner().invoke(command, ["--help"]).output
    assert all(op in said for op in FLAGS)
