"""Poor scans of the training images."""

import pytest
import torch

from mnist_edge.training import scans

pytestmark = pytest.mark.numeric


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images(small):
    return torch.tensor(small.train.images[:1000, None]).float() / 255


def changed(kind, images):
    return kind(images.clone(), generator()).clamp(0, 1)


def test_the_same_state_gives_the_same_scans(images):
    white = images * 255
    first = scans.scan(white, generator(1))
    assert torch.equal(first, scans.scan(white, generator(1)))
    assert not torch.equal(first, scans.scan(white, generator(2)))
    assert torch.equal(white, images * 255)
    assert first.shape == white.shape
    assert first.min() == 0
    assert first.max() == 255
    assert scans.scan(white[:0], generator()).shape == (0, 1, 28, 28)


def test_every_image_gets_one_kind_and_no_kind_is_left_out_of_small_batches(images, monkeypatch):
    marks = [lambda part, generator, mark=mark: torch.full_like(part, mark / 10) for mark in range(1, 6)]
    monkeypatch.setattr(scans, "KINDS", tuple(marks))

    def kinds_of(count, seed):
        return scans.scan(images[:count] * 255, generator(seed)).div(25.5).round().amax(dim=(1, 2, 3)).tolist()

    assert {kind: kinds_of(100, 0).count(kind) for kind in range(1, 6)} == dict.fromkeys(range(1, 6), 20)
    assert {kind for seed in range(60) for kind in kinds_of(1, seed)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("kind", scans.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_changes_images_and_leaves_a_digit_to_see(images, kind):
    before, after = images.flatten(1), changed(kind, images).flatten(1)
    assert after.isfinite().all()
    assert (after != before).any(dim=1).float().mean() > 0.5
    assert (after.amax(dim=1) - after.amin(dim=1)).min() > 0.1


def test_noise_is_on_dark_or_lighter_paper(images):
    after = changed(scans.noisy, images)
    corners = after[:, :, :2, :2].flatten(1).mean(dim=1)  # digits hardly reach them
    hazy = corners > 0.5 * scans.HAZE
    assert hazy.float().mean() == pytest.approx(0.25, abs=0.06)  # half of the hazy half
    assert (corners < 0.5 * scans.NOISE).float().mean() > 0.45  # the others only have noise
    assert after[hazy][:, :, :2, :2].flatten(1).std(dim=1).mean() == pytest.approx(scans.NOISE / 2, rel=0.2)


def test_salt_and_pepper_replace_up_to_their_share(images):
    after = changed(scans.peppered, images)
    touched = (after != images).flatten(1)
    assert ((after == images) | (after == 0) | (after == 1)).all()
    assert touched.float().mean(dim=1).max() < scans.SALT


def test_clouds_and_faint_ink_lower_the_contrast_but_not_below_their_limits(images):
    for kind, lowest in ((scans.clouded, 1 / (1 + scans.FOG)), (scans.faint, scans.FAINTEST)):
        step = (changed(kind, images * 0.5 + 0.5) - changed(kind, images * 0.5)).flatten(1)  # a step of 0.5 in the ink
        assert step.amin() >= 0.5 * lowest - 1e-5
        assert step.amax() <= 0.5 + 1e-5
        assert step.mean() < 0.45


def test_bands_are_inverted(images):
    after = changed(scans.banded, images)
    inverted = after == 1 - images
    torch.testing.assert_close(after[~inverted], images[~inverted], rtol=0, atol=0)
    share = inverted.flatten(1).float().mean(dim=1)
    assert share.min() > 0.01
    assert share.max() < 0.9


def test_outlines_are_hollow():
    thick = torch.zeros(200, 1, 28, 28)
    thick[:, :, 8:20, 8:20] = 1
    after = changed(scans.outlined, thick)
    assert (after[:, :, 12:16, 12:16] == 0).all()
    assert (after[:, :, 14, 7:10].amax(dim=2) == 1).all()


def test_scratches_and_blots_are_of_ink_or_erased(images):
    for kind in (scans.scratched, scans.blotted):
        after = changed(kind, images)
        more = (after >= images - 1e-6).flatten(1).all(dim=1)
        less = (after <= images + 1e-6).flatten(1).all(dim=1)
        assert (more | less).all()
        assert more.float().mean() > 0.4
        assert less.float().mean() > 0.2
        assert ((after - images).abs().flatten(1) > 0.5).float().mean(dim=1).max() < 0.6


def test_speckles_grow_with_the_brightness(images):
    bright, less = (scans.speckled(torch.full_like(images, level), generator()) - level for level in (0.9, 0.6))
    assert float(bright.std()) == pytest.approx(1.5 * float(less.std()), rel=1e-3)
    dark = scans.speckled(torch.zeros(500, 1, 28, 28), generator()).flatten(1)
    assert ((dark == 0).all(dim=1)).float().mean() == pytest.approx(0.5, abs=0.1)
