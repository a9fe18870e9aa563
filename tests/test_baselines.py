"""torch's own recurrent networks as models: what they compute, what they cost, how they are saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sylvester import models
from sylvester.models import BaselineConfig

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
every_baseline = pytest.mark.parametrize("name", GATES)


def model(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return models.build(name, **{"input_size": 5, "hidden_size": 7, "output_size": 3, **options})


@every_baseline
def test_model_is_torchs_layer_and_a_readout(name: str) -> None:
    whole, x = model(name), torch.randn(6, 2, 5)
    output, last = whole(x)
    states, expected = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name].forward(
        whole.recurrence, x
    )
    assert torch.equal(output, states @ whole.readout.weight.t() + whole.readout.bias)
    assert torch.equal(torch.cat(list(last)), torch.cat(list(expected)))
    continued, _ = whole(x[3:], whole(x[:3])[1])
    torch.testing.assert_close(continued, output[3:])


@every_baseline
def test_tokens_are_one_hot_vectors(name: str) -> None:
    whole, tokens = model(name), torch.randint(5, (6, 2))
    assert torch.equal(whole(tokens)[0], whole(F.one_hot(tokens, 5).float())[0])


@every_baseline
@pytest.mark.parametrize("batch_first", [False, True])
def test_last_only_is_the_last_of_all(name: str, batch_first: bool) -> None:
    x = torch.randn(6, 2, 5)
    x = x.transpose(0, 1) if batch_first else x
    every, _ = model(name, batch_first=batch_first)(x)
    last, _ = model(name, batch_first=batch_first, last_only=True)(x)
    torch.testing.assert_close(last, every[:, -1] if batch_first else every[-1])


@every_baseline
def test_every_parameter_is_trained_and_counted(name: str) -> None:
    whole = model(name)
    (group,) = whole.parameter_groups(1e-2, 1e-4)
    assert group["lr"] == 1e-2 and list(map(id, group["params"])) == list(map(id, whole.parameters()))
    assert whole.packed_bytes() == 4 * (GATES[name] * (7 * 5 + 7 * 7 + 2 * 7) + 3 * 7 + 3)


@every_baseline
def test_saved_baseline_answers_alike(name: str, tmp_path: Path) -> None:
    whole, x = model(name, num_layers=2, last_only=True), torch.randn(6, 2, 5)
    models.save(whole, tmp_path)
    loaded, _ = models.load(tmp_path)
    assert models.name_of(loaded) == name and loaded.config == BaselineConfig(5, 7, 3, num_layers=2, last_only=True)
    assert torch.equal(loaded(x)[0], whole(x)[0])


@pytest.mark.parametrize("option", ["input_size", "hidden_size", "output_size", "num_layers"])
def test_impossible_sizes_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        model("gru", **{option: 0})


def test_a_model_refuses_options_it_has_not() -> None:
    with pytest.raises(ValueError, match="lstm has no bits; its options are input_size, hidden_size"):
        model("lstm", bits=4)
    with pytest.raises(ValueError, match="must be one of hadam, block-hadam, rnn, lstm, gru, got 'elman'"):
        model("elman")


def test_block_hadam_needs_its_block() -> None:
    whole = model("block-hadam", hidden_size=12, block_size=4)
    assert models.name_of(whole) == "block-hadam" and whole.recurrence.block_size == 4
    with pytest.raises(ValueError, match="block_size must be given for block-hadam"):
        model("block-hadam", hidden_size=12)
