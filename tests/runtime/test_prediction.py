"""From logits to answers, against sums written out in plain Python."""

import math

import numpy as np
import pytest

from mnist_edge.contract import Calibration
from mnist_edge.runtime.prediction import Answer, Digit, Prediction, Reading, energy, ood_score, softmax

LOGITS = np.array([[1.0, 2.0, 3.0], [-4.0, 0.5, 0.25], [1000.0, 999.0, -1000.0], [-7.0, -7.0, -7.0]], np.float32)

CALIBRATION = Calibration(2.0, (0.1, 0.5, 0.8), (-3.0, -2.0, 5.0), 9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_softmax(temperature):
    shares = softmax(LOGITS, temperature)
    assert shares.dtype == np.float64
    for row, found in zip(LOGITS.tolist(), shares.tolist(), strict=True):
        powers = [math.exp((value - max(row)) / temperature) for value in row]
        assert found == pytest.approx([power / sum(powers) for power in powers], abs=1e-15)


def test_the_temperature_is_one_where_none_is_given():
    assert (softmax(LOGITS) == softmax(LOGITS, 1.0)).all()
    assert not np.allclose(softmax(LOGITS), softmax(LOGITS, 2.0))


def test_energy():
    found = energy(LOGITS)
    assert (found.dtype, found.shape) == (np.float64, (4,))
    wanted = [-math.log(sum(math.exp(value) for value in row)) for row in LOGITS[[0, 1, 3]].tolist()]
    assert found[[0, 1, 3]].tolist() == pytest.approx(wanted)
    assert found[2] == pytest.approx(-1000 - math.log(1 + math.exp(-1)))


def one_of_energy(value):
    """Two logits with that energy."""
    return [-value - math.log(2)] * 2


@pytest.mark.parametrize(
    ("value", "score"), [(-100, 0.0), (-3.001, 0.0), (-2.5, 0.3), (-2, 0.5), (1.5, 0.65), (5.001, 0.8), (100, 0.8)]
)
def test_ood_score(value, score):
    found = ood_score(np.array([one_of_energy(value), one_of_energy(-2.5)], np.float32), CALIBRATION)
    assert found.tolist() == pytest.approx([score, 0.3], abs=1e-5)


def digit(label, line):
    return Digit(label=label, probability=0.9, ood_score=None, box=(1, 2, 3, 4), line=line)


def test_text_of_a_reading():
    digits = (digit("1", 0), digit(None, 0), digit("ten", 1), digit("2", 3))
    assert Reading(digits).text == "1?\nten\n2"
    assert Reading(()).text == ""


def test_answers_as_dictionaries():
    assert digit("1", 2).to_dict() == {
        "label": "1",
        "probability": 0.9,
        "ood_score": None,
        "box": (1, 2, 3, 4),
        "line": 2,
    }


@pytest.mark.parametrize("kind", [Answer, Prediction, Digit])
def test_answers_take_names_only(kind):
    with pytest.raises(TypeError, match="Extra positional"):
        kind("1")


@pytest.mark.parametrize("kind", [Answer, Prediction, Digit, Reading])
def test_answers_cannot_be_changed(kind):
    assert kind.__struct_config__.frozen
