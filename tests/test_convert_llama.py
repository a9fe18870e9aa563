"""A Llama, tiny and random, goes through convert: it generates as its dequantised dense twin does."""

from __future__ import annotations

import copy
import os
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

import sylvester
from sylvester.layers import QuantLinear, TernaryLinear

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: the model is made of its configuration


@pytest.fixture(scope="module")
def llama() -> Any:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    return transformers.LlamaForCausalLM(config).eval()


TOKENS = torch.arange(12).view(2, 6) * 7 % 97


def keep_head(name: str, module: nn.Module) -> bool:
    return name != "lm_head"


def generated(model: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, and the logits that chose each of them."""
    mask = torch.ones_like(TOKENS)
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    out = model.generate(TOKENS, attention_mask=mask, **options, output_logits=True, return_dict_in_generate=True)
    return out.sequences, torch.stack(out.logits)


def dense_twin(model: nn.Module) -> nn.Module:
    """Every converted layer is a plain nn.Linear of its dequantised weight again."""
    twin = copy.deepcopy(model)
    for name, layer in [(n, m) for n, m in twin.named_modules() if isinstance(m, TernaryLinear | QuantLinear)]:
        linear = nn.Linear(layer.in_features, layer.out_features, bias=False)
        linear.weight = nn.Parameter(layer.quantized_weight().detach())
        twin.set_submodule(name, linear)
    return twin


@pytest.mark.parametrize(
    "make",
    [partial(TernaryLinear, activation="float"), partial(QuantLinear, bits=4, per_row=True)],
    ids=["ternary", "int4"],
)
def test_it_generates_as_the_dequantised_dense_model(llama: Any, make: Any) -> None:
    model = copy.deepcopy(llama)
    report = sylvester.convert(model, {nn.Linear: make}, filter=keep_head)
    assert len(report.changes) == 14 and report.bytes_frozen < 0.3 * report.bytes_before
    expected = generated(dense_twin(model))
    for state in (model, sylvester.freeze(model)):
        tokens, logits = generated(state)
        assert torch.equal(tokens, expected[0])
        torch.testing.assert_close(logits, expected[1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected[1], generated(llama)[1], atol=0.1)  # it is another model than the given one


def test_frozen_integers_generate_as_learning_ones(llama: Any) -> None:
    model = copy.deepcopy(llama)
    sylvester.convert(model, {nn.Linear: TernaryLinear}, filter=keep_head, rotate=32)
    expected = generated(model)
    for got, wanted in zip(generated(sylvester.freeze(model)), expected, strict=True):
        assert torch.equal(got, wanted)
    fresh = copy.deepcopy(llama)
    sylvester.convert(fresh, {nn.Linear: TernaryLinear}, filter=keep_head, rotate=32)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(generated(fresh)[1], expected[1])


def test_rotated_is_unrotated_before_quantisation(llama: Any) -> None:
    model = copy.deepcopy(llama)
    sylvester.convert(model, {nn.Linear: partial(QuantLinear, bits=None)}, rotate=32)
    with torch.no_grad():
        assert (model(TOKENS).logits - llama(TOKENS).logits).abs().max() < 1e-3


def test_a_tied_head_is_refused_by_name(llama: Any) -> None:
    config = copy.deepcopy(llama.config)
    config.tie_word_embeddings = True
    model = type(llama)(config)
    with pytest.raises(
        ValueError, match=r"lm_head cannot be converted: its parameter is also model.embed_tokens.weight"
    ):
        sylvester.convert(model, {nn.Linear: TernaryLinear})
    assert len(sylvester.convert(model, {nn.Linear: TernaryLinear}, filter=keep_head).changes) == 14


def test_it_learns(llama: Any) -> None:
    model = copy.deepcopy(llama).train()
    sylvester.convert(model, {nn.Linear: TernaryLinear}, filter=keep_head, rotate=32)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = model(TOKENS, labels=TOKENS).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
