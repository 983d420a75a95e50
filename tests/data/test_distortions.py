"""The fixed distortions against the corruptions of the same names, in PyTorch, and against what they say they do."""

import hashlib
import itertools

import numpy as np
import pytest
import torch

from mnist_edge.data.distortions import DISTORTIONS
from tests import corruptions


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.test.images[:200]


@pytest.fixture(scope="module")
def ink(images):
    """The same images as PyTorch takes them: float32 [n, 1, 28, 28] within 0…1."""
    return torch.tensor(images).unsqueeze(1).float() / 255


def alternating(images):
    """-1, 1, -1 …"""
    return torch.tensor([-1.0, 1.0]).repeat(len(images) // 2)


def corrupted(kind, ink):
    """What docs/robustness.md calls so."""
    return corruptions.CORRUPTIONS[kind].apply(ink, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["rotation", "shrinking", "thicker", "thinner", "blur", "contrast"])
def test_it_is_what_pytorch_computes_for_the_kind_of_that_name(images, ink, kind, monkeypatch):
    monkeypatch.setattr(corruptions, "sign", lambda images, _: alternating(images))
    wanted = 255 * corrupted(kind, ink).squeeze(1).numpy()
    found = DISTORTIONS[kind].apply(images).astype(float)
    assert np.abs(found - wanted).max() <= (4 if kind in ("rotation", "shrinking", "blur") else 0.51)


def test_translation_moves_to_each_corner(images, ink, monkeypatch):
    moved = DISTORTIONS["translation"].apply(images)
    for index, (down, right) in enumerate([(4, 4), (4, -4), (-4, 4), (-4, -4)]):
        whole = np.roll(images[index], (down, right), axis=(0, 1))
        inner = whole[max(down, 0) : 28 + min(down, 0), max(right, 0) : 28 + min(right, 0)]
        assert np.array_equal(moved[index][max(down, 0) : 28 + min(down, 0), max(right, 0) : 28 + min(right, 0)], inner)
        assert moved[index].sum() == inner.sum()
    signs = itertools.cycle([torch.tensor([1.0, 1, -1, -1]), torch.tensor([1.0, -1, 1, -1])])
    monkeypatch.setattr(corruptions, "sign", lambda images, _: next(signs))
    same = {
        tuple((255 * image).round().byte().flatten().tolist())
        for one in (ink[index : index + 1].repeat(4, 1, 1, 1) for index in range(4))
        for image in corrupted("translation", one)
    }
    assert {tuple(image.flatten().tolist()) for image in moved[:4]} <= same


def test_noise_has_the_deviation_it_says():
    grey = np.full((300, 28, 28), 128, np.uint8)
    noise = DISTORTIONS["noise"].apply(grey).astype(float) - 128
    wanted = corrupted("gaussian noise", torch.full((300, 1, 28, 28), 128 / 255)).clamp(0, 1) * 255 - 128
    assert noise.std() == pytest.approx(float(wanted.std()), rel=0.03)  # clipped at two deviations
    assert abs(noise.mean()) < 1
    assert abs((noise[0] * noise[1]).mean()) < 300  # differs from image to image


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_any_number_of_images_of_any_brightness(kind):
    for count in (0, 1, 3):
        full = np.full((count, 28, 28), 255, np.uint8)
        before = full.copy()
        assert DISTORTIONS[kind].apply(full).dtype == np.uint8
        assert DISTORTIONS[kind].apply(full).shape == full.shape
        assert np.array_equal(full, before)
    assert not (kind != "noise" and DISTORTIONS[kind].apply(np.zeros((2, 28, 28), np.uint8)).any())


def test_equal_images_give_equal_bytes():
    """On every processor and with every version of numpy: no weight is rounded from within 1e-4 of a tie."""
    ramp = (np.arange(5 * 28 * 28) * 7 % 256).astype(np.uint8).reshape(5, 28, 28)
    content = b"".join(each.apply(ramp).tobytes() for each in DISTORTIONS.values())
    assert hashlib.sha256(content).hexdigest() == ("91f50f889c50d71c4e1c40e3e511f138fb26dfdf44b6f9a46aa4205dd3c1bbf5")
