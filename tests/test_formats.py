"""Laws of the packed formats: round trips, alphabets, lengths, the same bytes by the library and in plain PyTorch."""

from __future__ import annotations

import statistics
import time
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sylvester.formats import _encoding, binary, intn, ternary, trits
from sylvester.ops._spec import Make
from sylvester.ops.lowbit_matmul._cases import draw_codes

every_encoding = pytest.mark.parametrize("encoding", sorted(_encoding.ENCODINGS))
LEAST_SPEED = 1e9
"""int8 codes a second, on one thread."""


def codes_of(encoding: int, *shape: int) -> torch.Tensor:
    return draw_codes(Make.seeded(encoding, torch.float32), encoding, *shape)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(_encoding.ENCODINGS)), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 70))
def test_round_trip(encoding: int, lead: list[int], columns: int) -> None:
    codes, e = codes_of(encoding, *lead, columns), _encoding.ENCODINGS[encoding]
    packed = _encoding.pack(codes, encoding)
    assert packed.dtype == torch.uint8 and packed.shape == (*lead, e.packed_bytes(columns))
    assert torch.equal(_encoding.unpack(packed, encoding, columns), codes)
    assert torch.equal(_encoding.plain_pack(codes, encoding), packed)
    assert torch.equal(_encoding.plain_unpack(packed, encoding, columns), codes)


@every_encoding
def test_every_byte_is_a_value_or_refused(encoding: int) -> None:
    """pack(unpack(p)) = p for the bytes that unpack takes, and it takes as many as there are values."""
    e, taken = _encoding.ENCODINGS[encoding], 0
    for byte in torch.arange(256, dtype=torch.uint8).split(1):
        try:
            codes = _encoding.unpack(byte, encoding, e.fields)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error).split("must hold")[1].strip()):
                _encoding.plain_unpack(byte, encoding, e.fields)
            continue
        taken += 1
        assert torch.equal(_encoding.pack(codes, encoding), byte)
    alphabet = 2 if encoding == _encoding.BINARY else e.highest - e.lowest + 1
    assert taken == alphabet**e.fields


@pytest.mark.parametrize("plain", [False, True])
@every_encoding
def test_what_fills_up_a_row_is_checked(encoding: int, plain: bool) -> None:
    e = _encoding.ENCODINGS[encoding]
    if e.fields == 1:
        return
    unpack = _encoding.plain_unpack if plain else _encoding.unpack
    packed = _encoding.pack(codes_of(encoding, 3, e.fields), encoding)
    packed[:, 0] = _encoding.pack(torch.full((e.fields,), e.highest, dtype=torch.int8), encoding)
    with pytest.raises(ValueError, match=f"ends .*row.* with other bits than the padding of {e.name}"):
        unpack(packed, encoding, e.fields - 1)


@pytest.mark.parametrize(("module", "bits", "value"), [
    (ternary, (), 2), (ternary, (), -2), (trits, (), 2), (binary, (), 0), (binary, (), 3),
    (intn, (2,), 2), (intn, (2,), -3), (intn, (3,), 4), (intn, (5,), -17), (intn, (7,), 64),
])  # fmt: skip
def test_pack_names_the_first_value_outside(module: ModuleType, bits: tuple[int, ...], value: int) -> None:
    codes = torch.ones(2, 3, 20, dtype=torch.int8)
    codes[1, 0, 17] = codes[1, 2, 3] = value
    (encoding,) = bits or (getattr(_encoding, module.__name__.rpartition(".")[2].upper()),)
    for pack, arguments in ((module.pack, bits), (_encoding.plain_pack, (encoding,))):
        with pytest.raises(ValueError, match=rf"codes must hold .*got {value} in row 3 at 17"):
            pack(codes, *arguments)


def test_layouts_are_as_drawn() -> None:
    eight = torch.tensor([-1, 0, 1, 1, -1, 1], dtype=torch.int8)
    assert ternary.pack(eight).tolist() == [0b10_10_01_00, 0b01_01_10_00]
    assert trits.pack(eight).tolist() == [0 + 3 * 1 + 9 * 2 + 27 * 2 + 81 * 0, 2 + 3 + 9 + 27 + 81]
    assert binary.pack(torch.tensor([1, -1, -1, 1, 1], dtype=torch.int8)).tolist() == [0b11001]
    assert intn.pack(torch.tensor([-2, 1, 0], dtype=torch.int8), 2).tolist() == [0b10_10_11_00]
    assert intn.pack(torch.tensor([-8, 7, 1], dtype=torch.int8), 4).tolist() == [0xF0, 0x89]
    assert intn.pack(torch.tensor([-128, 127], dtype=torch.int8), 8).tolist() == [0, 255]


def test_bytes_stated_and_stored() -> None:
    assert [intn.packed_bytes(12, bits) for bits in range(2, 9)] == [3, 6, 6, 12, 12, 12, 12]
    assert [intn.stated_bytes(12, bits) for bits in range(2, 9)] == [3, 4.5, 6, 7.5, 9, 10.5, 12]
    assert (ternary.packed_bytes(13), trits.packed_bytes(13), binary.packed_bytes(13)) == (4, 3, 2)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"codes must be a dense tensor of dtype int8, got .*float32"):
        ternary.pack(torch.ones(4))
    with pytest.raises(TypeError, match=r"packed must be a dense tensor of dtype uint8, got list"):
        binary.unpack([1], 8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"codes must have at least one dimension"):
        trits.pack(torch.ones((), dtype=torch.int8))
    with pytest.raises(ValueError, match=r"must have 3 bytes a row for 11 ternary codes, got 4"):
        ternary.unpack(torch.ones(2, 4, dtype=torch.uint8), 11)
    for bits in (1, 9, 4.0, True):
        with pytest.raises(ValueError, match="bits must be an integer from 2 to 8"):
            intn.pack(torch.ones(4, dtype=torch.int8), bits)  # type: ignore[arg-type]


@every_encoding
def test_speed(encoding: int) -> None:
    """A billion weights a second each way on one thread, in the fastest of several runs: others use the machine too."""
    torch.set_num_threads(1)
    codes = codes_of(encoding, 512, 4096)
    packed = _encoding.pack(codes, encoding)
    for call in (lambda: _encoding.pack(codes, encoding), lambda: _encoding.unpack(packed, encoding, 4096)):
        seconds = []
        for _ in range(15):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
        assert codes.numel() / min(seconds) >= LEAST_SPEED, f"{codes.numel() / statistics.median(seconds):.3g} a second"
