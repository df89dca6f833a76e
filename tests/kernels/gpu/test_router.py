"""The projection out of the attention with the router behind it."""

import pytest
import torch

from qcoder.kernels.gpu.matrix import quantize
from qcoder.kernels.gpu.router import Router, out_and_route, route_reference, router_scratch


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize(
    ("experts", "top_k", "renormalize", "shared"),
    [(8, 2, True, False), (128, 8, True, False), (21, 5, False, True), (512, 10, True, True)],
)
def test_routes_what_it_projects(
    tokens: int, experts: int, top_k: int, renormalize: bool, shared: bool
) -> None:
    torch.manual_seed(experts)
    hidden, columns = 272, 128
    router = Router(
        torch.randn(hidden, experts) / hidden**0.5,
        torch.rand(hidden) + 0.5,
        1e-6,
        top_k,
        renormalize,
        torch.randn(hidden) / 8 if shared else None,
    )
    matrix = quantize(torch.randn(hidden, columns) / columns**0.5, "int8", 128)
    a, residual = torch.randn(tokens, columns), torch.randn(tokens, hidden)
    scratch = router_scratch(tokens, hidden, experts, "cpu")
    for _ in range(2):  # the scratch is left as it was found
        routed = out_and_route(a, matrix, residual, router, scratch)
        assert torch.allclose(routed.x, residual + a @ matrix.floats().T, atol=1e-5)
        wanted = route_reference(routed.x, router)
        assert torch.equal(routed.chosen, wanted[0])
        assert torch.allclose(routed.weights, wanted[1], atol=1e-5)
        root = torch.rsqrt(routed.x.square().mean(-1) + router.eps)
        assert torch.allclose(routed.factor, root, atol=1e-5)
        assert torch.allclose(routed.gained, routed.x * router.norm, atol=1e-5)


def test_of_equal_experts_the_first_are_chosen() -> None:
    router = Router(torch.zeros(128, 6), torch.ones(128), 1e-6, 2, True)
    scratch = router_scratch(1, 128, 6, "cpu")
    matrix = quantize(torch.zeros(128, 128), "float")
    found = out_and_route(torch.ones(1, 128), matrix, torch.ones(1, 128), router, scratch)
    assert found.chosen.tolist() == [[0, 1]]
    assert found.weights.tolist() == [[0.5, 0.5]]
