"""Train SimpleNN on MNIST: python simple_nn.py FOLDER [EPOCHS]."""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

batch_size, learning_rate, epochs = 64, 0.001, 5


class SimpleNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, 10)

    def forward(self, x):
        x = x.view(-1, 28 * 28)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def load(folder, split):
    """The images as ToTensor and Normalize((0.1307,), (0.3081,)) make them, and the labels."""
    images = gzip.decompress((Path(folder) / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((Path(folder) / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    x = torch.tensor(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)) / 255
    y = torch.tensor(np.frombuffer(labels, np.uint8, offset=8)).long()
    return TensorDataset((x - 0.1307) / 0.3081, y)


def train(model, loader, criterion, optimizer, epoch):
    model.train()
    for batch, (data, target) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        if batch % 100 == 0:
            print(f"Train Epoch: {epoch} [{batch * len(data)}/{len(loader.dataset)}]  Loss: {loss.item():.6f}")


def test(model, loader, criterion):
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += criterion(output, target).item()
            correct += (output.argmax(dim=1) == target).sum().item()
    n = len(loader.dataset)
    print(f"\nTest set: Average loss: {test_loss / n:.4f}, Accuracy: {correct}/{n} ({100 * correct / n:.2f}%)\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        epochs = int(sys.argv[2])
    torch.manual_seed(0)
    train_loader = DataLoader(load(sys.argv[1], "train"), batch_size, shuffle=True)
    test_loader = DataLoader(load(sys.argv[1], "t10k"), batch_size)
    model = SimpleNN()
    optimizer = optim.Adam(model.parameters(), lr=learning_rate)
    for epoch in range(1, epochs + 1):
        train(model, train_loader, nn.CrossEntropyLoss(), optimizer, epoch)
        test(model, test_loader, nn.CrossEntropyLoss())
    torch.save(model.state_dict(), "mnist_model.pth")
