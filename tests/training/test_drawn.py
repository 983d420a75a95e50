"""The digits that are drawn for the training."""

import re

import numpy as np
import pytest
import torch

from mnist_edge.training import drawn
from mnist_edge.training.drawn import draw_digits, draw_strokes
from mnist_edge.training.skeletons import DRAWINGS

pytestmark = pytest.mark.numeric


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def sample():
    return draw_digits(3000, generator())


def test_the_same_state_draws_the_same_digits():
    images, digits = draw_digits(50, generator(1))
    again, same = draw_digits(50, generator(1))
    assert torch.equal(images, again)
    assert torch.equal(digits, same)
    others, _ = draw_digits(50, generator(2))
    assert not torch.equal(images, others)
    assert draw_digits(0, generator())[0].shape == (0, 1, 28, 28)


def test_every_digit_is_as_frequent_as_any_other(sample):
    images, digits = sample
    assert images.shape == (3000, 1, 28, 28)
    assert images.dtype == torch.float32
    assert digits.dtype == torch.int64
    counts = digits.bincount(minlength=10)
    assert counts.min() > 240
    assert counts.max() < 360


def test_they_are_preprocessed_as_mnist_is(sample, mnist):
    images = sample[0][:, 0]
    assert images.min() == 0
    assert images.max() == 255
    along = torch.arange(28.0)
    mass = images.sum(dim=(1, 2))
    for centre in (images.sum(dim=2) @ along / mass, images.sum(dim=1) @ along / mass):
        assert centre.mean() == pytest.approx(14, abs=0.15)
        assert centre.std() < 0.4
    inked = images > 60
    longer = torch.maximum(inked.any(dim=1).sum(dim=1), inked.any(dim=2).sum(dim=1)).float()
    assert longer.median() == 20
    assert (longer - 20).abs().max() <= 4
    real = mnist.train.images[:3000].astype(np.float64)
    assert images.double().mean() == pytest.approx(real.mean(), rel=0.1)
    # The edges are as soft as those of MNIST.
    assert float(((images > 0) & (images < 255)).double().mean()) == pytest.approx(
        ((real > 0) & (real < 255)).mean(), rel=0.35
    )


def test_no_two_drawings_are_alike(sample):
    flat = sample[0].flatten(1)[:1000]
    distance = torch.cdist(flat, flat).fill_diagonal_(torch.inf)
    assert distance.min() > 100


def test_a_curve_passes_through_its_points_and_has_corners_where_there_is_a_star():
    drawing = "0,0 40,30 80,0* 80,100 / 10,50 60,50"
    points = torch.tensor([[0, 0], [40, 30], [80, 0], [80, 100], [10, 50], [60, 50]]) / 100
    pieces, strokes = drawn._pieces(drawing)
    assert pieces == [[0, 1, 2], [2, 3], [4, 5]]
    assert strokes == [0, 0, 0, 0, 1, 1]
    path = torch.cat(drawn._curves(pieces, points)) @ points
    assert len(path) <= drawn.SAMPLES
    assert torch.cdist(points, path).min(dim=1).values.max() < 0.03
    # The stem after the corner and the separate bar are straight.
    stem = path[(path[:, 0] - 0.8).abs() < 1e-5]
    assert stem[:, 1].min() == pytest.approx(0, abs=1e-5)
    assert stem[:, 1].max() == pytest.approx(1, abs=1e-5)
    bar = path[((path[:, 1] - 0.5).abs() < 1e-5) & (path[:, 0] < 0.7)]
    assert bar[:, 0].min() == pytest.approx(0.1, abs=1e-5)


def test_between_points_of_a_parabola_the_curve_is_the_parabola():
    points = torch.tensor([[0.0, 0.0], [1, 1], [2, 4], [3, 9]])
    path = torch.cat(drawn._curves([[0, 1, 2, 3]], points)) @ points
    inner = path[(path[:, 0] >= 1) & (path[:, 0] <= 2)]
    assert len(inner) > 5
    torch.testing.assert_close(inner[:, 1], inner[:, 0] ** 2, rtol=0, atol=1e-4)


def test_the_distance_from_a_line_is_the_geometric_one():
    samples = 200
    path = torch.stack([torch.full((samples,), 9.3), torch.linspace(-20, 50, samples)], dim=1)[None]
    lengths = torch.full((1, samples), 70 / (samples - 1))
    distance = drawn._distance(path, lengths)[0]
    expected = (torch.arange(28.0) - 9.3).abs().expand(28, 28)
    near = expected < 4
    assert torch.allclose(distance[near], expected[near], atol=0.02)


def test_a_corner_has_as_much_ink_as_a_straight_stroke():
    skeletons = drawn._Skeletons([("10,10 90,10* 90,90",)])
    path = skeletons.paths @ skeletons.points[:, 0] * 28
    distance = drawn._distance(path, drawn._lengths(path, skeletons.joined))[0]
    assert distance[3, 14] < 0.3
    assert distance[3, 25] < 0.6


def test_strokes_are_not_joined():
    skeletons = drawn._Skeletons([("0,20 100,20 / 0,80 100,80",)])
    path = skeletons.paths @ skeletons.points[:, 0]
    lengths = drawn._lengths(path, skeletons.joined)
    assert float(lengths.sum()) == pytest.approx(2, abs=1e-4)
    assert lengths[~skeletons.used].sum() == 0


def test_a_pen_that_is_pressed_draws_as_much_thicker_as_it_says(monkeypatch):
    monkeypatch.setattr(drawn, "RADIUS", (np.log(2), 0.0))
    monkeypatch.setattr(drawn, "BROKEN", 0)
    samples = drawn.SAMPLES
    path = torch.stack([torch.zeros(samples), torch.linspace(0, 1, samples)], dim=1)[None]
    lengths = drawn._lengths(path, torch.ones(1, samples - 1))
    for pressure in (-0.5, 0, 0.5):
        monkeypatch.setattr(drawn, "_pressure", lambda count, generator, p=pressure: torch.full((1, samples), float(p)))
        framed, weights, radius = drawn._framed(path, lengths, torch.ones(1, samples, dtype=torch.bool), generator())
        # On the stroke's middle row, the distance is that of the pen's edge as far out as the stroke is thick.
        edge = 2 * (1 + pressure)
        distance = drawn._distance(framed + torch.tensor([edge - round(edge), 0]), weights)[0, 14]
        assert float(distance[14 - round(edge)]) == pytest.approx(float(radius), abs=0.05)


def test_gaps_interrupt_some():
    lengths = torch.ones(2000, drawn.SAMPLES)
    gaps = (drawn._interrupted(lengths, generator()) == 0).sum(dim=1)
    assert float((gaps > 0).float().mean()) == pytest.approx(drawn.BROKEN, abs=0.02)
    assert gaps.max() < drawn.GAP[1]


def test_both_drawings_of_a_form_have_the_same_points():
    for digit, forms in DRAWINGS.items():
        assert len(digit) == 1
        for name, pair in forms.items():
            first, second = (re.sub(r"-?\d+,-?\d+", "point", drawing) for drawing in pair)
            assert first == second, (digit, name)
            assert len(pair) == 2


def test_each_digit_has_forms_of_other_countries():
    assert set(DRAWINGS) == set("0123456789")
    assert all(len(forms) >= 6 for forms in DRAWINGS.values())


def test_strokes_at_random_are_drawn_as_digits_are(sample):
    strokes = draw_strokes(2000, generator())
    assert strokes.shape == (2000, 1, 28, 28)
    assert torch.equal(draw_strokes(20, generator(5)), draw_strokes(20, generator(5)))
    assert strokes.min() == 0
    assert strokes.max() == 255
    digits = sample[0]
    for measure in (lambda images: (images > 0).float(), lambda images: images):
        assert float(measure(strokes).mean()) == pytest.approx(float(measure(digits).mean()), rel=0.25)
    along = torch.arange(28.0)
    mass = strokes.sum(dim=(1, 2, 3))
    centre = strokes.sum(dim=(1, 2)) @ along / mass
    assert centre.mean() == pytest.approx(14, abs=0.15)


def test_few_random_strokes_resemble_a_digit(sample):
    """They are farther from the drawn digits than other drawn digits are."""
    digits, strokes = sample[0].flatten(1) / 255, draw_strokes(300, generator()).flatten(1) / 255
    others = draw_digits(300, generator(8))[0].flatten(1) / 255
    nearest = [float(torch.cdist(images, digits).amin(dim=1).median()) for images in (strokes, others)]
    assert nearest[0] > 1.1 * nearest[1]
