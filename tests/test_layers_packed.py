"""Sequences of several lengths in one call: by ``lengths``, and packed as nn.RNN takes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence, pad_sequence, unpack_sequence

from sylvester.layers import HadamRNN

LENGTHS = [4, 9, 1, 9, 6]
OPTIONS = [
    {},
    {"batch_first": True},
    {"num_layers": 2, "bidirectional": True, "activation": "relu"},
    {"num_layers": 2, "bidirectional": True, "output_size": 3, "batch_first": True},
]
every_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def batch(tokens: bool, descending: bool) -> list[Tensor]:
    lengths = sorted(LENGTHS, reverse=True) if descending else LENGTHS
    return [torch.randint(0, 5, (length,)) if tokens else torch.randn(length, 5) for length in lengths]


@every_option
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("last_only", [False, True])
def test_lengths_end_each_sequence_by_itself(options: dict, tokens: bool, last_only: bool) -> None:
    layer, sequences = HadamRNN(5, 16, **options, last_only=last_only), batch(tokens, descending=False)
    h0 = torch.randn(layer.num_layers * layer.directions, 5, 16)
    x = pad_sequence(sequences, layer.batch_first, padding_value=3)
    output, last = layer(x, h0, torch.tensor(LENGTHS))
    outputs = output if layer.batch_first or last_only else output.transpose(0, 1)
    for row, sequence in enumerate(sequences):
        alone, end = layer(sequence, h0[:, row])
        assert torch.equal(last[:, row], end)
        assert torch.equal(outputs[row] if last_only else outputs[row, : len(sequence)], alone)
        assert last_only or not outputs[row, len(sequence) :].any()


@every_option
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_sequences_are_answered_as_by_nn_rnn(options: dict, tokens: bool, enforce_sorted: bool) -> None:
    layer, sequences = HadamRNN(5, 16, **options), batch(tokens, descending=enforce_sorted)
    packed = pack_sequence(sequences, enforce_sorted)
    h0 = torch.randn(layer.num_layers * layer.directions, 5, 16)
    for given in ((), (h0,)):
        output, last = layer(packed, *given)
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, packed.batch_sizes)
        for own, theirs in zip(output[2:], packed[2:], strict=True):
            assert own is theirs
        for row, (sequence, answer) in enumerate(zip(sequences, unpack_sequence(output), strict=True)):
            alone, end = layer(sequence, *(start[:, row] for start in given))
            assert torch.equal(answer, alone) and torch.equal(last[:, row], end)


@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packing_is_read_as_nn_rnn_reads_it(enforce_sorted: bool) -> None:
    """Against nn.RNN itself, made linear by keeping its states small, with W of the layer."""
    layer, model = HadamRNN(5, 16, input_bits=None, dtype=torch.float64), nn.RNN(5, 16, dtype=torch.float64)
    with torch.no_grad():
        model.weight_hh_l0.copy_(layer.weight)
        model.weight_ih_l0.copy_(layer.weight_ih)
        model.bias_ih_l0.zero_()
        model.bias_hh_l0.copy_(layer.bias.mul_(1e-5))
    packed = pack_sequence([1e-5 * part.double() for part in batch(False, enforce_sorted)], enforce_sorted)
    h0 = 1e-5 * torch.randn(1, 5, 16, dtype=torch.float64)
    (output, last), (expected, expected_last) = layer(packed, h0), model(packed, h0)
    torch.testing.assert_close(1e5 * output.data, 1e5 * expected.data, rtol=0, atol=1e-6)
    torch.testing.assert_close(1e5 * last, 1e5 * expected_last, rtol=0, atol=1e-6)
    assert torch.equal(pad_packed_sequence(output)[1], pad_packed_sequence(expected)[1])


@every_option
def test_last_only_answers_a_packed_batch_with_plain_rows(options: dict) -> None:
    layer, sequences = HadamRNN(5, 16, **options, last_only=True), batch(False, descending=False)
    output, last = layer(pack_sequence(sequences, enforce_sorted=False))
    expected = [layer(sequence) for sequence in sequences]
    assert torch.equal(output, torch.stack([end for end, _ in expected]))
    assert torch.equal(last, torch.stack([state for _, state in expected], dim=1))


def test_gradients_pass_through_packing() -> None:
    layer = HadamRNN(5, 8, 2, bidirectional=True, dtype=torch.float64)
    sequences = [part.double().requires_grad_() for part in batch(False, descending=False)]
    inputs = [*sequences, *layer.parameters()]
    packed = layer(pack_sequence(sequences, enforce_sorted=False))
    got = torch.autograd.grad(packed[0].data.square().sum() + packed[1].sum(), inputs)
    alone = [layer(sequence) for sequence in sequences]
    expected = torch.autograd.grad(sum(output.square().sum() + last.sum() for output, last in alone), inputs)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


MISUSES = {
    "both": (lambda call, x: call(x, None, torch.tensor(LENGTHS)), "lengths must be left out with a PackedSequence"),
    "h0 of other rows": (lambda call, x: call(x, torch.zeros(1, 4, 8)), r"h0 must have shape \(1, 5, 8\)"),
    "width": (lambda call, x: call(x._replace(data=x.data[:, :4])), "x must have width input_size = 5"),
    "dtype": (lambda call, x: call(x.double()), "x must have the dtype of the layer's parameters"),
}


@pytest.mark.parametrize("call, message", MISUSES.values(), ids=MISUSES.keys())
def test_misuse_is_explained(call: object, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(HadamRNN(5, 8), pack_sequence(batch(False, descending=False), enforce_sorted=False))
