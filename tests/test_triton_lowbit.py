"""Laws of the low-bit kernels in Triton's interpreter that no single case shows. The cases run in test_triton.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import memory
from sylvester import ops
from sylvester.formats import _encoding
from sylvester.ops._spec import Make
from sylvester.ops.lowbit_matmul import _cases, _check

triton = pytest.importorskip("triton", reason="triton is not installed")
if not triton.knobs.runtime.interpret:
    reason = "a GPU is present, so Triton compiles; TRITON_INTERPRET=1 pytest tests/test_triton_lowbit.py runs these"
    pytest.skip(reason, allow_module_level=True)

from sylvester.kernels import _early, _interpreter, lowbit_matmul  # noqa: E402
from sylvester.kernels._lowbit_layout import format_of  # noqa: E402

_interpreter.repair()

ENCODINGS = (0, 1, 2, 4, 8, 9)
"""The others are stored as these are."""
LAUNCHERS = ops.lowbit_matmul.SPECS[0].launchers


def codes_of(encoding: int, rows: int, columns: int) -> torch.Tensor:
    return _cases.draw_codes(Make.seeded(5, torch.float32), encoding, rows, columns)


def product(x: torch.Tensor, codes: torch.Tensor, encoding: int, exact: bool = False) -> torch.Tensor:
    """x in codes has the scales 1."""
    x_scale = None if x.is_floating_point() else torch.ones(x.shape[:-1])
    layout = lowbit_matmul.lowbit_layout_codes(codes, encoding)
    scale = torch.ones(())
    return lowbit_matmul.lowbit_matmul(x, x_scale, layout, scale, None, None, encoding, len(codes), exact)


def digits(layout: torch.Tensor, encoding: int, columns: int) -> torch.Tensor:
    """Codes read off the drawing of the layout, one field after another."""
    form, u = format_of(encoding), layout.int()
    if form.fields == 5:
        planes = [u * 3**f % 256 * 3 // 256 for f in range(5)]
    else:
        bits = 8 // form.fields
        planes = [u >> f * bits & (1 << bits) - 1 for f in range(form.fields)]
    codes = form.mult * torch.cat(planes, 1)[:, :columns] - form.zero
    return codes.to(torch.int8)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_layout_is_as_drawn(encoding: int) -> None:
    """From codes and from storage; zeros where K ends, so that what is read there adds nothing."""
    codes = codes_of(encoding, 5, 211)
    layout = LAUNCHERS["lowbit_layout_codes"](codes, encoding)
    assert torch.equal(digits(layout, encoding, 211), codes)
    assert torch.equal(LAUNCHERS["lowbit_layout"](_encoding.pack(codes, encoding), encoding, 211), layout)
    assert tuple(layout.shape) == _check.layout_shape(encoding, 5, 211, gpu=True)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wrong_codes_are_named(encoding: int) -> None:
    e = _encoding.ENCODINGS[encoding]
    codes = codes_of(encoding, 18, 41)
    wrong = codes.clone()
    if encoding != 8:
        wrong[17, 40] = 0 if e.step == 2 else e.highest + 1
        with pytest.raises(ValueError, match="in row 17 at 40"):
            LAUNCHERS["lowbit_layout_codes"](wrong, encoding)
    packed = _encoding.pack(codes, encoding)
    if encoding in (1, 9):
        packed[3, 2] = 0xFF
        with pytest.raises(ValueError, match=f"in row 3 at {2 * e.fields}"):
            LAUNCHERS["lowbit_layout"](packed, encoding, 41)
    if 41 % e.fields:
        packed = _encoding.pack(codes, encoding)
        packed[4, -1] += 3 if encoding == 9 else 1 << 8 - 8 // e.fields
        with pytest.raises(ValueError, match="padding"):
            LAUNCHERS["lowbit_layout"](packed, encoding, 41)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_codes_have_the_sums_of_integers(encoding: int) -> None:
    """One row by words and many by tiles, with the largest codes there are; K ends inside a word and inside a tile."""
    codes = codes_of(encoding, 17, 581)
    x = codes_of(8, 5, 581)
    x[0], x[1] = -128, 127
    want = (x.long() @ codes.long().t()).float()
    assert torch.equal(product(x, codes, encoding), want)
    assert torch.equal(product(x[0], codes, encoding), want[0])
    assert torch.equal(product(x[1:3], codes, encoding), want[1:3])


def test_rows_that_need_no_copy() -> None:
    """Codes of the layout's width are multiplied where they lie, also in two tiles of words."""
    for encoding in (1, 9):
        columns = 2112 * format_of(encoding).fields
        codes, x = codes_of(encoding, 3, columns), codes_of(8, 1, columns)
        assert torch.equal(product(x, codes, encoding), (x.long() @ codes.long().t()).float())


@pytest.mark.parametrize("activation", ["int8", "float"])
def test_row_has_its_bits_in_any_batch(activation: str) -> None:
    codes, m = codes_of(1, 19, 150), Make.seeded(1, torch.float32)
    x, exact = m.normal(35, 150), activation == "float"
    together = product(x, codes, 1, exact)
    for rows in (slice(3, 4), slice(3, 5), slice(2, 22)):
        assert torch.equal(product(x[rows], codes, 1, exact), together[rows])


def test_quantised_rows_are_those_of_the_cpu() -> None:
    """Halves between codes, largest and smallest rows: without a bias the product is exact, so bits are equal."""
    x = Make.seeded(2, torch.float32).normal(6, 37)
    x[0] = torch.arange(37) - 18.5  # times 127 / 18.5: many fall near a half
    x[1, 1:] = x[1, 1:].clamp(-1, 1)
    x[1, 0], x[2], x[3] = 127.0, x[2] * 2.0**120, x[3] * 2.0**-99
    codes, scale = codes_of(4, 21, 37), Make.seeded(3, torch.float32).normal(21)
    call = torch.ops.sylvester.lowbit_matmul
    cpu = call(x, None, torch.ops.sylvester.lowbit_layout_codes(codes, 4), scale, None, None, 4, 21, False)
    layout = lowbit_matmul.lowbit_layout_codes(codes, 4)
    for rows in (slice(0, 6), slice(1, 2), slice(2, 4)):
        got = lowbit_matmul.lowbit_matmul(x[rows], None, layout, scale, None, None, 4, 21, False)
        assert torch.equal(got, cpu[rows])


def test_floats_keep_their_24_bits() -> None:
    """Parts of 8 bits hold them all: a sum of one product is exact. Infinity has no rest, the largest stays finite."""
    largest = torch.finfo(torch.float32).max
    x = torch.tensor([[1 + 2.0**-23], [-largest], [2.0**-100], [torch.inf], [torch.nan], [1 - 2.0**-24]])
    ones = torch.ones(2, 1, dtype=torch.int8)
    y = product(x, ones, 8, exact=True)
    assert torch.equal(y[[0, 1, 2, 3, 5]], x[[0, 1, 2, 3, 5]].expand(5, 2)) and y[4].isnan().all()


def test_everything_is_written_and_nothing_else_read() -> None:
    """Fresh memory is full of ones; x and scale have NaN and codes around them."""
    for encoding, rows, exact in ((1, 1, False), (9, 2, False), (0, 5, False), (4, 5, True)):
        codes, m = codes_of(encoding, 7, 90), Make.seeded(rows, torch.float32)
        arguments: Any = (m.normal(rows, 90), codes, encoding, exact)
        clean = product(*arguments)
        shifted, _ = memory.guarded(arguments[0], torch.nan)
        around, _ = memory.guarded(codes, 1.0)
        with memory.poisoned():
            assert torch.equal(product(shifted, around, encoding, exact), clean)


def test_weights_are_settled_by_a_launch_until_they_are_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only then a kernel may read them while the one before is still running; a captured launch has not run."""
    weights, captured = torch.zeros(4), torch.zeros(4)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert [_early.settled(weights) for _ in range(3)] == [False, True, True]
    weights.add_(1)
    assert [_early.settled(weights) for _ in range(2)] == [False, True]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert _early.settled(weights) and not any(_early.settled(captured) for _ in range(2))
    known = len(_early._settled)
    del weights
    assert len(_early._settled) == known - 1
