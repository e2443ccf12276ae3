"""Candidates with the blocks of sharpDARTS, https://arxiv.org/abs/1903.09900."""

# PRIMITIVES of the released cnn/genotypes.py, in its order. What it calls dil_conv_3x3 is its own
# block with a dilation, two separable convolutions, where DARTS's has one.
SHARP_OPS = (
    "none",
    "max_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "dil_sep_conv_3x3",
    "flood_conv_3x3",
    "dil_flood_conv_3x3",
    "choke_conv_3x3",
    "dil_choke_conv_3x3",
)
