"""Layers: one ``nn.Module`` a file; parameters, initial values and forward, no kernel or device logic."""

from .binary_linear import BinaryLinear as BinaryLinear
from .hadam_rnn import BlockHadamRNN as BlockHadamRNN
from .hadam_rnn import HadamRNN as HadamRNN
from .quant_linear import QuantLinear as QuantLinear
from .ternary_linear import TernaryLinear as TernaryLinear
