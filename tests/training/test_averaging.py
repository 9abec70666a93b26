import pytest
import torch
from torch import nn

from ufo_ds.training.averaging import WeightAverage


def model(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def test_the_average_is_the_formula_and_starts_at_the_weights(tmp_path):
    source = model(0)
    average = WeightAverage(source, model(1), 0.9)
    expected = source[0].weight.detach().double()
    assert torch.equal(average.model[0].weight, source[0].weight)
    for step in range(1, 120):
        with torch.no_grad():
            source[0].weight.add_(torch.randn(3, 4))
            source[1].running_mean.add_(1)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * source[0].weight.detach().double()
    torch.testing.assert_close(average.model[0].weight.double(), expected, rtol=0, atol=1e-5)
    assert average.decay_at(119) == 0.9 and average.decay_at(1) == pytest.approx(2 / 11)
    assert torch.equal(average.model[1].running_mean, source[1].running_mean)
    average.save(tmp_path)
    other = WeightAverage(model(2), model(3), 0.9)
    other.load(tmp_path)
    for one, two in zip(average.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_the_average_is_not_trained():
    average = WeightAverage(model(0), model(1), 0.5)
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training
