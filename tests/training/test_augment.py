"""Augmentation of the training images."""

import pytest
import torch
from msgspec import structs

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.training import augment, loop
from mnist_edge.training.drawn import draw_digits
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
        augmented = augment.augment_batch(images, torch.Generator().manual_seed(0), clean=clean)
        return (augmented != images).flatten(1).any(dim=1)

    assert changed(clean=False).sum() == augment.DISTORTED * 200
    assert not changed(clean=True).any()


def test_the_last_part_of_a_training_is_clean(small, monkeypatch):
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], epochs=2, batch_size=128)
    told = []

    def augment_batch(images, generator, *, clean):
        told.append(clean)
        return images

    monkeypatch.setattr(loop, "augment_batch", augment_batch)
    training = loop.Training(subset(small, 1280, 100), Architecture.CNN_NANO, recipe)
    training.run_epoch()
    training.run_epoch()
    assert told == [False] * 16 + [True] * 4


@pytest.mark.parametrize(("batch_size", "batches_of_portions"), [(64, [8, 8, 2]), (300, [1, 1, 1, 1]), (5000, [1])])
def test_batches_of_a_portion_have_places_all_over_it(small, monkeypatch, batch_size, batches_of_portions):
    def with_places(images, generator, *, clean):
        images = images.clone()
        images[:, 0, 0, 0] = torch.arange(len(images))
        return images

    monkeypatch.setattr(loop, "AT_ONCE", 512)
    monkeypatch.setattr(loop, "augment_batch", with_places)
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], batch_size=batch_size, calibration_split=0)
    training = loop.Training(subset(small, 1100, 100), Architecture.CNN_NANO, recipe)
    batches = list(training._prepared(torch.randperm(1100)))
    assert len(batches) == sum(batches_of_portions)
    several = [count for count in batches_of_portions for _ in range(count)]
    for (images, labels, outliers), count in zip(batches, several, strict=True):
        assert set(images[:, 0, 0, 0].diff().tolist()) == {count}
        assert len(images) == len(labels) <= batch_size
        assert not len(outliers)
    # Every image once, with its label: ink and label together are as unique as the images.
    seen = sorted(pair for images, labels, _ in batches for pair in _ink_and_label(images, labels))
    assert seen == sorted(_ink_and_label(training._images.float(), training._labels))


def _ink_and_label(images, labels):
    return list(zip(images[:, 0, 1:].sum(dim=(1, 2)).tolist(), labels.tolist(), strict=True))


@pytest.mark.parametrize("clean", [False, True])
def test_a_share_of_every_batch_becomes_poor_scans(monkeypatch, clean):
    images = torch.rand(200, 1, 28, 28) * 255
    monkeypatch.setattr(augment, "scan", lambda images, generator: torch.full_like(images, -1))
    augmented = augment.augment_batch(images, torch.Generator().manual_seed(0), clean=clean)
    assert (augmented == -1).all(dim=(1, 2, 3)).sum() == augment.SCANNED * 200


def test_drawn_digits_take_the_place_of_a_share():
    images, labels = torch.full((250, 1, 28, 28), -1.0), torch.full((250,), -1)
    digits = torch.arange(10) + 20  # labels of a data set in which digits come late
    mixed, answers = augment.mix_in_drawn(images, labels, 0.1, digits, torch.Generator().manual_seed(0))
    drawn = (mixed >= 0).all(dim=(1, 2, 3))
    assert drawn.sum() == 25
    assert torch.equal(drawn, answers >= 20)
    assert {int(place) // 50 for place in drawn.nonzero()} == set(range(5))  # every part of the batch has some
    generator = torch.Generator().manual_seed(0)
    assert augment.share_of(250, 0.1, generator) == 25
    places = torch.randperm(250, generator=generator)[:25]
    expected, which = draw_digits(25, generator)
    assert torch.equal(mixed[places], expected)
    assert torch.equal(answers[places], which + 20)
    assert (images == -1).all()
    assert torch.equal(augment.mix_in_drawn(images, labels, 0.0, digits, torch.Generator())[0], images)


def test_small_batches_have_their_share_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    counts = [augment.share_of(8, 0.05, generator) for _ in range(2000)]
    assert set(counts) == {0, 1}
    assert sum(counts) / len(counts) == pytest.approx(0.4, abs=0.05)
    assert augment.share_of(0, 0.5, generator) == 0
