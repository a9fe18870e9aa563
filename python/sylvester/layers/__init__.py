"""Layers: one ``nn.Module`` a file; parameters, initial values and forward, no kernel or device logic."""

from .hadam_rnn import BlockHadamRNN as BlockHadamRNN
from .hadam_rnn import HadamRNN as HadamRNN
from .quant_linear import QuantLinear as QuantLinear
