"""The HadamRNN model, and directories it is saved in: whole, damaged, half-written, of another version."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sylvester import models
from sylvester.layers import HadamRNN
from sylvester.models import HadamConfig, HadamModel, ModelDirectoryError
from sylvester.ste import fake_quantize

CONFIG = HadamConfig(input_size=5, hidden_size=12, output_size=3, block_size=4, bits=4)


def model(config: HadamConfig = CONFIG) -> HadamModel:
    torch.manual_seed(0)
    return HadamModel(config)


@pytest.mark.parametrize("output_size", [3, 33])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "activation": "relu"}], ids=str)
def test_model_is_recurrence_relu_readout(output_size: int, options: dict) -> None:
    whole, x = model(HadamConfig(5, 12, output_size, block_size=4, **options)), torch.randn(6, 2, 5)
    logits, last = whole(x)
    states, expected_last = recurrence(whole)(x)
    weight, bias = parts_of_readout(whole)
    torch.testing.assert_close(logits, F.linear(F.relu(states), fake_quantize(weight, 4), bias))
    assert torch.equal(last, expected_last)
    assert logits.shape == (6, 2, output_size)
    assert last.shape == ((4 if options else 1), 2, 12)


def recurrence(whole: HadamModel) -> HadamRNN:
    """The model's recurrence without a read-out."""
    config = whole.config
    given = {"num_layers": config.num_layers, "bidirectional": config.bidirectional, "activation": config.activation}
    width = config.encoder_size or config.input_size
    bare = HadamRNN(width, config.hidden_size, **given, block_size=config.block_size, last_only=config.last_only)
    bare.load_state_dict({name: whole.recurrence.state_dict()[name] for name in bare.state_dict()})
    return bare


def parts_of_readout(whole: HadamModel) -> tuple[torch.Tensor, torch.Tensor]:
    if whole.readout is None:
        return whole.recurrence.weight_ho, whole.recurrence.bias_ho
    return whole.readout.weight, whole.readout.bias


def test_a_model_goes_on_from_its_last_state() -> None:
    whole, x = model(), torch.randn(6, 2, 5)
    continued, _ = whole(x[3:], whole(x[:3])[1])
    torch.testing.assert_close(continued, whole(x)[0][3:])
    cut, last = whole(x, None, torch.tensor([6, 3]))
    assert torch.equal(last[:, 1], whole(x[:3])[1][:, 1]) and not cut[3:, 1].any()


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_states_of_version_1_still_load(metadata: bool, inside: bool) -> None:
    """When every read-out stood beside the recurrence; a saved directory keeps no version."""
    whole = model(HadamConfig(5, 12, 3 if inside else 33, block_size=4, encoder_size=6))
    state = whole.state_dict()
    old = dict(zip(("recurrence.weight_ho", "recurrence.bias_ho"), ("readout.weight", "readout.bias"), strict=True))
    stored = OrderedDict((old.get(name, name), 2 * value) for name, value in state.items())
    if metadata:
        stored._metadata = copy.deepcopy(state._metadata)
        stored._metadata[""]["version"] = 1
    assert "readout.weight" in stored and not any("_ho" in name for name in stored)
    whole.load_state_dict(stored)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, stored[old.get(name, name)]), name
    stored.popitem()
    with pytest.raises(RuntimeError, match=r"Missing key.*(recurrence.bias_ho|readout.bias)"):
        whole.load_state_dict(stored)


def test_last_only_reads_out_the_last_state() -> None:
    config = HadamConfig(5, 8, 3, last_only=True, batch_first=True)
    logits, _ = model(config)(torch.randn(2, 6, 5))
    assert logits.shape == (2, 3)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "activation": "modrelu"}], ids=str)
def test_every_parameter_is_in_one_group(options: dict) -> None:
    whole = model(HadamConfig(5, 8, 3, **options))
    signs, others = whole.parameter_groups(1e-2, 1e-4)
    assert signs["lr"] == 1e-4 and others["lr"] == 1e-2
    grouped = [id(parameter) for group in (signs, others) for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, whole.parameters()))
    assert len(signs["params"]) == (4 if options else 1)
    assert all(parameter.shape == (8,) for parameter in signs["params"])


def test_packed_bytes_of_a_stack() -> None:
    whole = model(HadamConfig(5, 8, 3, num_layers=2, bidirectional=True, activation="modrelu"))
    weights = 2 * (8 * 5 + 8 * 16) + 3 * 16
    assert whole.packed_bytes() == (4 * 8 + 4 * weights + 32 * (2 * 4 * 8 + 3)) // 8


def test_an_encoder_drives_the_recurrence() -> None:
    whole, x = model(HadamConfig(5, 8, 3, encoder_size=6, last_only=True)), torch.randn(4, 2, 5)
    encoded = torch.relu(x @ whole.encoder.quantized_weight().t() + whole.encoder.bias)
    assert torch.equal(whole(x)[0], whole.recurrence(encoded)[0])
    assert whole.packed_bytes() == (8 + 4 * (6 * 5 + 8 * 6 + 3 * 8) + 32 * (6 + 8 + 3)) // 8
    grouped = [parameter for group in whole.parameter_groups(1e-2, 1e-4) for parameter in group["params"]]
    assert any(parameter is whole.encoder.weight for parameter in grouped)
    with pytest.raises(TypeError, match="must be floating point for a model with an encoder, got torch.int64"):
        whole(torch.zeros(4, 2, dtype=torch.int64))


def test_without_an_encoder_last_states_are_linear_in_the_input() -> None:
    """Why the adding problem needs one: the product of a number and its mark is no sum of what each does alone."""
    x, y = torch.randn(7, 1, 2), torch.randn(7, 1, 2)
    for encoder_size, linear in ((None, True), (16, False)):
        whole = model(HadamConfig(2, 16, 1, encoder_size=encoder_size))
        neither, one, other, both = (whole(z)[1] for z in (0 * x, x, y, x + y))
        assert torch.allclose(both - neither, (one - neither) + (other - neither), atol=1e-5) == linear


@pytest.mark.parametrize("bits, expected", [(4, 1780), (1, 16 + (10 + 9) * 128 // 4 + 548), (None, 16 + 9728 + 548)])
def test_packed_bytes_of_the_copy_model(bits: int | None, expected: int) -> None:
    assert model(HadamConfig(10, 128, 9, bits=bits)).packed_bytes() == expected


def test_saved_model_answers_alike(tmp_path: Path) -> None:
    whole, x = model(), torch.randn(6, 2, 5)
    models.save(whole, tmp_path / "a" / "b", task={"name": "copy", "length": 30})
    loaded, task = models.load(tmp_path / "a" / "b")
    assert loaded.config == CONFIG and task == {"name": "copy", "length": 30}
    assert not loaded.training
    assert torch.equal(loaded(x)[0], whole(x)[0])
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["config.json", "weights.safetensors"]


def test_saving_again_replaces(tmp_path: Path) -> None:
    models.save(model(), tmp_path)
    other = HadamModel(HadamConfig(5, 8, 3))
    models.save(other, tmp_path)
    assert models.load(tmp_path)[0].config == other.config


def test_only_known_models_are_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model must be one of hadam, .*, got Linear"):
        models.save(torch.nn.Linear(2, 2), tmp_path)


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    models.write_file(target, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        models.write_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def edited(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        described = json.loads((directory / "config.json").read_text())
        change(described)
        (directory / "config.json").write_text(json.dumps(described))

    return damage


def cut_weights(directory: Path) -> None:
    weights = directory / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])


def newer_weights(directory: Path) -> None:
    """As a save that was killed between its two files leaves it."""
    save_file(HadamModel(CONFIG).state_dict(), directory / "weights.safetensors")


def not_safetensors(directory: Path) -> None:
    from hashlib import sha256

    (directory / "weights.safetensors").write_bytes(b"nonsense")
    edited(lambda config: config.update(weights_sha256=sha256(b"nonsense").hexdigest()))(directory)


DAMAGES = {
    "no configuration": (lambda directory: (directory / "config.json").unlink(), "has no config.json"),
    "cut configuration": (lambda directory: (directory / "config.json").write_text('{"format": "syl'), "not JSON"),
    "binary configuration": (lambda directory: (directory / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "another format": (edited(lambda config: config.update(format="other")), "does not describe"),
    "a list": (lambda directory: (directory / "config.json").write_text("[]"), "does not describe"),
    "newer version": (edited(lambda config: config.update(version=2)), "version 2 of the format.*reads version 1"),
    "no version": (edited(lambda config: config.pop("version")), "version None"),
    "no model": (edited(lambda config: config.pop("model")), "'model' is missing"),
    "unknown model": (edited(lambda config: config.update(model="elman")), "'elman', known are hadam"),
    "wrong type": (edited(lambda config: config.update(config=[])), "'config' is missing or of the wrong type"),
    "unknown option": (edited(lambda config: config["config"].update(depth=2)), "do not make a model"),
    "missing option": (edited(lambda config: config["config"].pop("hidden_size")), "do not make a model"),
    "impossible option": (edited(lambda config: config["config"].update(block_size=5)), "do not make a model"),
    "option of a wrong type": (edited(lambda config: config["config"].update(hidden_size="x")), "do not make a model"),
    "other shape": (edited(lambda config: config["config"].update(hidden_size=16)), "do not make a model"),
    "no weights": (
        lambda directory: (directory / "weights.safetensors").unlink(),
        "weights.safetensors cannot be read",
    ),
    "cut weights": (cut_weights, "damaged or half-written"),
    "newer weights": (newer_weights, "damaged or half-written"),
    "not safetensors": (not_safetensors, "not a safetensors file"),
}


@pytest.mark.parametrize("damage, message", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_directories_are_explained(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    torch.manual_seed(1)
    models.save(HadamModel(CONFIG), tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelDirectoryError, match=message):
        models.load(tmp_path)


def test_missing_directories_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelDirectoryError, match="is not a directory"):
        models.load(tmp_path / "nowhere")
