"""Settings: what they refuse, the optimisers they make, how their schedules fall, and that training follows them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sylvester.models import HadamConfig, HadamModel
from sylvester.settings import Settings
from sylvester.tasks import Adding
from sylvester.training import train


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.inf},
        {"sign_learning_rate": -1.0},
        {"weight_decay": math.nan},
        {"clip_norm": 0.0},
        {"stages": 0},
        {"beta2": 1.0},
        {"optimizer": "sgd"},
        {"schedule": "linear"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Settings(**options)


def factors(schedule: str, **options: object) -> list[float]:
    settings = Settings(steps=100, decay=0.01, schedule=schedule, **options)
    return [settings.schedule_factor(step) for step in range(1, 102)]


def test_schedules_fall_from_1_to_the_decay() -> None:
    for schedule in ("exponential", "cosine", "step"):
        found = factors(schedule, stages=4)
        assert found[0] == 1 and found[100] == pytest.approx(0.01)
        assert all(before >= after for before, after in zip(found, found[1:], strict=False))
    assert set(factors("constant")) == {1.0}


def test_schedules_have_their_shapes() -> None:
    assert factors("exponential")[50] == pytest.approx(0.1)
    assert factors("cosine")[50] == pytest.approx(0.505)
    assert len({round(factor, 9) for factor in factors("step", stages=4)[:100]}) == 4
    assert factors("step", stages=4)[24] == 1 and factors("step", stages=4)[25] == pytest.approx(0.01**0.25)


@pytest.mark.parametrize(
    "optimizer, kind", [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("rmsprop", torch.optim.RMSprop)]
)
def test_optimizers_are_torchs(optimizer: str, kind: type) -> None:
    whole = HadamModel(HadamConfig(2, 8, 1))
    settings = Settings(optimizer=optimizer, weight_decay=0.2, beta2=0.7, learning_rate=0.3, sign_learning_rate=0.1)
    made = settings.make_optimizer(whole)
    assert type(made) is kind and made.defaults["weight_decay"] == 0.2
    assert 0.7 in (made.defaults.get("alpha"), made.defaults.get("betas", (0, 0))[1])
    assert [group["lr"] for group in made.param_groups] == [0.1, 0.3]
    assert made.param_groups[0]["params"] == [whole.recurrence.sign_latent]


def test_the_schedule_scales_every_rate() -> None:
    """RMSprop moves a lone parameter of constant gradient by its rate: after all steps by the sum of the factors."""
    settings = Settings(
        steps=8, batch_size=2, optimizer="rmsprop", beta2=0.0, learning_rate=0.25, schedule="step", stages=2
    )
    whole = Constant()
    train(whole, Slope(), settings)
    expected = 0.25 * sum(settings.schedule_factor(step) for step in range(1, 9))
    assert whole.weight.item() == pytest.approx(-expected, rel=1e-5)


def test_clipping_limits_the_whole_gradient() -> None:
    settings = Settings(steps=1, batch_size=2, clip_norm=0.5)
    whole = Constant()
    train(whole, Slope(), settings)
    assert whole.weight.grad.item() == pytest.approx(0.5, rel=1e-5)
    train(whole, Slope(), replace(settings, clip_norm=100.0))
    assert whole.weight.grad.item() == pytest.approx(3.0)


class Constant(torch.nn.Module):
    """One number, whatever comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.weight.expand(x.shape[1], 1), None

    def parameter_groups(self, learning_rate: float, sign_learning_rate: float) -> list[dict[str, object]]:
        return [{"params": [self.weight], "lr": learning_rate}]


class Slope(Adding):
    """A loss of slope 3, never solved."""

    def loss(self, output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 3 * output.mean()

    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        return False


class HalfSolved(Slope):
    """Solved with half of what is allowed, and no less."""

    def solved(self, loss: float, score: float, share: float = 1.0) -> bool:
        return share >= 0.5


@pytest.mark.parametrize("spare, steps", [(0.8, 4), (0.4, 12), (0.0, 12)])
def test_training_ends_when_the_task_is_solved_with_something_to_spare(spare: float, steps: int) -> None:
    settings = Settings(steps=12, batch_size=2, evaluate_every=4, evaluation_sequences=2, spare=spare)
    result = train(Constant(), HalfSolved(), settings)
    assert result.steps == steps and result.outcome == ("solved" if steps == 4 else "out of steps")
