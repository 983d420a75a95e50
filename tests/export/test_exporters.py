"""The comparison with other exporters tells who refuses a fault, and nobody refuses an export without one."""

import dataclasses

import pytest

from mnist_edge.bundle.layout import Format
from tests.helpers import script

compare = script("compare_exporters")
faults = script("exporter_faults")


@pytest.fixture
def case(bundle_dir, small, small_idx, cheaper):
    return compare.Case(bundle_dir, small, small_idx)


def test_what_is_right_passes_everywhere(case):
    row = compare.measured("none", case)
    assert len(row.refusals) >= 3
    assert set(row.refusals.values()) == {None}
    assert (row.code, row.message, row.harm) == (0, "", "no answer changes")


@pytest.mark.parametrize("met_by", faults.MEETING)
def test_no_step_refuses_what_is_right(case, tmp_path, met_by):
    code, message = compare.ours(dataclasses.replace(faults.NOTHING, met_by=met_by), case, tmp_path / "right")
    assert (code, message) == (0, "")


def test_each_fault_is_told_by_whoever_notices_it(case):
    truncated = compare.measured("truncated", case)
    assert truncated.harm == "cannot be loaded"
    assert truncated.refusals["PyTorch's tutorial"].startswith("ValidationError: ")
    assert truncated.refusals["`torch.onnx.testing`"] is None  # it never sees the file
    assert truncated.refusals["accuracy"].startswith("InvalidProtobuf: ")
    assert truncated.code == 4
    assert truncated.message.startswith("model.onnx: not a model that mnist-edge exported, or cut short")


def test_int8_that_depends_on_its_batch_is_refused_by_the_export(case, tmp_path):
    code, message = compare.ours(compare.FAULTS["batch-dependent int8"], case, tmp_path / "other")
    assert code == 1, message
    assert message.startswith("model.int8-dynamic.onnx: the runtime would refuse it (node 'Cast_QuantizeLinear' ")


def row(form, told, code):
    return compare.Row(form, "harm", dict.fromkeys(compare.WAYS, told), code, "message")


def test_the_table_counts_what_passes_and_leaves_out_who_refuses_everything():
    found = {"none": row(Format.ONNX, None, 0), compare.RIGHT_INT8: row(Format.INT8_STATIC, "Error: 1 > 0", 0)}
    found["NaN"] = row(Format.ONNX, None, 4)
    found["altered"] = row(Format.ONNX, "Error: 1 > 0", 0)
    found["saturating int8"] = row(Format.INT8_STATIC, "Error: 1 > 0", 1)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in compare.table(found)]
    cells = {line[0]: (line[2], line[-1]) for line in lines}
    assert cells["none"] == ("passes", "passes")
    assert cells["NaN"] == ("passes", "refused: exit code 4")
    assert cells["altered"] == ("refused: Error", "passes")
    assert cells["saturating int8"] == ("refuses any int8", "refused: exit code 1")
    assert cells["**let through**"] == ("**1**", "**1**")


def test_the_fourteen_faults_are_all_there():
    assert len(compare.FAULTS) == 14
