"""Weights trained by the authors of HadamRNN with their own code, as a ``HadamModel``.

Their single-layer models (class BinadamSSM of https://github.com/deel-ai-papers/hadamRNN, commit 69759a7), as
``torch.save(model.state_dict(), ...)`` of their training script leaves them:

    name                                                    shape
    input_layer.parametrizations.weight.original            (D,I)  latent U    → weight_ih
    recurrent_layer.sign_vector                             (1,D)  latent u    → sign_latent
    recurrent_layer.bias                                    (D)    b_i         → bias
    output_layer.parametrizations.weight.original           (O,D)  latent V    → read-out weight
    output_layer.bias                                       (O)    b_o         → read-out bias
    recurrent_layer.parametrizations.weight.0.sign_vector   (1,D)  u once more
    recurrent_layer.parametrizations.weight.original        (D,D)  never used, left out

In full precision (their NUM_BITS null) the two matrices are named ``input_layer.weight`` and ``output_layer.weight``.
The names were read in that code; no file of trained weights was found to try them on. Two things differ: their
sign of 0 is 0, so a 0 in u is refused here, and a weight halfway between two codes up to float32's rounding may get
the other code, since they multiply by c/alpha where ``fake_quantize`` divides first.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .hadam import HadamConfig, HadamModel

SIGN_VECTOR = "recurrent_layer.sign_vector"
AGAIN = "recurrent_layer.parametrizations.weight.0.sign_vector"
UNUSED = "recurrent_layer.parametrizations.weight.original"

REASONS = {
    "word_embedding": "the model begins behind the embedding: leave it out and apply torch.nn.functional.embedding",
    "input_layer_2": "it belongs to the second layer of single_layer=False, whose dense binary matrix has no like here",
    "recurrent_layer_2": "it belongs to the second layer of single_layer=False",
}
"""Part of their model -> why it is not taken."""


def from_reference(
    state: Mapping[str, Tensor],
    *,
    block_size: int | None = None,
    bits: int | None = 4,
    last_only: bool = False,
    batch_first: bool = True,
) -> HadamModel:
    """A model, in evaluation mode, with the weights of ``state``, the state_dict of the authors' model.

    What their configuration file states and the weights do not show has to be given: block_size is 2^k for
    BASIC_BLOCK k and None for 'full', bits is NUM_BITS (QOUTPUT true), last_only is MANYTOMANY false. Their inputs
    are (B,T,I).

    Raises ValueError for a tensor that is missing, left over or of a wrong shape, naming it.
    """
    kept = "weight" if bits is None else "parametrizations.weight.original"
    names = {
        f"input_layer.{kept}": "weight_ih",
        SIGN_VECTOR: "sign_latent",
        "recurrent_layer.bias": "bias",
        f"output_layer.{kept}": "weight_ho",
        "output_layer.bias": "bias_ho",
    }
    _check_names(state, names, bits)
    inputs, hidden, outputs = _sizes(state, names)
    config = HadamConfig(
        inputs, hidden, outputs, block_size=block_size, bits=bits, last_only=last_only, batch_first=batch_first
    )
    model = HadamModel(config)
    own = {f"recurrence.{name}": state[theirs] for theirs, name in names.items()}
    own["recurrence.sign_latent"] = state[SIGN_VECTOR].view(-1)
    if model.readout is not None:
        own["readout.weight"], own["readout.bias"] = own.pop("recurrence.weight_ho"), own.pop("recurrence.bias_ho")
    model.load_state_dict(own)
    return model.eval()


def _check_names(state: Mapping[str, Tensor], names: Mapping[str, str], bits: int | None) -> None:
    for name in names:
        if name not in state:
            raise ValueError(f"{name} is missing; with bits={bits} the weights are {', '.join(names)}")
    for name in state:
        if name not in (*names, AGAIN, UNUSED):
            reason = REASONS.get(name.partition(".")[0], f"the weights are {', '.join(names)}")
            raise ValueError(f"{name} is left over; {reason}")


def _sizes(state: Mapping[str, Tensor], names: Mapping[str, str]) -> tuple[int, int, int]:
    """I, D and O, once every shape agrees with them."""
    matrices = [state[name] for name in names if name.startswith(("input", "output")) and "bias" not in name]
    if any(matrix.dim() != 2 for matrix in matrices):
        got = " and ".join(str(tuple(matrix.shape)) for matrix in matrices)
        raise ValueError(f"input and output weights must have shapes (D,I) and (O,D), got {got}")
    (hidden, inputs), outputs = matrices[0].shape, len(matrices[1])
    shapes = [(hidden, inputs), (1, hidden), (hidden,), (outputs, hidden), (outputs,)]
    for name, shape in [*zip(names, shapes, strict=True), (AGAIN, (1, hidden)), (UNUSED, (hidden, hidden))]:
        if name in state and state[name].shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(state[name].shape)}")
    if AGAIN in state and not state[AGAIN].equal(state[SIGN_VECTOR]):
        raise ValueError(f"{AGAIN} must be equal to {SIGN_VECTOR}: they are one parameter")
    if not state[SIGN_VECTOR].all():
        raise ValueError(f"{SIGN_VECTOR} holds a 0, whose sign is 0 there and deletes a state; there is none such here")
    return inputs, hidden, outputs
