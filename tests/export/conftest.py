"""Fixtures of the tests that export."""

from unittest import mock

import pytest

from mnist_edge.export import onnx_graph
from tests.graphs import remembered


@pytest.fixture(scope="session", autouse=True)
def _traced_once():
    with mock.patch.object(onnx_graph, "_exported", remembered(onnx_graph._exported)):
        yield
