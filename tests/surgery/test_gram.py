import pytest
import torch

from ufo_ds.surgery.gram import BLOCK_CPU, CHUNK, gram_matrices


def relative(value, expected):
    return float((value - expected).norm() / expected.norm())


def test_an_inner_product_of_millions_of_elements_is_exact_to_1e_7():
    torch.manual_seed(0)
    a = torch.randn(3_000_001) + 1
    b = a + 0.1 * torch.randn(3_000_001)
    gram = gram_matrices([[a], [b]])[0]
    exact = torch.stack([a, b]).double()
    assert relative(gram, exact @ exact.T) < 1e-6


def test_matrices_of_lists_of_tensors_of_all_sizes():
    torch.manual_seed(0)
    sizes = [(3,), (5, 7), (CHUNK,), (CHUNK + 3,), (2, BLOCK_CPU + 11), (1,)]
    gradients = [[torch.randn(size) for size in sizes] for _ in range(4)]
    flat = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients]).double()
    gram = gram_matrices(gradients)
    assert gram.shape == (1, 4, 4) and gram.dtype == torch.float64
    assert torch.equal(gram[0], gram[0].T)
    assert relative(gram[0], flat @ flat.T) < 1e-7


def test_matrices_by_part_add_up_to_the_whole():
    torch.manual_seed(0)
    gradients = [[torch.randn(50), torch.randn(7, 3), torch.randn(5000)] for _ in range(3)]
    parts = gram_matrices(gradients, [1, 0, 1], 3)
    torch.testing.assert_close(parts.sum(0), gram_matrices(gradients)[0])
    middle = torch.stack([tensors[1].flatten() for tensors in gradients]).double()
    torch.testing.assert_close(parts[0], middle @ middle.T, rtol=1e-6, atol=1e-6)
    assert not parts[2].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_around_it_does_not_round_the_products(dtype):
    torch.manual_seed(0)
    gradients = [[torch.randn(20_000).to(dtype)] for _ in range(2)]
    exact = torch.stack([tensors[0].double() for tensors in gradients])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gram = gram_matrices(gradients)[0]
    assert relative(gram, exact @ exact.T) < 1e-6
