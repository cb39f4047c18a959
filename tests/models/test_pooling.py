from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxr_lightning.errors import ConfigError
from cxr_lightning.models.pooling import build_pool, gem


def feature_map(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_gem_equals_its_definition() -> None:
    x = feature_map(torch.float64)
    expected = (x**2.7).mean((2, 3)) ** (1 / 2.7)
    torch.testing.assert_close(gem(x, 2.7), expected)


def test_gem_by_hand() -> None:
    x = torch.tensor([3.0, 4.0]).reshape(1, 1, 1, 2)
    torch.testing.assert_close(gem(x, 2.0), torch.tensor([[12.5**0.5]]))


def test_gem_gradient_equals_finite_differences() -> None:
    x = feature_map(torch.float64).requires_grad_()
    p = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gem, (x, p))


def test_gem_lies_between_average_and_maximum() -> None:
    x = feature_map()
    torch.testing.assert_close(gem(x, 1.0), x.mean((2, 3)))
    torch.testing.assert_close(gem(x, 2000.0), x.amax((2, 3)), rtol=2e-3, atol=0)


@given(p=st.floats(1, 200), scale=st.floats(1e-4, 1e4))
def test_gem_stays_finite_and_between(p: float, scale: float) -> None:
    x = (feature_map() * scale).requires_grad_()
    exponent = torch.tensor([p], requires_grad=True)
    y = gem(x, exponent)
    assert (y <= x.amax((2, 3)) * 1.0001).all()
    assert (y >= x.mean((2, 3)) * 0.9999).all()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert exponent.grad is not None
    assert exponent.grad.isfinite().all()


@pytest.mark.parametrize("name", ["avg", "max", "gem", "avg+max"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_pooling_accumulates_in_float32_or_wider(name: str, dtype: torch.dtype) -> None:
    pool = build_pool(name)
    x = feature_map(dtype)
    y = pool(x)
    assert y.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(y, pool(x.to(y.dtype)))


def test_avg_and_max_side_by_side() -> None:
    x = feature_map()
    expected = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
    torch.testing.assert_close(build_pool("avg+max")(x), expected)


def test_a_map_of_zeros_has_a_gradient_without_nan() -> None:
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    build_pool("gem")(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_unknown_pooling() -> None:
    with pytest.raises(
        ConfigError, match=r"model.pooling='gemm' does not exist. Did you mean 'gem'"
    ):
        build_pool("gemm")
