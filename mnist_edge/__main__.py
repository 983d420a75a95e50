"""``python -m mnist_edge``."""

from mnist_edge.cli.main import main

main()
