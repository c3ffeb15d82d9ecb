"""Ready-made builds of MegaBlocks' extensions: a package of the same shape, made of our stand-ins, stands for one."""

from __future__ import annotations

import sys

import pytest
import torch

from suite.backends.megablocks import built, torch_ops

PACKAGE = """
from suite.backends.megablocks import torch_gmm as gg_backend, torch_gmm as gg_ops, torch_ops
from suite.backends.megablocks.torch_ops import *

def indices(padded_bins, block_size, output_block_rows, output_block_columns):
    import torch
    out = torch.empty(output_block_rows * output_block_columns, dtype=torch.int32)
    torch_ops.indices(padded_bins, block_size, output_block_rows, output_block_columns, out)
    return out
"""


def make(folder, text=PACKAGE):
    (folder / "megablocks").mkdir()
    (folder / "megablocks" / "__init__.py").write_text(text)
    return folder


def test_nothing_is_loaded_that_was_not_asked_for(monkeypatch):
    monkeypatch.delenv(built.VARIABLE, raising=False)
    assert built.load() is None


@pytest.mark.parametrize("inner", ["", "megablocks"])
def test_a_build_in_a_folder_answers_as_the_extension_does(monkeypatch, tmp_path, inner):
    monkeypatch.setenv(built.VARIABLE, str(make(tmp_path) / inner))
    extension = built.extension(built.load())
    values, out, order = torch.tensor([2, 0, 1]), torch.empty(3, dtype=torch.int64), torch.empty(3, dtype=torch.int64)
    extension.sort(values, 2, out, order)
    assert (out.tolist(), order.tolist()) == ([0, 1, 2], [1, 2, 0])
    # two experts of one and two block rows, three block columns each
    found, right = torch.empty(9, dtype=torch.int32), torch.empty(9, dtype=torch.int32)
    extension.indices(torch.tensor([128, 384]), 128, 3, 3, found)
    torch_ops.indices(torch.tensor([128, 384]), 128, 3, 3, right)
    assert found.tolist() == right.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5]


@pytest.mark.parametrize(
    ("asked", "says"),
    [("nowhere", "cannot be loaded"), ("hub", "cannot be loaded"), ("", "")],
)
def test_what_is_not_there_is_said_in_a_line(monkeypatch, tmp_path, asked, says):
    monkeypatch.setitem(sys.modules, "kernels", None)
    monkeypatch.setenv(built.VARIABLE, asked)
    if not says:
        assert built.load() is None
        return
    with pytest.raises(ValueError, match=f"{built.VARIABLE}='{asked}'.*{says}"):
        built.load()


def test_another_package_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(built.VARIABLE, str(make(tmp_path, "def sort(): ...")))
    with pytest.raises(ValueError, match=r"has no histogram, .*expected a build of kernels-community/megablocks"):
        built.load()
