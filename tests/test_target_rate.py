import math
from types import SimpleNamespace

import pytest
import torch

from codec_det.training.target_rate import TargetRate, adapted_betas


class Plant:
    """A codec whose rates follow β late and with noise: log bpp settles at log 0.5 - 0.6 log β."""

    def __init__(self, *betas, delay=40, noise=0.1):
        self.betas = list(betas) or [1.0]
        self.log_rates = [math.log(0.5)] * len(self.betas)
        self.delay = delay
        self.noise = noise
        self.generator = torch.Generator().manual_seed(0)
        self.pixels = [10_000] * len(self.betas)

    @property
    def batch_rate(self):
        noise = self.noise * torch.randn(len(self.betas), generator=self.generator)
        pixels = torch.tensor(self.pixels)
        return pixels * torch.exp(torch.tensor(self.log_rates) + noise), pixels

    def step(self):
        for level, beta in enumerate(self.betas):
            settled = math.log(0.5) - 0.6 * math.log(beta)
            self.log_rates[level] += (settled - self.log_rates[level]) / self.delay


def run(plant, hook, steps):
    for _ in range(steps):
        plant.step()
        hook.after_step()
    return [math.exp(log_rate) for log_rate in plant.log_rates]


@pytest.mark.parametrize(("beta", "delay"), [(1.0, 40), (0.1, 20), (8.0, 60)])
@pytest.mark.parametrize("target", [0.1, 0.3])
def test_training_ends_near_the_target(beta, delay, target):
    plant = Plant(beta, delay=delay)
    (rate,) = run(plant, TargetRate(plant, [target], 800), 800)
    assert rate == pytest.approx(target, rel=0.05)


def test_a_rate_that_is_the_target_stays_there_though_batches_differ():
    # As where each has one clip of a level.
    plant = Plant(*[1.0] * 8, noise=0.5)
    hook = TargetRate(plant, [0.5] * 8, 2400)
    rates = torch.tensor([run(plant, hook, 1) for _ in range(800)])
    assert (rates / 0.5).log().abs().max() < 0.3


def test_the_mean_of_batches_that_differ_ends_at_the_target():
    plant = Plant(*[1.0] * 8, noise=0.5)
    hook = TargetRate(plant, [0.5] * 8, 2400)
    run(plant, hook, 2000)
    rates = []
    for _ in range(400):
        run(plant, hook, 1)
        bits, pixels = plant.batch_rate
        rates.append(bits / pixels)
    # Their geometric mean, which half of them are above, is an eighth lower.
    assert torch.stack(rates).mean().item() == pytest.approx(0.5, rel=0.03)


def test_every_level_ends_near_its_own_target():
    targets = [0.08, 0.13, 0.21, 0.57]
    plant = Plant(1.0, 1.0, 1.0, 1.0)
    rates = run(plant, TargetRate(plant, targets, 800), 800)
    assert rates == pytest.approx(targets, rel=0.05)
    assert plant.betas == sorted(plant.betas, reverse=True)


def test_a_level_that_a_batch_has_no_picture_of_stays_as_it_is():
    plant = Plant(2.0, 1.0)
    plant.pixels = [0, 10_000]
    run(plant, TargetRate(plant, [0.1, 0.2], 100), 20)
    assert plant.betas[0] == pytest.approx(2.0)
    assert plant.betas[1] > 1.5


def test_a_rate_above_the_target_raises_beta_and_one_below_lowers_it():
    for target, raised in ((0.1, True), (2.0, False)):
        plant = Plant()
        run(plant, TargetRate(plant, [target], 100), 20)
        assert (plant.betas[0] > 1) == raised


@pytest.mark.parametrize("target", [0.08, 0.16])
def test_a_far_target_is_approached_in_steps_that_a_codec_can_follow(target):
    plant = Plant(delay=20)
    settled = (0.5 / target) ** (1 / 0.6)
    hook = TargetRate(plant, [target], 400)
    betas, rates = [], []
    for _ in range(400):
        rates += run(plant, hook, 1)
        betas += plant.betas
    assert max(betas) < 3 * settled
    assert min(rates) > 0.7 * target
    assert sum(rates[-40:]) / 40 == pytest.approx(target, rel=0.05)


def resumed_from(state, plant, targets):
    resumed = TargetRate(plant, targets, 400)
    resumed.load_state_dict(state)
    resumed.trainer = SimpleNamespace()
    resumed.before_train()
    return resumed


def test_state_continues_where_it_was():
    plant, other = Plant(1.0, 1.0), Plant(1.0, 1.0)
    hook = TargetRate(plant, [0.1, 0.3], 400)
    run(plant, hook, 50)
    state = hook.state_dict()
    resumed = resumed_from(state, other, [0.1, 0.3])
    assert other.betas == plant.betas == adapted_betas(state)
    other.log_rates, other.generator = list(plant.log_rates), plant.generator.clone_state()
    run(plant, hook, 5)
    run(other, resumed, 5)
    assert other.betas == plant.betas


def test_checkpoints_from_before_there_were_levels_go_on():
    state = {"integral": math.log(3.0), "log_rate": math.log(0.1), "beta": 3.0}
    plant = Plant()
    resumed_from(state, plant, [0.1])
    assert adapted_betas(state) == [3.0]
    assert plant.betas == [pytest.approx(3.0)]


def test_without_any_measurement_beta_is_the_configs():
    plant = Plant(2.5)
    TargetRate(plant, [0.1], 100).before_train()
    assert plant.betas == [pytest.approx(2.5)]
