"""Networks for MNIST as tutorials write them, in plain torch: what people bring to `import` and `train --model`."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


class SimpleNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, 10)

    def forward(self, x):
        x = x.view(-1, 784)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class SigmoidNet(nn.Module):
    """Takes flattened images, [N, 784]."""

    def __init__(self):
        super().__init__()
        self.linear1 = nn.Linear(784, 64)
        self.linear2 = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear2(torch.sigmoid(self.linear1(x)))


class DropoutNet(nn.Module):
    """Two convolutions, a pool, two dropouts and two linear layers, as in PyTorch's own example."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3)
        self.conv2 = nn.Conv2d(16, 32, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32 * 12 * 12, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(self.dropout1(x), 1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)
        )

    def forward(self, x):
        return self.classifier(self.features(x).view(x.size(0), -1))


class BatchNormMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.bn1 = nn.BatchNorm1d(256)
        self.fc2 = nn.Linear(256, 128)
        self.bn2 = nn.BatchNorm1d(128)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(128, 10)

    def forward(self, x):
        x = x.reshape(x.shape[0], -1)
        x = self.drop(F.relu(self.bn1(self.fc1(x))))
        x = self.drop(F.relu(self.bn2(self.fc2(x))))
        return self.out(x)


class SequentialNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 10),
        )


class SoftmaxMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1))

    def forward(self, x):
        return self.layers(x)


class ConvSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 24, 5, stride=2)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(24 * 6 * 6, 10)

    def forward(self, x):
        x = self.pool(F.leaky_relu(self.conv(x), 0.1))
        return F.softmax(self.fc(x.flatten(1)), dim=-1)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = ResidualBlock(8, 8)
        self.layer2 = ResidualBlock(8, 16, stride=2)
        self.layer3 = ResidualBlock(16, 32, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def depthwise_separable(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(inplace=True),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)
        )
        self.blocks = nn.Sequential(
            depthwise_separable(16, 32, stride=1),
            depthwise_separable(32, 48, stride=2),
            depthwise_separable(48, 64, stride=1),
        )
        self.classifier = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(self.stem(x))
        x = x.mean([2, 3])
        return self.classifier(x)


class Inception(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.branch1 = nn.Conv2d(inputs, 8, 1)
        self.branch3 = nn.Sequential(nn.Conv2d(inputs, 8, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1))
        self.branch5 = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(inputs, 4, 1))

    def forward(self, x):
        branches = [self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)]
        return F.relu(torch.cat(branches, 1))


class DenseBlock(nn.Module):
    def __init__(self, inputs, growth, layers):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs + number * growth, growth, 3, padding=1) for number in range(layers)
        )

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], dim=1)
        return x


class ConcatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.inception = Inception(16)
        self.dense = DenseBlock(32, growth=8, layers=3)
        self.fc = nn.Linear(56, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.max_pool2d(self.inception(x), 2)
        x = F.adaptive_max_pool2d(self.dense(x), 1)
        return self.fc(x.squeeze(-1).squeeze(-1))


class ModernActivations(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.SiLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1),
            nn.Hardswish(),
        )
        self.fc1 = nn.Linear(32 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.flatten(self.net(x), start_dim=1)
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class GroupNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(8, 32)
        self.norm3 = nn.LayerNorm(32 * 7 * 7)
        self.fc = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x):
        x = F.elu(self.norm1(self.conv1(x)))
        x = F.elu(self.norm2(self.conv2(x)))
        return self.fc(self.norm3(x.view(x.size(0), -1)))


class VisionTransformer(nn.Module):
    """Patches of 7×7, a class token, learned positions, and torch's own encoder with two heads."""

    def __init__(self, dim=64, depth=2, heads=2):
        super().__init__()
        self.patches = nn.Conv2d(1, dim, kernel_size=7, stride=7)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, dim_feedforward=128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=depth)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.encoder(x + self.pos_embedding)
        return self.head(x[:, 0])


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attention = (q @ k.transpose(-2, -1)) * (dim // self.heads) ** -0.5
        x = (attention.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, tokens, dim)
        return self.proj(x)


class PatchAttention(nn.Module):
    """Patches of 4×4 and attention written out, with two heads."""

    def __init__(self, dim=48):
        super().__init__()
        self.embed = nn.Linear(16, dim)
        self.position = nn.Parameter(torch.randn(49, dim) * 0.02)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 96), nn.GELU(), nn.Linear(96, dim))
        self.head = nn.Linear(49 * dim, 10)

    def forward(self, x):
        x = x.view(-1, 7, 4, 7, 4).permute(0, 1, 3, 2, 4).reshape(-1, 49, 16)
        x = self.embed(x) + self.position
        x = x + self.attention(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(x.flatten(1))


class RowLSTM(nn.Module):
    def __init__(self, hidden_size=64, num_layers=1):
        super().__init__()
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.lstm = nn.LSTM(28, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, 10)

    def forward(self, x):
        x = x.reshape(-1, 28, 28)
        h0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size).to(x.device)
        c0 = torch.zeros(self.num_layers, x.size(0), self.hidden_size).to(x.device)
        out, _ = self.lstm(x, (h0, c0))
        return self.fc(out[:, -1, :])


class NormBeforeConv(nn.Module):
    """Batch normalisation at the input and between activation and convolution, where the padding is in the way."""

    def __init__(self):
        super().__init__()
        self.norm0 = nn.BatchNorm2d(1)
        self.conv0 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 32, 3, stride=2, padding=1)
        self.fc = nn.Linear(32 * 3 * 3, 10)

    def forward(self, x):
        x = F.relu(self.conv0(self.norm0(x)))
        x = F.relu(self.conv1(self.norm1(x)))
        x = F.relu(self.conv2(self.norm2(x)))
        return self.fc(F.avg_pool2d(x, 2).view(-1, 288))


class HandSoftmax(nn.Module):
    """Computes the softmax by hand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.fc1 = nn.Linear(8 * 13 * 13, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.relu(self.fc1(x.view(x.shape[0], -1)))
        exp = torch.exp(self.fc2(x))
        return exp / exp.sum(dim=1, keepdim=True)


@dataclass(frozen=True)
class Entry:
    """A network, and how its author trains it."""

    name: str
    """The class in this file."""

    normalization: str
    """`none` (0…1), `mnist` (0.1307, 0.3081) or `half` (0.5, 0.5)."""

    output: str = "logits"
    """`logits`, `log-softmax` or `softmax`."""

    input: str = "image"
    """`image`, [N, 1, 28, 28], or `flat`, [N, 784]."""

    optimizer: str = "adam"
    lr: float = 0.002
    epochs: int = 1

    def build(self) -> nn.Module:
        return globals()[self.name]()


ZOO = (
    Entry("SimpleNN", "mnist", lr=0.001),
    Entry("SigmoidNet", "none", input="flat", optimizer="sgd", lr=0.01, epochs=20),
    Entry("DropoutNet", "mnist", output="log-softmax"),
    Entry("LeNet5", "none", lr=0.005),
    Entry("BatchNormMLP", "half", lr=0.003),
    Entry("SequentialNet", "half", lr=0.004),
    Entry("SoftmaxMLP", "mnist", output="softmax", lr=0.003),
    Entry("ConvSoftmax", "none", output="softmax", lr=0.005),
    Entry("SmallResNet", "mnist", lr=0.005),
    Entry("MobileNet", "half", lr=0.005),
    Entry("ConcatNet", "none", lr=0.01),
    Entry("ModernActivations", "mnist"),
    Entry("GroupNormNet", "none", lr=0.004),
    Entry("VisionTransformer", "half", lr=0.005, epochs=2),
    Entry("PatchAttention", "mnist", lr=0.005),
    Entry("RowLSTM", "none", lr=0.01),
    Entry("NormBeforeConv", "mnist", lr=0.005),
    Entry("HandSoftmax", "none", output="softmax", lr=0.003),
)
