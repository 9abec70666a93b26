import torch

from ufo_ds.surgery.gram import CHUNK, gram_matrix, inner_product
from ufo_ds.surgery.weightings import combine_weights


def pcgrad_by_hand(gradients, order):
    """Algorithm 1 of arXiv 2001.06782 on whole vectors, task i projected in the order `order[i]`."""
    combined = torch.zeros_like(gradients[0])
    for i, gradient in enumerate(gradients):
        g = gradient.clone()
        for j in order[i]:
            if j != i:
                dot = g @ gradients[j]
                if dot < 0:
                    g -= dot / (gradients[j] @ gradients[j]) * gradients[j]
        combined += g
    return combined


def test_none_is_a_plain_sum():
    assert combine_weights("none", torch.randn(3, 3), 0, 1).tolist() == [1, 1, 1]


def test_pcgrad_of_two_conflicting_gradients_is_the_paper_s():
    gradients = torch.tensor([[1.0, 0.0, 0.5], [-0.8, 0.6, 0.1]], dtype=torch.float64)
    weights = combine_weights("pcgrad", gradients @ gradients.T, 0, 1)
    expected = pcgrad_by_hand(list(gradients), [[0, 1], [0, 1]])  # with two tasks the order does not matter
    torch.testing.assert_close(weights @ gradients, expected)


def test_pcgrad_of_agreeing_gradients_is_their_sum():
    gradients = torch.rand(4, 10, dtype=torch.float64)
    assert combine_weights("pcgrad", gradients @ gradients.T, 3, 7).tolist() == [1, 1, 1, 1]


def test_pcgrad_of_three_is_one_of_the_orders_and_repeats_by_seed_and_step():
    import itertools

    torch.manual_seed(0)
    gradients = torch.randn(3, 4, dtype=torch.float64)
    gradients[2] = -gradients[0] - gradients[1] + 0.1 * torch.randn(4)
    orders = list(itertools.permutations(range(3)))
    possible = [pcgrad_by_hand(list(gradients), choice) for choice in itertools.product(orders, repeat=3)]
    seen = set()
    for step in range(40):
        state = torch.get_rng_state()
        weights = combine_weights("pcgrad", gradients @ gradients.T, 0, step)
        assert torch.equal(state, torch.get_rng_state()), "the training's own generator was touched"
        assert torch.equal(weights, combine_weights("pcgrad", gradients @ gradients.T, 0, step))
        combined = weights @ gradients
        assert min(float((combined - one).norm()) for one in possible) < 1e-12
        seen.add(tuple(weights.tolist()))
    assert len(seen) > 1, "the order never changes"


def test_inner_product_is_exact_to_1e_7_over_millions_of_elements():
    torch.manual_seed(0)
    a = torch.randn(3_000_001) + 1
    b = a + 0.1 * torch.randn(3_000_001)
    exact = torch.dot(a.double(), b.double())
    assert abs(float(inner_product(a, b) / exact) - 1) < 1e-7


def test_gram_matrix_over_lists_of_tensors():
    torch.manual_seed(0)
    sizes = [(3,), (5, 7), (CHUNK,), (CHUNK + 3,)]
    gradients = [[torch.randn(size) for size in sizes] for _ in range(3)]
    flat = torch.stack([torch.cat([part.flatten() for part in parts]) for parts in gradients]).double()
    torch.testing.assert_close(gram_matrix(gradients), flat @ flat.T, rtol=1e-7, atol=1e-4)
