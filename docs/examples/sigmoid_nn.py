"""Train a network with one hidden layer and a sigmoid on MNIST: python sigmoid_nn.py FOLDER [EPOCHS]."""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Linear(784, 64), nn.Sigmoid(), nn.Linear(64, 10))

    def forward(self, x):
        return self.model(x)


def load(folder, split):
    """The images as ToTensor makes them, and the labels."""
    images = gzip.decompress((Path(folder) / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((Path(folder) / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    x = torch.tensor(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)) / 255
    return TensorDataset(x, torch.tensor(np.frombuffer(labels, np.uint8, offset=8)).long())


def main(folder, epochs=10):
    torch.manual_seed(0)
    train_loader = DataLoader(load(folder, "train"), batch_size=64, shuffle=True)
    test_loader = DataLoader(load(folder, "t10k"), batch_size=64)
    model, criterion = NeuralNetwork(), nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(1, epochs + 1):
        for batch, (images, labels) in enumerate(train_loader):
            optimizer.zero_grad()
            loss = criterion(model(images.view(images.shape[0], -1)), labels)
            loss.backward()
            optimizer.step()
            if batch % 100 == 0:
                print(f"Train Epoch: {epoch} [{batch * len(images)}/60000]  Loss: {loss.item():.6f}")
        with torch.no_grad():
            outputs = [(model(images.view(images.shape[0], -1)), labels) for images, labels in test_loader]
        loss = sum(criterion(output, labels).item() for output, labels in outputs) / 10000
        correct = sum((output.argmax(dim=1) == labels).sum().item() for output, labels in outputs)
        print(f"\nTest set: Average loss: {loss:.4f}, Accuracy: {correct}/10000 ({correct / 100:.2f}%)\n")
    torch.save(model.state_dict(), "mnist_model.pth")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
