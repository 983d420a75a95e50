"""Augmentation of the training images."""

import pytest
import torch
from msgspec import structs

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.training import augment, loop
from mnist_edge.training.recipes import RECIPES
from tests.helpers import subset

pytestmark = pytest.mark.numeric


def test_moving_loses_no_ink_to_speak_of(small, monkeypatch):
    monkeypatch.setattr(augment, "SHARES", {})
    images = torch.tensor(small.train.images[:200, None]).float()
    moved = augment.distort(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.min() >= 0
    assert moved.max() <= 255.001
    assert (moved != images).flatten(1).any(dim=1).all()
    ratio = moved.sum(dim=(1, 2, 3)) / images.sum(dim=(1, 2, 3))
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4
    assert ratio.mean() == pytest.approx(1, abs=0.05)

    def centre(batch):
        mass = batch.sum(dim=(1, 2, 3))
        return torch.stack(
            [
                (batch.sum(dim=2).squeeze(1) @ torch.arange(28.0)) / mass,
                (batch.sum(dim=3).squeeze(1) @ torch.arange(28.0)) / mass,
            ]
        )

    shift = centre(moved) - centre(images)
    assert shift.abs().max() < augment.SHIFT + 1
    assert shift.mean().abs() < 0.3
    assert shift.std() == pytest.approx(augment.SHIFT / 3**0.5, rel=0.2)


def test_some_are_changed_besides(small):
    images = torch.tensor(small.train.images[:1000, None]).float()
    generator = torch.Generator().manual_seed(0)
    thick, fine = augment.thicken(images, generator), augment.thin(images, generator)
    assert (thick >= images).all()
    assert (fine <= images).all()
    assert (fine.amax(dim=(1, 2, 3)) > 60).all()  # no stroke vanishes
    assert thick.mean() > 1.2 * images.mean()
    assert fine.mean() < 0.8 * images.mean()

    full = torch.full_like(images, 255.0)
    erased = (augment.erase(full, generator) == 0).flatten(1)
    assert erased.sum(dim=1).min() >= augment.PATCH[0] ** 2
    assert erased.sum(dim=1).max() <= (augment.PATCH[1] - 1) ** 2
    assert erased.view(-1, 28, 28)[:, 1:-1, 1:-1].any(dim=0).all()  # patches can be anywhere


def test_the_rest_stays_as_it_is(small, monkeypatch):
    images = torch.rand(200, 1, 28, 28) * 255
    monkeypatch.setattr(augment, "warp", lambda batch, **amounts: batch)
    changed = (augment.distort(images, torch.Generator().manual_seed(0)) != images).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(sum(augment.SHARES.values()), abs=0.001)


def test_half_of_a_batch_is_distorted_until_the_clean_phase(monkeypatch):
    images = torch.rand(200, 1, 28, 28) * 255
    monkeypatch.setattr(augment, "scan", lambda images, generator: images)

    def changed(*, clean):
        clear, poor = augment.augment_batch(images, torch.Generator().manual_seed(0), clean=clean)
        assert len(poor) == augment.SCANNED * 200
        return (torch.cat([clear, poor]) != images).flatten(1).any(dim=1)

    assert changed(clean=False).sum() == augment.DISTORTED * 200
    assert not changed(clean=True).any()


def test_the_last_part_of_a_training_is_clean(small, monkeypatch):
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], epochs=2, batch_size=128)
    told = []

    def augment_batch(images, generator, *, clean):
        told.append(clean)
        return images, images[:0]

    monkeypatch.setattr(loop, "augment_batch", augment_batch)
    training = loop.Training(subset(small, 1280, 100), Architecture.CNN_NANO, recipe)
    training.run_epoch()
    training.run_epoch()
    assert told == [False] * 16 + [True] * 4


def test_poor_scans(small):
    images = torch.tensor(small.train.images[:1000, None]).float()
    scans = augment.scan(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(scans, augment.scan(images, torch.Generator().manual_seed(0)), rtol=0, atol=0)
    assert scans.min() == 0
    assert scans.max() == 255
    corners = scans[:, :, :2, :2].flatten(1).mean(dim=1)  # digits hardly reach them
    assert (corners > 0.5 * augment.HAZE * 255).float().mean() == pytest.approx(0.25, abs=0.06)  # half of the hazy half
    assert (corners < 0.5 * augment.NOISE * 255).float().mean() > 0.45  # the others only have noise
    middle = scans[corners > 0.5 * augment.HAZE * 255][:, :, :2, :2].flatten(1)  # too bright for clipped noise
    assert middle.std(dim=1).mean() == pytest.approx(augment.NOISE / 2 * 255, rel=0.2)


def test_clean_images_are_normalised_as_if_there_were_no_scans(small, monkeypatch):
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], epochs=2, batch_size=64, autocast=False)

    def after_one_step(more_ink):
        training = loop.Training(subset(small, 1280, 100), Architecture.CNN_NANO, recipe)
        training.run_epoch()  # running statistics start far off
        training._model.train()
        with monkeypatch.context() as patch:
            patch.setattr(augment, "scan", lambda images, generator: images + more_ink)
            training._step(torch.arange(64))
        return training._model

    mild, wild = after_one_step(more_ink=0), after_one_step(more_ink=100)
    for one, other in zip(mild.buffers(), wild.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(mild.classifier.weight, wild.classifier.weight)  # the scans still affect the weights
