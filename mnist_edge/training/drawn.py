"""Drawn images: digits made of the `skeletons`, each as another writer with another pen would draw it, and strokes.

A curve through the points of a skeleton is linear in the points, so one matrix a form turns points into a path, and a
batch is drawn by matrix products. The ink comes from the path without a loop either: a sum of Gaussians along a line
depends only on the distance from the line, so the sum tells the distance (`_distance`).
"""

import functools
import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.training.skeletons import DRAWINGS, STROKES

SAMPLES: Final = 72
"""Points along a path. The longest, of an 8, have about 100 pixels; `SPREAD` allows a point every two."""

SPREAD: Final = 0.9
"""Standard deviation of the Gaussians along a path, in pixels."""

BOX: Final = 20
"""MNIST's digits fill 20 pixels in their longer direction; their centre of mass lies at pixel 14, counted from 0."""


# How far writers differ: uniformly between two values, or normally with a mean and a standard deviation.

BETWEEN: Final = (-0.15, 1.15)
"""Uniform, a stroke: the place between a form's two drawings; beyond 0 and 1 it goes further than either."""

JITTER: Final = 0.028
"""Normal, a point: its displacement, as a share of the height."""

CARE: Final = (0.3, 1.7)
"""Uniform, a digit: multiplies `JITTER`."""

SLANT: Final = (0.08, 0.22)
"""Normal: the tangent of the slant to the right. By their moments, MNIST's own digits have 0.12 ± 0.28."""

TURN: Final = math.radians(5)
"""Normal: rotation."""

BREADTH: Final = (0.7, 1.2)
"""Uniform: the width relative to the skeleton's."""

BEND: Final = 0.12
"""Normal: how far the middle lies to the side of a line from top to bottom, as a share of the height."""

BALANCE: Final = 0.08
"""Normal: how far the middle lies below its place, as a share of the height."""

RADIUS: Final = (math.log(1.25), 0.25)
"""Normal, the logarithm of the pen's radius in pixels. MNIST's strokes are two to four pixels wide."""

PRESSURE: Final = 0.25
"""Normal: how far the radius differs between the ends of a path, as a share."""

SOFTNESS: Final = (0.8, 1.8)
"""Uniform: the width of the edge between ink and paper, in pixels."""

BROKEN: Final = 0.06
"""The share of digits whose path has a gap."""

GAP: Final = (2, 5)
"""Length of a gap in points of the path, the upper end excluded."""


class _Skeletons:
    """Skeletons as tensors. F skeletons; K points, the most of any; P = `SAMPLES`."""

    def __init__(self, skeletons: Sequence[tuple[str, ...]]) -> None:
        """Read skeletons.

        Args:
            skeletons: of each skeleton its drawings, all with the same points.
        """
        count, longest = len(skeletons), max(len(_points(drawings[0])) for drawings in skeletons)
        self.points = torch.zeros(count, len(skeletons[0]), longest, 2)
        """All drawings of each skeleton, [F, drawings, K, 2], in shares of the height."""
        self.strokes = torch.zeros(count, longest, dtype=torch.long)
        """The number of the stroke that a point belongs to, [F, K]."""
        self.paths = torch.zeros(count, SAMPLES, longest)
        """Turns points into paths, [F, P, K]."""
        self.used = torch.zeros(count, SAMPLES, dtype=torch.bool)
        """Whether a sample belongs to the path, which may be shorter than others, [F, P]."""
        self.joined = torch.zeros(count, SAMPLES - 1)
        """1 where a sample and the next one belong to the same stroke, [F, P - 1]."""
        for index, texts in enumerate(skeletons):
            drawings = torch.stack([torch.tensor(_points(text)) for text in texts]) / 100
            used = drawings.shape[1]
            self.points[index, :, :used] = drawings
            pieces, strokes = _pieces(texts[0])
            self.strokes[index, :used] = torch.tensor(strokes)
            curves = _curves(pieces, drawings.mean(dim=0))
            matrix = torch.cat(curves)
            self.paths[index, : len(matrix), :used] = matrix
            self.used[index, : len(matrix)] = True
            stroke = torch.cat(
                [torch.full((len(curve),), strokes[piece[0]]) for piece, curve in zip(pieces, curves, strict=True)]
            )
            self.joined[index, : len(matrix) - 1] = (stroke[1:] == stroke[:-1]).float()


def _points(drawing: str) -> list[list[float]]:
    return [[float(number) for number in word.strip("*").split(",")] for word in drawing.split() if word != "/"]


def _pieces(drawing: str) -> tuple[list[list[int]], list[int]]:
    """The smooth pieces of a drawing as lists of points' numbers, and the number of the stroke of every point.

    A corner is the last point of one piece and the first of the next.
    """
    pieces: list[list[int]] = []
    strokes: list[int] = []
    for stroke, text in enumerate(drawing.split("/")):
        pieces.append([])
        for word in text.split():
            number = len(strokes)
            strokes.append(stroke)
            pieces[-1].append(number)
            if word.endswith("*"):
                pieces.append([number])
    return [piece for piece in pieces if len(piece) > 1], strokes


def _curves(pieces: list[list[int]], points: Tensor) -> list[Tensor]:
    """For each piece the matrix, [samples, points], from all points to samples of its curve, nearly evenly spaced.

    The curves are those of Catmull and Rom (1974), which pass through the points: between b and c, with a before and d
    after them, (2b + (c - a)t + (2a - 5b + 4c - d)t² + (3b - a - 3c + d)t³) / 2.
    """
    lengths = [float((points[piece[1:]] - points[piece[:-1]]).norm(dim=1).sum()) for piece in pieces]
    curves = []
    for piece, length in zip(pieces, lengths, strict=True):
        identity = torch.eye(len(points))[piece]
        # Beyond either end the curve would go on as it came.
        ends = 2 * identity[:1] - identity[1:2], 2 * identity[-1:] - identity[-2:-1]
        a_to_d = torch.cat([ends[0], identity, ends[1]])
        spans = (points[piece[1:]] - points[piece[:-1]]).norm(dim=1)
        marks = torch.cat([torch.zeros(1), spans.cumsum(0)])
        samples = max(3, int(length / sum(lengths) * (SAMPLES - 3 * len(pieces))) + 2)
        along = torch.linspace(0, float(marks[-1]), samples)
        span = torch.bucketize(along, marks[1:-1], right=True)
        t = ((along - marks[span]) / spans[span].clamp(min=1e-6))[:, None]
        a, b, c, d = (a_to_d[span + offset] for offset in range(4))
        curves.append((2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2)
    return curves


@functools.cache
def _digits() -> tuple[_Skeletons, Tensor]:
    """The forms of all digits, ordered by digit, and the number of forms of each, int64 [10]."""
    forms = [pair for digit in sorted(DRAWINGS) for pair in DRAWINGS[digit].values()]
    return _Skeletons(forms), torch.tensor([len(DRAWINGS[digit]) for digit in sorted(DRAWINGS)])


@functools.cache
def _strokes() -> _Skeletons:
    return _Skeletons([(drawing,) for drawing in STROKES])


def draw_digits(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw random digits, preprocessed as MNIST's are.

    Every digit is as frequent as any other, and so is every form of a digit.

    Args:
        count: how many.
        generator: on the CPU; the same state gives the same images.

    Returns:
        The images, float32 [count, 1, 28, 28] within 0…255, background zero, and the digits, int64 [count].

    Example:
        >>> import torch
        >>> from mnist_edge.training.drawn import draw_digits
        >>> images, digits = draw_digits(5, torch.Generator().manual_seed(0))
        >>> images.shape
        torch.Size([5, 1, 28, 28])
    """
    forms, counts = _digits()
    digits = torch.randint(10, (count,), generator=generator)
    number = (torch.rand(count, generator=generator) * counts[digits]).long()
    chosen = (counts.cumsum(0) - counts)[digits] + number
    first, second = forms.points[chosen].unbind(dim=1)
    between = _uniform(BETWEEN, (count, first.shape[1]), generator).gather(1, forms.strokes[chosen])
    return _draw(forms, chosen, first.lerp(second, between[..., None]), generator), digits


def draw_strokes(count: int, generator: torch.Generator) -> Tensor:
    """Draw strokes at random, with the pens of `draw_digits` and preprocessed in the same way.

    Some resemble letters, and few resemble a digit.

    Args:
        count: how many images.
        generator: on the CPU; the same state gives the same images.

    Returns:
        The images, float32 [count, 1, 28, 28] within 0…255, background zero.
    """
    kinds = _strokes()
    chosen = torch.randint(len(STROKES), (count,), generator=generator)
    points = torch.rand(count, kinds.points.shape[2], 2, generator=generator)
    return _draw(kinds, chosen, points, generator)


def _draw(skeletons: _Skeletons, chosen: Tensor, points: Tensor, generator: torch.Generator) -> Tensor:
    """Images of the chosen skeletons, [n], with these points, [n, K, 2], in shares of the height."""
    path = skeletons.paths[chosen] @ _written(points, generator)
    lengths = _lengths(path, skeletons.joined[chosen])
    return _ink(*_framed(path, lengths, skeletons.used[chosen], generator), generator).unsqueeze(1) * WHITE


def _uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (bounds[1] - bounds[0]) + bounds[0]


def _written(points: Tensor, generator: torch.Generator) -> Tensor:
    """Points, [n, K, 2], as one writer sets them: unsteady, narrow or wide, slanted, turned and bent."""
    count = len(points)
    care = _uniform(CARE, (count, 1, 1), generator)
    points = points + torch.randn(points.shape, generator=generator) * JITTER * care
    slant, turn, bend, balance = torch.randn(4, count, 1, generator=generator)
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    x = x * _uniform(BREADTH, (count, 1), generator)
    arc = 1 - 4 * y**2  # 1 in the middle, 0 at top and bottom
    x, y = x + bend * BEND * arc, y + balance * BALANCE * arc
    x = x - y * (SLANT[0] + slant * SLANT[1])
    cos, sin = (turn * TURN).cos(), (turn * TURN).sin()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=2)


def _lengths(path: Tensor, joined: Tensor) -> Tensor:
    """The length of path that each sample stands for, [n, P]: half of the way to either neighbour in its stroke."""
    halves = path.diff(dim=1).norm(dim=2) * joined / 2
    return functional.pad(halves, (1, 0)) + functional.pad(halves, (0, 1))


def _framed(path: Tensor, lengths: Tensor, used: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Scale and move paths to where MNIST has its digits: path in pixels, weights, and radius of the pen, [n]."""
    count = len(path)
    radius = (RADIUS[0] + RADIUS[1] * torch.randn(count, generator=generator)).exp().clamp(0.6, 2.6)
    low = path.masked_fill(~used[..., None], math.inf).amin(dim=1)
    high = path.masked_fill(~used[..., None], -math.inf).amax(dim=1)
    scale = ((BOX - 2 * radius) / (high - low).amax(dim=1))[:, None]
    path, lengths = path * scale[..., None], _interrupted(lengths * scale, generator)
    pressure = _pressure(count, generator)
    mass = lengths * (1 + pressure)
    centre = (path * mass[..., None]).sum(dim=1, keepdim=True) / mass.sum(dim=1)[:, None, None]
    # The factor that makes the stroke thicker by the share that `pressure` says, by the formula of `_distance`.
    weights = lengths * (pressure * (1 + pressure / 2) * radius[:, None] ** 2 / SPREAD**2).exp()
    return path - centre + HEIGHT / 2, weights, radius


def _pressure(count: int, generator: torch.Generator) -> Tensor:
    """How much thicker or thinner the stroke is along the path, as a share, [n, P]."""
    ends = torch.randn(count, 2, generator=generator) * PRESSURE
    along = torch.linspace(-1, 1, SAMPLES)
    return (ends[:, :1] * along + ends[:, 1:] * along**2).clamp(-0.5, 0.5)


def _interrupted(lengths: Tensor, generator: torch.Generator) -> Tensor:
    """The lengths along the paths, [n, P], of which some get a gap."""
    count = len(lengths)
    start = torch.randint(SAMPLES, (count, 1), generator=generator)
    gap = torch.randint(*GAP, (count, 1), generator=generator)
    gap = gap * (torch.rand(count, 1, generator=generator) < BROKEN)
    place = torch.arange(SAMPLES)
    return lengths.masked_fill((place >= start) & (place < start + gap), 0)


def _ink(path: Tensor, weight: Tensor, radius: Tensor, generator: torch.Generator) -> Tensor:
    """The share of ink in every pixel, [n, 28, 28]."""
    softness = _uniform(SOFTNESS, (len(path), 1, 1), generator)
    distance = _distance(path, weight)
    return ((radius[:, None, None] - distance) / softness + 0.5).clamp(0, 1)


def _distance(path: Tensor, weight: Tensor) -> Tensor:
    """The distance of every pixel from a path in pixels, [n, 28, 28].

    The integral of exp(-r² / 2σ²) along a straight line at distance d is σ √(2π) exp(-d² / 2σ²), where σ is `SPREAD`.
    Weights sum up to the length of a path. Where lines meet, the ink runs together, as on paper.
    """
    across = torch.exp(-((torch.arange(WIDTH) - path[..., :1]) ** 2) / (2 * SPREAD**2))
    down = torch.exp(-((torch.arange(HEIGHT) - path[..., 1:]) ** 2) / (2 * SPREAD**2))
    integral = (down * weight[..., None]).mT @ across / (SPREAD * math.sqrt(2 * math.pi))
    squared = -2 * SPREAD**2 * integral.clamp(min=1e-12).log()
    return squared.clamp(min=0).sqrt()
