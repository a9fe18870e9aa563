"""The digits: the division is fixed and fair, the permutation too, and nothing is lost on the way to a sequence."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from sklearn.datasets import load_digits

from sylvester.tasks import TEST, TRAINING, VALIDATION, Digits
from sylvester.tasks import digits as room

STREAMS = (TRAINING, VALIDATION, TEST)


def pixels(task: Digits, stream: int) -> list[bytes]:
    return [image.numpy().tobytes() for image in task.split(stream)[0].unbind(1)]


def test_the_parts_are_the_data_set() -> None:
    """Together every image once, each beside its own digit."""
    data = load_digits()
    images = (data.images.reshape(-1, 64) / 16).astype(numpy.float32)
    expected = sorted((image.tobytes(), digit) for image, digit in zip(images, data.target.tolist(), strict=True))
    task = Digits()
    found = [
        pair for stream in STREAMS for pair in zip(pixels(task, stream), task.split(stream)[1].tolist(), strict=True)
    ]
    assert sorted(found) == expected


def test_every_digit_has_its_share_of_every_part() -> None:
    counts = torch.stack([Digits().split(stream)[1].bincount() for stream in STREAMS]).double()
    shares = counts / counts.sum(0)
    expected = torch.tensor([[0.7], [0.1], [0.2]], dtype=torch.float64).expand_as(shares)
    torch.testing.assert_close(shares, expected, atol=0.005, rtol=0)


def test_the_division_stays_as_it_is() -> None:
    """Accuracies of different versions can be compared only while this holds."""
    firsts = [chosen[:6].tolist() for chosen in room._division(load_digits().target).values()]
    assert firsts == [[0, 1, 2, 4, 6, 8], [5, 16, 22, 26, 33, 44], [3, 7, 13, 19, 36, 38]]


def test_the_permutation_is_fixed_and_only_moves_pixels() -> None:
    rows, permuted = Digits(28), Digits(28, room.PERMUTATION)
    order = numpy.random.RandomState(92916).permutation(784)
    for stream in STREAMS:
        (inputs, targets), (moved, same) = rows.split(stream), permuted.split(stream)
        assert torch.equal(targets, same) and torch.equal(moved, inputs[order])
    assert not torch.equal(moved, inputs)
    assert order[:4].tolist() == [319, 576, 323, 107]


@pytest.mark.parametrize("side", room.SIDES)
def test_a_step_is_a_pixel_between_0_and_1(side: int) -> None:
    inputs, targets = Digits(side).split(TEST)
    assert inputs.shape == (side**2, len(targets), 1) and inputs.dtype == torch.float32 and inputs.is_contiguous()
    assert inputs.min() >= 0 and inputs.max() == 1
    assert targets.dtype == torch.int64


def test_enlarging_keeps_brightness_where_it_was() -> None:
    small, large = (Digits(side).split(TEST)[0].squeeze(-1).t().reshape(-1, side, side) for side in room.SIDES)
    torch.testing.assert_close(large.mean((1, 2)), small.mean((1, 2)), atol=0.01, rtol=0)
    halves = [image[:, : image.shape[1] // 2].mean((1, 2)) for image in (small, large)]
    torch.testing.assert_close(*halves, atol=0.02, rtol=0)


def test_a_pass_shows_every_image_once() -> None:
    task = Digits()
    draws, count = task.draws(0), len(task.split(TRAINING)[1])
    passes = [[image.numpy().tobytes() for image in draws.draw(count)[0].unbind(1)] for _ in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(pixels(task, TRAINING))
    assert passes[0] != passes[1]
    again = task.draws(0)
    pieces = [
        image.numpy().tobytes() for size in (100, count - 100, 3 * count) for image in again.draw(size)[0].unbind(1)
    ]
    assert pieces[: 2 * count] == passes[0] + passes[1]


def test_evaluation_sees_every_image_of_its_part_once() -> None:
    task = Digits()
    seen = [
        image.numpy().tobytes() for inputs, _ in task.examples(TEST, 9999, 100, seed=3) for image in inputs.unbind(1)
    ]
    assert seen == pixels(task, TEST)
    sizes = [len(targets) for _, targets in task.examples(TEST, 130, 100, seed=3)]
    assert sizes == [100, 30]


def test_score_and_verdict() -> None:
    task = Digits()
    targets = torch.arange(10)
    output = torch.eye(10)
    output[3] = output[4]
    assert task.score(output, targets) == pytest.approx(0.9)
    assert task.loss(torch.zeros(10, 10), targets).item() == pytest.approx(task.baseline) == pytest.approx(math.log(10))
    assert task.solved(9.0, 0.961) and not task.solved(0.0, 0.959)
    assert task.solved(9.0, 0.969, share=0.8) and not task.solved(0.0, 0.967, share=0.8)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="side must be 8 or 28, got 16"):
        Digits(16)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'sylvester\[digits\]'"):
        Digits()
