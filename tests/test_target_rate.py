import math
from types import SimpleNamespace

import pytest
import torch

from codec_det.training.target_rate import TargetRate


class Plant:
    """A codec whose rate follows β late and with noise: log bpp settles at log 0.5 - 0.6 log β."""

    def __init__(self, beta=1.0, delay=40):
        self.beta = beta
        self.log_rate = math.log(0.5)
        self.delay = delay
        self.generator = torch.Generator().manual_seed(0)

    @property
    def batch_rate(self):
        noise = 0.1 * torch.randn((), generator=self.generator).item()
        return torch.tensor(1e4 * math.exp(self.log_rate + noise)), 10_000

    def step(self):
        settled = math.log(0.5) - 0.6 * math.log(self.beta)
        self.log_rate += (settled - self.log_rate) / self.delay


def run(plant, hook, steps):
    for _ in range(steps):
        plant.step()
        hook.after_step()
    return math.exp(plant.log_rate)


@pytest.mark.parametrize(("beta", "delay"), [(1.0, 40), (0.1, 20), (8.0, 60)])
@pytest.mark.parametrize("target", [0.1, 0.3])
def test_training_ends_near_the_target(beta, delay, target):
    plant = Plant(beta, delay)
    rate = run(plant, TargetRate(plant, target, 800), 800)
    assert rate == pytest.approx(target, rel=0.05)


def test_a_rate_above_the_target_raises_beta_and_one_below_lowers_it():
    for target, raised in ((0.1, True), (2.0, False)):
        plant = Plant()
        run(plant, TargetRate(plant, target, 100), 20)
        assert (plant.beta > 1) == raised


@pytest.mark.parametrize("target", [0.08, 0.16])
def test_a_far_target_is_approached_in_steps_that_a_codec_can_follow(target):
    plant = Plant(delay=20)
    settled = (0.5 / target) ** (1 / 0.6)
    hook = TargetRate(plant, target, 400)
    betas, rates = [], []
    for _ in range(400):
        rates.append(run(plant, hook, 1))
        betas.append(plant.beta)
    assert max(betas) < 3 * settled
    assert min(rates) > 0.7 * target
    assert sum(rates[-40:]) / 40 == pytest.approx(target, rel=0.05)


def test_state_continues_where_it_was():
    plant, other = Plant(), Plant()
    hook = TargetRate(plant, 0.1, 400)
    run(plant, hook, 50)
    state = hook.state_dict()
    resumed = TargetRate(other, 0.1, 400)
    resumed.load_state_dict(state)
    resumed.trainer = SimpleNamespace()
    resumed.before_train()
    assert other.beta == plant.beta == state["beta"]
    other.log_rate, other.generator = plant.log_rate, plant.generator.clone_state()
    run(plant, hook, 5)
    run(other, resumed, 5)
    assert other.beta == plant.beta


def test_without_any_measurement_beta_is_the_configs():
    plant = Plant(beta=2.5)
    TargetRate(plant, 0.1, 100).before_train()
    assert plant.beta == pytest.approx(2.5)
