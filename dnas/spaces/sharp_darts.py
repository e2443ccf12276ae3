"""Candidates with the blocks of sharpDARTS, https://arxiv.org/abs/1903.09900."""

# DARTS's order, with flooded and choked blocks in place of the dilated and the large separable
# convolutions.
SHARP_OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "flood_conv_3x3",
    "choke_conv_3x3",
    "dil_flood_conv_3x3",
)
