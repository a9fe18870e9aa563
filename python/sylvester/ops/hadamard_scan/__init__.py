"""The recurrence of HadamRNN over a whole sequence in one call, and one step of it.

    h_t = s ∘ S̃ h_{t-1} + z_t + b,   S̃ = 2^(-k/2) (I_q ⊗ S),   S the Sylvester matrix of size 2^k = block_size

    T steps, B rows, D = q · block_size states, I inputs, V tokens. Any strides; T and B may be 0.

    drive    (T, B, D)  weight None: z_t itself (given)
             (T, B, I)  weight (D, I), dtype of drive: z_t = weight · x_t (fused)
             (T, B)     int32, int64 or uint8; weight (V, D): z_t = weight[token] (tokens, as in nn.Embedding)
    sign     (D,)       s: values -1 and +1 in any float dtype
    bias     (D,)       b: any float dtype; None: zeros
    h0       (B, D)     state before the first step; None: zeros
    output   (T, B, D)  h_t at its own t; with last_only (B, D), the last state (in float32 and float64 ``last`` itself)
    last     (B, D)     state after the last step that ran (h0 or zeros where T = 0)

    lengths  (B,)       int64 or int32, 0 to T: the steps of each row; its output is 0 after them. None: T for all
    readout  (readout_weight (O, D), readout_bias (O,) or None), O up to 32, any float dtype: output is
                        y_t = readout_weight · max(h_t, 0) + readout_bias, (T, B, O), with last_only (B, O)

    batch_first  drive and output are (B, T, ·)
    reverse      t runs from T - 1, or the row's length - 1, down to 0, so last is the state at t = 0
    activation   "identity" · "relu": h_t = max(a_t, 0) · "modrelu": h_t = sgn(a_t) max(|a_t| + act_bias, 0), act_bias
                 (D,), sgn(0) = 0; a_t = s ∘ S̃ h_{t-1} + z_t + b
    plan         "scan" · "basis" (_basis.py) · "chunked" (_chunked.py): how it is evaluated

    drive, weight      sign, bias   computes in   output         h0, last
    float32            any float    float32       float32        float32
    bfloat16, float16  any float    float32       rounded once   float32
    float64            any float    float64       float64        float64

hadamard_step: one step, the same bits as the scan; drive loses its T axis, h is h0, the new state comes back.

Cost: drive read once, output written once (T·B·D, or B·D); D·(k + 3) additions and multiplications a row and step,
2·D·I more when fused, 2·D·O with a read-out. With last_only or readout nothing of size T·B·D exists, in the backward
neither.
Determinism: the same bits for any thread count, level and batch: a row does not depend on the rows beside it.
Error: W = diag(s) S̃ is orthogonal, so a rounding error keeps its length: errors of T steps add like random numbers,
relative to the largest state. W has the eigenvalue 1: a bias or constant input makes |h| grow like T.
Gradient: s Wᵀ s = W, so the adjoint λ_t = g_t + S̃ (s ∘ λ_{t+1}) is the same scan backwards, and states are rebuilt
by h_{t-1} = S̃ (s ∘ (h_t - z_t - b)) from the last one and one checkpoint every 64 steps, or read from a full-precision
output. Only the gradients of sign and through a read-out need them. With an activation, which cannot be undone, 64
states at a time are computed again from their checkpoint. First derivatives only.
Source: arXiv 2502.00047; modReLU: 1511.06464. The sign flip comes after the transform; the scale is 1/sqrt(2^k).

Read on: _reference.py, _check.py, _function.py (public functions), _registration.py (fakes, GPU, autograd),
_basis.py (the same of plan="basis"), _chunked.py (plan="chunked"), _cases.py, _basis_cases.py, _misuses.py, _spec.py.
Siblings: csrc/hadamard_scan/, csrc/hadamard_basis/, kernels/hadamard_scan.py,
kernels/hadamard_basis.py, tests/test_hadamard_scan.py, tests/test_hadamard_basis.py, tests/test_hadamard_chunked.py
"""

from ._check import check
from ._function import hadamard_scan, hadamard_step
from ._reference import reference, reference_step
from ._spec import SPEC

__all__ = ["SPEC", "check", "hadamard_scan", "hadamard_step", "reference", "reference_step"]
