"""The fast dropout is torch's in distribution: how often, how much, and when."""

import pytest
import torch
from torch import nn

from monju.models import dropout
from monju.models.dropout import Dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_share_p_is_zeroed_and_the_rest_scaled(p, dtype):
    torch.manual_seed(0)
    n = 1_000_001  # not a multiple of four
    out = Dropout(p)(torch.ones(n, dtype=dtype))
    zeros = (out == 0).sum().item()
    assert abs(zeros - p * n) < 3 * (n * p * (1 - p)) ** 0.5  # three standard deviations of a binomial
    assert out.dtype == dtype
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=4e-3 if dtype == torch.bfloat16 else 1e-6)


def test_every_quarter_of_a_draw_counts_alike():
    torch.manual_seed(0)
    n, p = 1_000_000, 0.3
    zeros = (Dropout(p)(torch.ones(n, 4)) == 0).float().mean(dim=0)  # one 64-bit draw a row
    assert (zeros - p).abs().max() < 4 * (p * (1 - p) / n) ** 0.5
    together = (Dropout(p)(torch.ones(n, 4)) == 0).float()
    assert (torch.corrcoef(together.T) - torch.eye(4)).abs().max() < 4 / n**0.5


def test_the_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(1000))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5,), (2, 3, 7), ()], ids=str)
def test_any_shape(shape):
    x = torch.ones(shape)
    out = Dropout(0.5)(x)
    assert out.shape == x.shape
    assert ((out == 0) | (out == 2)).all()


def test_a_transposed_tensor_keeps_its_layout_in_mind():
    x = torch.arange(1.0, 13).reshape(3, 4).T
    out = Dropout(0.5)(x)
    assert ((out == 0) | (out == 2 * x)).all()


def test_nothing_happens_in_evaluation_or_at_zero():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_gradients_pass_where_values_do():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.25)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # d(x·s)/dx = s, and x = 1


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.inner = nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.ReLU(), nn.Dropout(0.2))


def test_install_replaces_every_dropout_and_nothing_else():
    model = nn.ModuleDict({"one": Block(), "two": nn.ModuleList([Block(), nn.Dropout1d(0.3), nn.AlphaDropout(0.4)])})
    before = {name: module for name, module in model.named_modules()}
    dropout.install(model)
    after = dict(model.named_modules())
    assert list(after) == list(before)
    for name, module in before.items():
        if type(module) is nn.Dropout:
            assert type(after[name]) is Dropout and after[name].p == module.p
        else:
            assert after[name] is module
    assert sum(type(module) is Dropout for module in after.values()) == 4


@pytest.mark.parametrize("training", [True, False])
def test_install_leaves_the_mode_as_it_was(training):
    model = nn.Sequential(nn.Dropout(0.5)).train(training)
    dropout.install(model)
    assert model[0].training is training
