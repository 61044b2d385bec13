"""Layers, one a file. Each is registered, so a saved model reloads by itself."""

from kfeedback.layers.attentional_transition import AttentionalTransition
from kfeedback.layers.ceil_max_pooling import CeilMaxPooling2D
from kfeedback.layers.clique_block import CliqueBlock
from kfeedback.layers.contextual import Contextual
from kfeedback.layers.conv_lstm_cell import ConvLSTMCell
from kfeedback.layers.conv_lstm_gates import ConvLSTMGates
from kfeedback.layers.emphasis import Emphasis
from kfeedback.layers.feedback import Feedback
from kfeedback.layers.fused_batch_norm import FusedBatchNormalization
from kfeedback.layers.grouped_conv import GroupedConv2D
from kfeedback.layers.local_response_norm import LocalResponseNormalization
from kfeedback.layers.recurrent_conv import RecurrentConv2D
from kfeedback.layers.same_average_pooling import SameAveragePooling2D
from kfeedback.layers.spatial_attention import SpatialAttention
from kfeedback.layers.stack_timesteps import StackTimesteps

__all__ = [
    "AttentionalTransition",
    "CeilMaxPooling2D",
    "CliqueBlock",
    "Contextual",
    "ConvLSTMCell",
    "ConvLSTMGates",
    "Emphasis",
    "Feedback",
    "FusedBatchNormalization",
    "GroupedConv2D",
    "LocalResponseNormalization",
    "RecurrentConv2D",
    "SameAveragePooling2D",
    "SpatialAttention",
    "StackTimesteps",
]
