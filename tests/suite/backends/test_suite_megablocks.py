"""MegaBlocks fed by our routing: against one assignment at a time, whatever the loads; and its stand-ins against NumPy.

Without a GPU its kernels run in Triton's interpreter, with one the same tests need it and are marked so.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from test_suite_backends import free_routing, naive, top_k_routing

from strategies import Routing
from suite import backends
from suite.backends.megablocks import ready, torch_gmm, torch_ops

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before any other test imports Triton

missing = [name for name in ("megablocks", "stk", "triton") if find_spec(name) is None]
needs_megablocks = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (docs/gpu.md)"),
    *([pytest.mark.gpu] if GPU else []),
]


def both_ways(name, routing, sizes, dtype):
    """(output, gradients of hidden, gates, w_in, w_out) of a backend, and of the loop in float64."""
    tokens, experts, width, hidden = sizes
    generator = torch.Generator().manual_seed(5)
    shapes = ((tokens, width), (experts, width, 2 * hidden), (experts, hidden, width))
    values = [torch.randn(shape, generator=generator) / math.sqrt(width) for shape in shapes]
    weights = torch.randn(tokens, width, generator=generator)

    mine = [value.clone().to(DEVICE, dtype).requires_grad_() for value in values]
    gate = routing.gate_A.clone().to(DEVICE).requires_grad_()
    moved = Routing(routing.token_A.to(DEVICE), routing.expert_A.to(DEVICE), gate, routing.per_token)
    out = backends.get(name).load()(mine[0], backends.plan_dispatch(moved, experts), mine[1], mine[2])
    (out * weights.to(out)).sum().backward()
    got = [out, mine[0].grad, gate.grad, mine[1].grad, mine[2].grad]

    exact = [value.to(dtype).double().requires_grad_() for value in values]  # from the same rounded numbers
    exact_gate = routing.gate_A.double().requires_grad_()
    expected = naive(exact[0], routing.token_A, routing.expert_A, exact_gate, exact[1], exact[2])
    (expected * weights.to(dtype).double()).sum().backward()
    want = [expected, exact[0].grad, exact_gate.grad, exact[1].grad, exact[2].grad]
    return [value.detach().double().cpu() for value in got], [value.detach() for value in want]


def assert_equal(got, want, tolerance):
    """Each tensor to within `tolerance` of its largest value."""
    for mine, right in zip(got, want, strict=True):
        torch.testing.assert_close(mine, right, rtol=0, atol=tolerance * float(right.abs().max()) + 1e-12)


LOADS = [pytest.param(lambda load=load: top_k_routing(12, 6, 2, load), id=load) for load in ("even", "skewed", "empty")]
SINGLE = pytest.param(lambda: top_k_routing(12, 6, 1, "single"), id="one expert has all")
VARIABLE = pytest.param(lambda: free_routing(12, 6), id="any number per token")


class TestGrouped:
    pytestmark = needs_megablocks

    @pytest.mark.parametrize("make_routing", [*LOADS, SINGLE, VARIABLE])
    def test_outputs_and_gradients_equal_one_assignment_at_a_time(self, make_routing):
        if backends.get("megablocks").label() == "megablocks":
            pytest.skip("grouped_gemm computes in bfloat16 only")
        got, want = both_ways("megablocks", make_routing(), (12, 6, 16, 8), torch.float32)
        assert_equal(got, want, 1e-5)

    def test_bfloat16(self):
        got, want = both_ways("megablocks", top_k_routing(12, 6, 2, "skewed"), (12, 6, 16, 8), torch.bfloat16)
        assert_equal(got, want, 0.02)

    def test_no_assignments_at_all(self):
        none_A = torch.zeros(0, dtype=torch.int64, device=DEVICE)
        plan = backends.plan_dispatch(Routing(none_A, none_A, torch.zeros(0, device=DEVICE)), 6)
        shapes = ((12, 16), (6, 16, 16), (6, 8, 16))
        values = [torch.ones(shape, device=DEVICE, dtype=torch.bfloat16).requires_grad_() for shape in shapes]
        out = backends.get("megablocks").load()(values[0], plan, *values[1:])
        (out * values[0].detach()).sum().backward()
        assert not any(value.any() for value in (out, *(value.grad for value in values)))

    def test_a_label_says_what_stands_in(self):
        label = backends.get("megablocks").label()
        assert label in ("megablocks", "megablocks+torch-gmm")
        assert (label == "megablocks") == (ready.GMM not in ready.prepare())
        assert backends.get("grouped").label() == "grouped"


class TestSparse:
    pytestmark = needs_megablocks

    def test_outputs_and_gradients_equal_one_assignment_at_a_time(self):
        got, want = both_ways("megablocks-sparse", top_k_routing(8, 3, 2, "empty"), (8, 3, 128, 128), torch.float32)
        assert_equal(got, want, 1e-2 if GPU else 1e-5)  # Triton multiplies float32 in TF32 on a GPU

    def test_any_number_of_experts_per_token(self):
        got, want = both_ways("megablocks-sparse", free_routing(4, 3), (4, 3, 128, 128), torch.float32)
        assert_equal(got, want, 1e-2 if GPU else 1e-5)

    def test_more_than_256_blocks_are_addressed_right(self):
        """16 bits × block size overflows from block 256 on."""
        from suite.backends.megablocks import sparse

        padded_ends_E = torch.full((300,), 128, dtype=torch.int32, device=DEVICE)
        padded_ends_E[-1] = 256
        rows_PD = torch.randn(256, 128, device=DEVICE)
        w_in_EDF, w_out_EFD = torch.zeros(300, 128, 256, device=DEVICE), torch.zeros(300, 128, 128, device=DEVICE)
        w_in_EDF[299], w_out_EFD[299] = torch.randn(128, 256, device=DEVICE), torch.eye(128, device=DEVICE)
        with torch.no_grad():
            y_PD = sparse.swiglu(rows_PD, padded_ends_E, w_in_EDF, w_out_EFD)
        gate, up = (rows_PD[128:].double() @ w_in_EDF[299].double()).chunk(2, dim=1)
        expected = gate / (1 + torch.exp(-gate)) * up
        torch.testing.assert_close(y_PD[128:].double(), expected, rtol=0, atol=float(expected.abs().max()) * 1e-2)

    @pytest.mark.parametrize(
        ("sizes", "dtype", "message"),
        [
            ((4, 3, 96, 128), torch.float32, "width: 96 is not made of whole blocks; expected a multiple of 128"),
            ((4, 3, 128, 88), torch.float32, "expert_width: 88 is not made of whole blocks"),
            ((4, 3, 128, 128), torch.bfloat16, "precision: torch.bfloat16 needs a GPU"),
        ],
    )
    def test_what_it_cannot_do_it_refuses_in_one_line(self, sizes, dtype, message):
        if GPU and dtype == torch.bfloat16:
            pytest.skip("a GPU can")
        with pytest.raises(ValueError, match=message):
            both_ways("megablocks-sparse", top_k_routing(4, 3, 1, "even"), sizes, dtype)

    def test_more_than_32_bits_can_address_is_refused(self):
        from suite.backends.megablocks import sparse

        with pytest.raises(ValueError, match="expected less than 2147483648"):
            sparse.layout(2048, 1024, 1024)


PARALLEL = """
import sys
import torch, torch.distributed as dist
from strategies import Routing
from suite import backends

rank = int(sys.argv[1])
dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
generator = torch.Generator().manual_seed(1)
shapes = ((8, 16), (4, 16, 16), (4, 8, 16), (8, 2), (8, 16), (8, 4))
hidden, w_in, w_out, gate, weights, scores = (torch.rand(shape, generator=generator) - 0.3 for shape in shapes)
scores[:, 0] += 5  # one expert has half of all tokens
scores[:, 3] -= 5  # and one has none
mine = slice(4 * rank, 4 * rank + 4)

def run(name, keep):
    values = [value.clone().requires_grad_() for value in (hidden[mine], gate[mine], w_in, w_out)]
    routing = Routing.top_k(scores[mine].topk(2).indices, values[1])
    if keep is not None:  # a variable number of experts per token
        routing = Routing(routing.token_A[keep], routing.expert_A[keep], routing.gate_A[keep])
    out = backends.get(name).load()(values[0], backends.plan_dispatch(routing, 4), values[2], values[3])
    (out * weights[mine]).sum().backward()
    return [out.detach(), *(value.grad for value in values)]

for keep in (None, torch.tensor([0, 3, 4, 5, 6] if rank else [2])):
    got, want = run("megablocks-parallel", keep), run("reference", keep)
    assert not got[3][2:].any() if rank == 0 else not got[3][:2].any()  # computed by its owner alone
    for value in got[3:] + want[3:]:
        dist.all_reduce(value)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
print("equal")
"""


@pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (docs/gpu.md)")
@pytest.mark.skipif(GPU, reason="one GPU is one rank")
class TestParallel:
    def test_experts_spread_over_two_ranks_give_what_data_parallelism_gives(self, tmp_path):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        ranks = [
            subprocess.Popen(
                [sys.executable, "-P", "-c", PARALLEL, str(rank), str(tmp_path / "meeting")],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        for process in ranks:
            out, err = process.communicate(timeout=300)
            assert out.strip() == "equal", err

    def test_alone_it_is_the_grouped_backend(self):
        got, want = both_ways("megablocks-parallel", free_routing(6, 4), (6, 4, 16, 8), torch.float32)
        assert_equal(got, want, 1e-5)

    def test_experts_that_do_not_divide_are_refused(self, monkeypatch):
        from suite.backends.megablocks import parallel

        monkeypatch.setattr(parallel.dist, "get_world_size", lambda: 3)
        with pytest.raises(ValueError, match="experts: 16 over 3 ranks is uneven; expected a multiple of 3"):
            parallel.layer_of(16, 16, 2)


class TestStandIns:
    """The extensions' functions against NumPy."""

    values = torch.tensor([3, 0, 3, 1, 7, 0, 3], dtype=torch.int32)

    def test_sort_is_stable(self):
        out, order = torch.empty_like(self.values), torch.empty_like(self.values)
        torch_ops.sort(self.values, 3, out, order)
        assert order.tolist() == np.argsort(self.values.numpy(), kind="stable").tolist()
        assert out.tolist() == np.sort(self.values.numpy()).tolist()

    def test_histogram(self):
        assert torch_ops.histogram(self.values, 8).tolist() == np.bincount(self.values.numpy(), minlength=8).tolist()
        rows = torch.stack([self.values, self.values.flip(0) * 0])
        assert torch_ops.histogram(rows, 8).tolist() == [[2, 1, 0, 3, 0, 0, 0, 1], [7, 0, 0, 0, 0, 0, 0, 0]]

    def test_cumulative_sums(self):
        row, out = self.values[None], torch.empty_like(self.values[None])
        torch_ops.inclusive_cumsum(row, 1, out)
        assert out[0].tolist() == [3, 3, 6, 7, 14, 14, 17]
        torch_ops.exclusive_cumsum(row, 1, out)
        assert out[0].tolist() == [0, 3, 3, 6, 7, 14, 14]

    def test_indices_of_a_block_diagonal_matrix(self):
        """Two block rows of expert 0, none of expert 1, one of expert 2; three block columns each."""
        out = torch.empty(9, dtype=torch.int16)
        torch_ops.indices(torch.tensor([256, 256, 384], dtype=torch.int32), 128, 3, 3, out)
        assert out.tolist() == [0, 1, 2, 0, 1, 2, 6, 7, 8]

    def test_replicate_and_its_gradient(self):
        values, ends = torch.tensor([[5, 6, 7]], dtype=torch.int32), torch.tensor([2, 2, 5], dtype=torch.int32)
        out = torch.empty(1, 5, dtype=torch.int32)
        torch_ops.replicate_forward(values, ends, out)
        assert out.tolist() == [np.repeat([5, 6, 7], [2, 0, 3]).tolist()]
        grad = torch.empty(1, 3)
        torch_ops.replicate_backward(torch.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]]), ends, grad)
        assert grad.tolist() == [[3.0, 0.0, 28.0]]

    @pytest.mark.parametrize("sizes", [[3, 0, 5], [8, 0, 0]])
    def test_grouped_products(self, sizes):
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(8, 16, generator=generator), torch.randn(3, 16, 4, generator=generator)
        y = torch.randn(8, 4, generator=generator)
        load, parts = torch.tensor(sizes), np.split(np.arange(8), np.cumsum(sizes)[:-1])
        rows = [a.numpy()[part] @ b.numpy()[i] for i, part in enumerate(parts)]
        outer = [a.numpy()[part].T @ y.numpy()[part] for part in parts]
        expected = np.concatenate(rows)
        np.testing.assert_allclose(torch_gmm.gmm(a, b, load).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(torch_gmm.gmm(a, b.mT.contiguous(), load, trans_b=True).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(torch_gmm.gmm(a, y, load, trans_a=True).numpy(), outer, atol=1e-5)
        target = torch.empty(8, 4)
        assert torch_gmm.gmm(a, b, load, c=target) is target
        np.testing.assert_allclose(target.numpy(), expected, atol=1e-5)


@pytest.mark.skipif(GPU, reason="nothing is interpreted")
class TestWhatIsMissing:
    def test_triton_imported_too_early(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "triton", object())
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        with pytest.raises(ValueError, match=r"backend megablocks: .* set TRITON_INTERPRET=1 before anything imports"):
            ready.prepare.__wrapped__()

    def test_a_package_that_is_not_there(self, monkeypatch):
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        for name in ("megablocks_ops", "grouped_gemm", "grouped_gemm.ops", "grouped_gemm.backend"):
            monkeypatch.setitem(sys.modules, name, sys.modules.get(name))
        monkeypatch.setitem(sys.modules, "stk.ops", None)
        with pytest.raises(ValueError, match=r"backend megablocks: cannot be imported .*; docs/gpu\.md says how"):
            ready.prepare.__wrapped__()

    def test_an_extension_that_is_there_and_broken(self, monkeypatch, tmp_path):
        (tmp_path / "broken_extension.py").write_text("raise ImportError('undefined symbol')")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ValueError, match=r"broken_extension is installed but cannot be imported \(undefined"):
            ready._works("broken_extension")
        assert not ready._works("no_such_extension")
