"""Small modules as users write them, for the tests of exports. Each takes prepared images, [N, 1, 28, 28]."""

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.classify = nn.Linear(8 * 7 * 7, 10)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = (x + self.second(x)).relu()
        return self.classify(functional.avg_pool2d(x, 2).flatten(1))


class Branches(nn.Module):
    """Concatenated branches, one of them depthwise, and a ReLU6."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 5, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 4, 1)
        self.classify = nn.Linear(12 * 6 * 6, 10)

    def forward(self, x):
        x = functional.relu6(self.stem(x))
        x = torch.cat([self.depthwise(x), self.pointwise(x)], dim=1)
        return functional.log_softmax(self.classify(functional.max_pool2d(x, 2).flatten(1)), dim=1)


class Tanh(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(1, 6, 5, padding=2)
        self.hidden = nn.Linear(6 * 14 * 14, 32)
        self.classify = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.avg_pool2d(self.convolution(x).tanh(), 2)
        return self.classify(functional.leaky_relu(self.hidden(x.flatten(1))))


class Attention(nn.Module):
    """Attention over rows, with a matrix product of two activations."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(28, 32)
        self.query, self.key = nn.Linear(32, 32, bias=False), nn.Linear(32, 32, bias=False)
        self.norm = nn.LayerNorm(32)
        self.classify = nn.Linear(28 * 32, 10)

    def forward(self, x):
        x = self.embed(x.view(-1, 28, 28))
        attention = (self.query(x) @ self.key(x).transpose(1, 2)).softmax(dim=2)
        return self.classify(self.norm(attention @ x + x).flatten(1))


class Rows(nn.Module):
    """A convolution in one dimension, over the rows, and an LSTM."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(28, 16, 3)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.classify = nn.Linear(24, 10)

    def forward(self, x):
        x = self.convolution(x.squeeze(1)).relu().transpose(1, 2)
        start = torch.zeros(1, x.size(0), 24)
        return self.classify(self.lstm(x, (start, start))[0][:, -1])


class Counting(Rows):
    """Asks for the number of images in a way that a trace forgets."""

    def forward(self, x):
        x = self.convolution(x.squeeze(1)).relu().transpose(1, 2)
        start = torch.zeros(1, len(x), 24)
        return self.classify(self.lstm(x, (start, start))[0][:, -1])


class OnlyLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(28, 10, batch_first=True)

    def forward(self, x):
        return 9 * self.lstm(x.squeeze(1))[0][:, -1]


class Bessel(nn.Module):
    """A function that ONNX does not have."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(784, 10)

    def forward(self, x):
        return self.classify(torch.special.i1e(x.flatten(1)))


class Branching(nn.Module):
    """Looks at the values of its images."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(784, 10)

    def forward(self, x):
        logits = self.classify(x.flatten(1))
        return logits if logits.isfinite().all() else torch.zeros_like(logits)


class OneByOne(nn.Module):
    """Loops over the images, which no compiler keeps as a loop."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(784, 10)

    def forward(self, x):
        return torch.stack([self.classify(image.flatten()) for image in x])


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(784, 10)

    def forward(self, x):
        logits = self.classify(x.flatten(1))
        return logits + 1e-9 * torch.randn_like(logits)


class Conditional(nn.Module):
    """Branches in a way that torch exports, as a subgraph."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(784, 10)

    def forward(self, x):
        logits = self.classify(x.flatten(1))
        return torch.cond(logits.sum() < 1e9, lambda y: y + 0, lambda y: -y, (logits,))


class LeNet(nn.Module):
    """Channels and classes that are no multiples of four, an even kernel, a stride and padding on one side only."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 7, (4, 2), stride=(1, 2), padding=(2, 0))
        self.hidden, self.last = nn.Linear(7 * 5 * 2, 15), nn.Linear(15, 10)

    def forward(self, x):
        x = functional.max_pool2d(self.first(x).relu(), 2)
        x = functional.max_pool2d(self.second(x).relu(), 3)
        return self.last(self.hidden(x.flatten(1)).relu())


class Leaky(nn.Module):
    """Bytes with zero points, and tables; a tanh of sums."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Conv2d(8, 9, 3, padding=1)
        self.hidden, self.last = nn.Linear(9 * 7 * 7, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.leaky_relu(self.first(x), 0.1), 2)
        x = self.second(x).tanh()
        return self.last(self.hidden(x.flatten(1)).tanh())


class Falling(nn.Module):
    """A function of bytes that falls before it rises, and layers without a bias."""

    def __init__(self):
        super().__init__()
        self.first, self.hidden = nn.Conv2d(1, 4, 9, stride=3, bias=False), nn.Linear(4 * 7 * 7, 9)
        self.last = nn.Linear(9, 10, bias=False)

    def forward(self, x):
        x = functional.hardswish(self.first(x))
        return self.last(self.hidden(x.flatten(1)).relu())


class OnlyLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.only = nn.Linear(784, 10)

    def forward(self, x):
        return self.only(x.flatten(1))


class FallingSums(Falling):
    def forward(self, x):
        return self.last(functional.hardswish(self.hidden(self.first(x).relu().flatten(1))))


class Softmax(OnlyLinear):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)
