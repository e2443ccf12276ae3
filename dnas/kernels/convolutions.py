"""Convolutions as XLA compiles them well, with their own gradients.

On a CPU, XLA runs grouped convolutions many times slower than a plain loop over the taps of the
filter, and its automatic gradient of such a loop pads every tap to full size. Here each gradient is
again one loop over taps, and so are the gradients of gradients: what is behind them is linear, see
`multilinear`.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from dnas.base import Array
from dnas.kernels.backend import on_cpu, written
from dnas.kernels.kernel import Convolution, multilinear, with_vjp
from dnas.kernels.sums import PARTS, wide
from dnas.kernels.taps import dilate, larger, out_size, pad, slices, smaller, total

# Images of a part that is gone through channel by channel, if they are even: they stay in the cache
# of a core.
_IMAGES = 2


def _pointwise_bwd(saved, g):
    x, kernel = saved
    parts = math.gcd(x.shape[0], PARTS) if x.ndim > 2 and on_cpu() else 1
    images, gradients = (array.reshape(parts, -1, array.shape[-1]) for array in (x, g))
    of_kernel = lax.dot_general(images, gradients, (((1,), (1,)), ((0,), (0,)))).sum(0)
    return g @ kernel.T, of_kernel


@with_vjp(lambda x, kernel: (x @ kernel, (x, kernel)), _pointwise_bwd)
def pointwise_product(x: Array, kernel: Array) -> Array:
    """Returns x @ kernel, [..., D] for x [..., C] and kernel [C, D].

    Its gradient of the kernel is a few products over parts of the batch, added up: on a CPU up to
    three times as fast as one product over all pixels, whose result is small and whose sums are
    long, or as one an image of 64.
    """
    return x @ kernel


def every_pixel(x: Array, stride: int, first: int = 0) -> Array:
    """Returns the pixels first, first + stride, ... [B, h, w, C] of x [B, H, W, C], either way."""
    if stride == 1 and first == 0:
        return x
    # Written, since XLA:GPU (of jax 0.11.2) ends with a failed check where it takes such a slice
    # into a product of matrices.
    return written(lax.slice(x, (0, first, first, 0), x.shape, (1, stride, stride, 1)))


def _gated(x: Array, *gate: Array) -> Array:
    """x where the gate is positive, otherwise zero; without a gate all of x."""
    return (
        lax.select(lax.gt(gate[0], lax.full_like(gate[0], 0)), x, lax.full_like(x, 0))
        if gate
        else x
    )


def _padded(x: Array, other: Array, *gate: Array, sides: int, **static) -> tuple[Array, Array]:
    """What two kernels read of an image: padded, and without what is negative. It stays outside
    their fence, so that XLA makes one of it for all that read the same image with as wide a border.
    """
    del static
    return pad(_gated(x, *gate), sides), other


def _taps(
    padded: Array, kernel: Array, sides: int, stride: int, dilation: int, size: tuple[int, int]
) -> Array:
    side, kind = kernel.shape[0], wide(padded.dtype)
    views = slices(padded, side, stride, dilation, size, sides - dilation * (side // 2))
    weights = kernel.astype(kind).reshape(side * side, -1)
    taps = [
        lax.mul(
            lax.convert_element_type(view, kind),
            lax.broadcast_in_dim(weights[number], view.shape, (3,)),
        )
        for number, view in enumerate(views)
    ]
    return lax.convert_element_type(total(taps), padded.dtype)


# One form that is linear in the image x, the kernel and a cotangent g of the output is behind all
# three functions: each has two of them for arguments and is the gradient for the third. So each is
# the transpose of each other.


def depthwise_forward(padded, kernel, *, side, size, stride, dilation, sides):
    del side
    return _taps(padded, kernel, sides, stride, dilation, out_size(size, stride))


def depthwise_input_gradient(g, kernel, *gate, side, size, stride, dilation, sides):
    del sides
    border = dilation * (side // 2)
    padded = written(pad(dilate(g, size, stride), border))
    return _gated(_taps(padded, kernel[::-1, ::-1], border, 1, dilation, size), *gate)


def depthwise_kernel_gradient(padded, g, *, side, size, stride, dilation, sides):
    # One variadic reduction reads x and g once; separate sums, one a tap, read them once each and
    # take twice as long.
    del size
    kind, border = wide(g.dtype), sides - dilation * (side // 2)
    if not on_cpu():
        return _kernel_gradient_of_rows(padded, g, side, stride, dilation, border)[
            :, :, None
        ].astype(g.dtype)

    # It runs channel by channel, all pixels each time, and so by parts of the batch, that a cache
    # holds.
    def in_parts(array):
        batch = array.shape[0]
        parts = math.gcd(batch, PARTS) if batch <= PARTS or batch % _IMAGES else batch // _IMAGES
        return lax.reshape(
            lax.convert_element_type(array, kind), (parts, batch // parts, *array.shape[1:])
        )

    views = slices(padded, side, stride, dilation, g.shape[1:3], border)
    wider = in_parts(g)
    products = tuple(lax.mul(in_parts(view), wider) for view in views)
    zeros = (np.zeros((), kind),) * len(products)
    sums = lax.reduce(products, zeros, lambda a, b: tuple(map(lax.add, a, b)), (1, 2, 3))
    rows = lax.concatenate([lax.expand_dims(part, (0,)) for part in sums], 0)
    found = lax.reduce(rows, np.zeros((), kind), lax.add, (1,))
    return lax.convert_element_type(lax.reshape(found, (side, side, 1, found.shape[1])), g.dtype)


def _kernel_gradient_of_rows(padded, g, side, stride, dilation, border):
    # On a GPU one reduction of all taps writes the products first, and one a tap is 13 kernels that
    # read everything. Here one product of matrices has each column of g with each column of x, for
    # all rows of taps; sums along diagonals are the taps.
    (batch, height, width, channels), columns = g.shape, padded.shape[2]
    rows = []
    for row in range(side):
        first = border + row * dilation
        last = (batch, first + (height - 1) * stride + 1, columns, channels)
        rows.append(lax.slice(padded, (0, first, 0, 0), last, (1, stride, 1, 1)))
    dimensions = ((0, 1), (0, 1)), ((3,), (3,))
    x = lax.concatenate(rows, 2)
    found = lax.dot_general(
        x, g, dimensions, precision="highest", preferred_element_type=wide(g.dtype)
    )
    # The column that a tap reads.
    places = border + dilation * np.arange(side)[:, None] + stride * np.arange(width)
    # [side, columns, width].
    diagonals = jnp.asarray(places[:, None] == np.arange(columns)[:, None], wide(g.dtype))
    return jnp.einsum(
        "crvw,svw->rsc",
        found.reshape(channels, side, columns, width),
        diagonals,
        precision="highest",
    )


def _depthwise_macs(inputs, output, *, side, **static) -> int:
    del inputs, static
    return math.prod(output) * side * side


def _depthwise_standard(count: int, *, side, stride, dilation, **static) -> Convolution:
    del static
    return Convolution(stride, dilation * (side // 2), dilation, depthwise=True, relu=count > 2)


_of_output, _of_input, _of_kernel = {}, {}, {}  # the transposes of
_conv = multilinear(
    depthwise_forward,
    _of_output,
    smaller,
    prepare=_padded,
    macs=_depthwise_macs,
    standard=_depthwise_standard,
)
_conv_input = multilinear(depthwise_input_gradient, _of_input, larger)
_conv_kernel = multilinear(
    depthwise_kernel_gradient,
    _of_kernel,
    lambda x, *_, side, **rest: (side, side, 1, x.shape[3]),
    prepare=_padded,
)
_of_output |= {0: _conv_input, 1: lambda g, x, *gate, **static: _conv_kernel(x, g, *gate, **static)}
_of_input |= {0: _conv, 1: _conv_kernel}
_of_kernel |= {
    0: lambda k, g, *gate, **static: _conv_input(g, k, *gate, **static),
    1: lambda k, x, *gate, **static: _conv(x, k, *gate, **static),
}


def depthwise_conv(
    x: Array,
    kernel: Array,
    stride: int = 1,
    dilation: int = 1,
    relu: bool = False,
    sides: int | None = None,
) -> Array:
    """Returns the depthwise convolution [B, ceil(H/s), ceil(W/s), C] of x [B, H, W, C] with kernel
    [k, k, 1, C].

    k is odd; x is padded with zeros by dilation * (k // 2) on every side. With `relu` negative
    numbers of x count as zero: the ReLU in front of every depthwise convolution of the family costs
    nothing where the image is padded anyway. Convolutions of one image that ask for the same
    `sides`, at least what they need, share one padded image.

    Raises:
      ValueError: if `sides` is less.
    """
    gate = [lax.stop_gradient(x)] if relu else []
    side = kernel.shape[0]
    needed = dilation * (side // 2)
    sides = needed if sides is None else sides
    if sides < needed:
        raise ValueError(
            f"the convolution needs a border of {needed} on every side, got sides={sides}"
        )
    return _conv(
        x,
        kernel,
        *gate,
        side=side,
        size=x.shape[1:3],
        stride=stride,
        dilation=dilation,
        sides=sides,
    )


def conv_forward(x, kernel):
    # Products with three taps of a row at a time, three for each row of the image, of which shifted
    # sums are the result. A row of zeros above and below need not be multiplied.
    batch, height, width, channels = x.shape
    last = kernel.shape[-1]
    matrix = lax.transpose(kernel, (1, 2, 0, 3)).reshape(3 * channels, 3 * last)
    products = lax.dot(
        _row_taps(x).reshape(-1, 3 * channels), matrix, preferred_element_type=wide(x.dtype)
    )
    products = products.reshape(batch, height, width, 3 * last)
    parts = [lax.slice_in_dim(products, i * last, (i + 1) * last, axis=3) for i in range(3)]
    return total([_moved(part, 1 - i) for i, part in enumerate(parts)]).astype(x.dtype)


def conv_kernel_gradient(x, g):
    # One product of the three taps of a row with the gradient at three rows has all nine taps;
    # three narrow products, one a row, take up to twice as long.
    channels, last = x.shape[-1], g.shape[-1]
    rows = lax.concatenate([_moved(g, i - 1) for i in range(3)], 3)
    found = lax.dot_general(
        _row_taps(x).reshape(-1, 3 * channels),
        rows.reshape(-1, 3 * last),
        (((0,), (0,)), ((), ())),
        preferred_element_type=wide(x.dtype),
    )
    return lax.transpose(found.reshape(3, channels, 3, last), (2, 0, 1, 3)).astype(x.dtype)


def _moved(x: Array, rows: int) -> Array:
    """x [B, H, W, C] moved down by so many rows, zeros behind it."""
    return (
        lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (rows, -rows, 0), (0, 0, 0), (0, 0, 0)))
        if rows
        else x
    )


def _row_taps(x: Array) -> Array:
    """[B, H, W, 3C]: of each row of the image the pixel to the left, the pixel itself and the one
    to the right."""
    batch, height, width, channels = x.shape
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, 0, 0), (1, 1, 0), (0, 0, 0)))
    return lax.concatenate(
        [lax.slice(padded, (0, 0, j, 0), (batch, height, j + width, channels)) for j in range(3)], 3
    )


def _dense_macs(inputs, output) -> int:
    return math.prod(output) * math.prod(inputs[1][-4:-1])  # of the kernel [..., k, k, C, D]


_of_dense, _of_dense_kernel = {}, {}
_dense = multilinear(
    conv_forward,
    _of_dense,
    lambda x, kernel: (*x.shape[:3], kernel.shape[3]),
    macs=_dense_macs,
    standard=lambda count: Convolution(stride=1, padding=1),
)
_dense_kernel = multilinear(
    conv_kernel_gradient, _of_dense_kernel, lambda x, g: (3, 3, x.shape[3], g.shape[3])
)
_of_dense |= {
    0: lambda g, kernel: _dense(g, _transposed(kernel)),
    1: lambda g, x: _dense_kernel(x, g),
}
_of_dense_kernel |= {0: lambda k, g: _dense(g, _transposed(k)), 1: lambda k, x: _dense(x, k)}


def _transposed(kernel: Array) -> Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def conv3x3(x: Array, kernel: Array) -> Array:
    """Returns the convolution [B, H, W, D] of x [B, H, W, C], padded by one pixel of zeros, with
    kernel [3, 3, C, D].

    XLA:CPU has a fast convolution, but not for the gradients inside a loop: there they take twenty
    times as long as these.
    """
    return _dense(x, kernel)
