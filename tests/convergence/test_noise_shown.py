"""What a noise report and a report without backpropagation look like: every state has words, and nothing gets out."""

from __future__ import annotations

from longpole.analysis.converge_results import Convergence
from longpole.analysis.noise_results import LayerNoise, NoiseCurve, NoiseReport
from longpole.analysis.without_backprop_results import Cosine, GradientWay, Race, Racer, WithoutBackprop
from longpole.report.converge import text_report
from longpole.report.converge_noise import spark
from longpole.report.converge_page import page


def layer(path: str, **more: object) -> LayerNoise:
    row = LayerNoise(path, "Linear", 0, 12, True, steps=4)
    for name, value in more.items():
        setattr(row, name, value)
    return row


def test_a_scale_without_an_upper_end_and_one_that_is_not_told_have_words() -> None:
    rows = [layer("a", noise_scale=8.0, low=4.0), layer("b"), layer("c", not_covered="it is recurrent")]
    text = text_report(Convergence(noise=NoiseReport("parts of the batch", batch=16, layers=rows, notes=["x: y"])))
    assert "4 or more" in text
    assert "not told" in text
    assert "x: y" in text
    assert "None" not in text


def test_signal_over_time_is_on_one_scale_for_all_layers() -> None:
    rows = [
        layer("a", curve=NoiseCurve([1, 2], [1.0, 1.0], [100.0, 100.0])),
        layer("b", curve=NoiseCurve([1, 2], [1.0, None], [1.0, -1.0])),
    ]
    assert set(spark(rows[0], rows)) == {"█"}
    assert spark(rows[1], rows) == "▁" * 6 + "·" * 6
    assert spark(layer("c"), rows) == ""


def test_names_from_a_script_are_escaped_on_the_page() -> None:
    curve = NoiseCurve([1, 2], [1.0, 1.0], [2.0, 3.0])
    found = NoiseReport("micro-batches", layers=[layer("<script>alert(1)</script>", curve=curve)])
    text = page(Convergence(headline="<b>", noise=found))
    assert "<script" not in text
    assert "<b>" not in text.split("</h1>")[0].split("<h1>")[1]
    assert "<polyline" in text
    assert "<polyline" not in page(Convergence(noise=NoiseReport("none")))


def test_ways_that_were_not_possible_and_racers_that_never_arrived_have_words() -> None:
    ways = [GradientWay("reverse mode", True, 1, "pass", 0.5, 0.5, 1, 1.0),
            GradientWay("forward mode", True, 1000, "tangent", 1.0, 1000.0, 16, 2000.0),
            GradientWay("other", True, 1000, "tangent", note="not possible here: no")]  # fmt: skip
    race = Race("digits", 10, 0.5, 20.0, [Racer("slow", 0.1, [0.1], 2, 0, [None, None], [None, None], [1.0, 1.0])])
    cosines = [Cosine(1, 2, None, 0.25, 0.2, 0.1, 0.3, 0.2)]
    found = WithoutBackprop("Net", 1000, 2, None, "its own", ways=ways, race=race, cosines=cosines)
    text = text_report(Convergence(without_backprop=found))
    for words in ("extrapolated", "not possible here: no", "not reached", "unknown size", "16.7 min", "0.2500"):
        assert words in text
    assert "None" not in text
