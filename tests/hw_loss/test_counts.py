"""Counts as exact integers: published figures, the arrays of a real network, and an independent
formula."""

import gc
import itertools

import jax
import jax.numpy as jnp
import pytest

import dnas
from dnas.hw_loss import Counts, count_network, count_supernet
from dnas.hw_loss.counts import _count_macs
from dnas.kernels.convolutions import depthwise_conv
from dnas.selection import random_genotype

SPACE, PUBLISHED = dnas.SPACES["darts"], dnas.PUBLISHED
IMAGENET = dict(channels=48, num_cells=14, num_classes=1000, image_size=224, stem="imagenet")
SMALL = dict(channels=4, num_cells=4, num_classes=7)

# params on CIFAR-10, on CIFAR-100, macs; params and macs on ImageNet
FIGURES = {
    "DARTS_V1": (3_169_414, 3_221_344, 500_987_520, 4_510_432, 505_864_704),
    "DARTS_V2": (3_349_342, 3_401_272, 528_359_040, 4_718_752, 529_911_552),
    "PDARTS": (3_433_798, 3_485_728, 532_174_464, 4_944_352, 542_819_328),
    "PC_DARTS_cifar": (3_634_678, 3_686_608, 556_670_592, 5_270_560, 571_137_408),
    "PC_DARTS_image": (3_721_510, 3_773_440, 570_466_944, 5_342_464, 581_627_328),
    "GDAS_V1": (3_368_782, 3_420_712, 519_428_736, 5_345_075, 581_009_000),
}


# The formula below gives all of these, and equals the counts of random cells: the other published
#   cells repeat that.
OF_PUBLISHED_CELLS = pytest.mark.parametrize(
    "name",
    [
        name if name in ("DARTS_V2", "GDAS_V1") else pytest.param(name, marks=pytest.mark.slow)
        for name in FIGURES
    ],
)


def macs_by_formula(
    genotype, *, channels, num_cells, num_classes, height, width, image_channels=3, stem="cifar"
):
    """Multiply-adds summed from the papers' description: output pixels x kernel area x channels in
    x channels out."""
    if stem == "cifar":
        total = height * width * 9 * image_channels * 3 * channels
        before, last, halve = 3 * channels, 3 * channels, False
    else:
        sizes = [(height * width // 4**n) for n in (1, 2, 3)]
        stages = [(image_channels, channels // 2), (channels // 2, channels), (channels, channels)]
        total = sum(size * 9 * a * b for size, (a, b) in zip(sizes, stages, strict=True))
        height, width = height // 8, width // 8
        before, last, halve = channels, channels, True
    for number in range(num_cells):
        reduces = number in (num_cells // 3, 2 * num_cells // 3)
        channels *= 1 + reduces
        inside, outside = height * width, height * width // (4 if reduces else 1)
        # FactorizedReduce's two halves together are one convolution.
        total += inside * (before + last) * channels
        kind = "reduce" if reduces else "normal"
        for source, _, op in genotype.cells[kind]:
            strides = reduces and source < 2
            area = {"3x3": 9, "5x5": 25}.get(op[-3:], 0)
            one = outside * (area * channels + channels * channels)
            if op.startswith("sep"):
                total += 2 * one  # the stride is in the first half, so both run at the smaller size
            elif op.startswith("dil"):
                total += one
            elif op == "skip_connect" and strides:
                total += outside * channels * channels
        before, last, halve = last, channels * len(genotype.concat_of(kind)), reduces
        if reduces:
            height, width = height // 2, width // 2
    del halve
    return total + last * num_classes


@OF_PUBLISHED_CELLS
def test_cifar_counts_are_the_published_ones(name):
    params, more, macs, _, _ = FIGURES[name]
    found = count_network(SPACE, PUBLISHED[name])
    assert found == Counts(params, macs)
    # CIFAR-100: 90 classes more, each of 16 C weights and a bias.
    assert found.params + 90 * (64 * 9 + 1) == more


def test_cifar_100_counts_through_count_network():
    _, more, macs, _, _ = FIGURES["DARTS_V2"]
    found = count_network(SPACE, PUBLISHED["DARTS_V2"], num_classes=100)
    assert found == Counts(more, macs + 90 * 64 * 9)


@OF_PUBLISHED_CELLS
def test_imagenet_counts_are_the_published_ones(name):
    sizes = {**IMAGENET, "channels": 50} if name == "GDAS_V1" else IMAGENET
    assert count_network(SPACE, PUBLISHED[name], **sizes) == Counts(*FIGURES[name][3:])


def test_auxiliary_head_adds_476_426_params_on_cifar():
    params, _, macs, _, _ = FIGURES["DARTS_V2"]
    found = count_network(SPACE, PUBLISHED["DARTS_V2"], auxiliary=True)
    assert found.params == params + 476_426
    # 16 C = 576 channels at 2x2 positions, then one position, then the classifier
    assert found.macs == macs + 4 * 576 * 128 + 4 * 128 * 768 + 768 * 10


def test_auxiliary_head_adds_1_260_776_params_on_imagenet():
    found = count_network(SPACE, PUBLISHED["DARTS_V2"], **IMAGENET, auxiliary=True)
    assert found.params == FIGURES["DARTS_V2"][3] + 1_260_776
    assert found.macs == FIGURES["DARTS_V2"][4] + 4 * 768 * 128 + 4 * 128 * 768 + 768 * 1000


def test_mmrazor_cell_has_its_two_published_counts():
    cell = PUBLISHED["mmrazor_97.32"]
    assert count_network(SPACE, cell).params == 2_946_286
    assert count_network(SPACE, cell, auxiliary=True).params == 3_422_712


def test_supernet_counts_are_the_published_ones():
    assert count_supernet(SPACE) == Counts(1_930_618, 300_255_744)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_params_equal_the_arrays_that_init_makes(auxiliary):
    size = 32 if auxiliary else 8
    network = SPACE.network(PUBLISHED["PDARTS"], **SMALL, auxiliary=auxiliary)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.ones((2, size, size, 3)))
    total = sum(array.size for array in jax.tree.leaves(variables["params"]))
    assert (
        count_network(
            SPACE, PUBLISHED["PDARTS"], **SMALL, image_size=size, auxiliary=auxiliary
        ).params
        == total
    )


def test_supernet_params_equal_the_arrays_that_init_makes():
    supernet = SPACE.supernet(channels=4, num_cells=2, num_classes=5)
    weights = jax.eval_shape(supernet.init, jax.random.key(0), jnp.ones((1, 8, 8, 1)))
    counts = count_supernet(
        SPACE, channels=4, num_cells=2, num_classes=5, image_size=8, image_channels=1
    )
    assert counts.params == sum(array.size for array in jax.tree.leaves(weights))


@pytest.mark.parametrize("name", FIGURES)
def test_the_formula_of_this_file_gives_the_published_macs(name):
    cifar = dict(channels=36, num_cells=20, num_classes=10, height=32, width=32)
    imagenet = dict(
        channels=48, num_cells=14, num_classes=1000, height=224, width=224, stem="imagenet"
    )
    imagenet["channels"] = 50 if name == "GDAS_V1" else 48
    assert macs_by_formula(PUBLISHED[name], **cifar) == FIGURES[name][2]
    assert macs_by_formula(PUBLISHED[name], **imagenet) == FIGURES[name][4]


@pytest.mark.parametrize(
    ("size", "image_channels", "stem"), [((8, 12), 1, "cifar"), ((32, 96), 4, "imagenet")]
)
@pytest.mark.parametrize("seed", range(2))
def test_macs_of_random_cells_on_other_images_equal_the_formula(seed, size, image_channels, stem):
    genotype = random_genotype(jax.random.key(seed), SPACE)
    found = count_network(
        SPACE, genotype, **SMALL, image_size=size, image_channels=image_channels, stem=stem
    )
    sizes = dict(height=size[0], width=size[1], image_channels=image_channels, stem=stem)
    assert found.macs == macs_by_formula(genotype, **SMALL, **sizes)


def test_transposed_images_cost_the_same():
    wide, high = (
        count_network(SPACE, PUBLISHED["DARTS_V1"], **SMALL, image_size=size)
        for size in ((8, 16), (16, 8))
    )
    assert wide == high


def test_supernet_costs_what_its_edges_cost_together():
    """Every edge runs every candidate: the formula applied to a cell that holds all of them."""
    spec = SPACE.cells["normal"]
    everything = [
        (source, target, op) for source, target in spec.edges for op in spec.ops if op != "none"
    ]
    genotype = dnas.Genotype("darts", {"normal": everything, "reduce": everything})
    sizes = dict(channels=16, num_cells=8, num_classes=10, height=32, width=32)
    assert macs_by_formula(genotype, **sizes) == 300_255_744


def test_a_matrix_product_is_counted():
    assert _count_macs(lambda a, b: a @ b, jnp.ones((2, 3)), jnp.ones((3, 5))) == 2 * 3 * 5


def test_a_scan_counts_its_body_once_a_step():
    def chain(x, matrices):
        return jax.lax.scan(lambda x, matrix: (x @ matrix, None), x, matrices)[0]

    assert _count_macs(chain, jnp.ones((2, 3)), jnp.ones((7, 3, 3))) == 7 * 2 * 3 * 3


def test_a_scan_inside_a_scan_multiplies():
    def chain(x, matrices):
        def outer(x, _):
            return jax.lax.scan(lambda x, matrix: (x @ matrix, None), x, matrices)[0], None

        return jax.lax.scan(outer, x, length=4)[0]

    assert _count_macs(chain, jnp.ones((2, 3)), jnp.ones((7, 3, 3))) == 4 * 7 * 2 * 3 * 3


def test_jit_and_a_custom_gradient_count_once():
    @jax.custom_vjp
    def product(a, b):
        return a @ b

    product.defvjp(lambda a, b: (a @ b, (a, b)), lambda saved, g: (g @ saved[1].T, saved[0].T @ g))
    assert _count_macs(jax.jit(product), jnp.ones((2, 3)), jnp.ones((3, 5))) == 2 * 3 * 5


@pytest.mark.parametrize(("stride", "dilation", "pixels"), [(1, 1, 48), (2, 1, 12), (1, 2, 48)])
def test_a_depthwise_convolution_counts_one_filter_a_channel(stride, dilation, pixels):
    x, kernel = jnp.ones((2, 8, 6, 4)), jnp.ones((3, 3, 1, 4))
    assert (
        _count_macs(lambda x, k: depthwise_conv(x, k, stride, dilation), x, kernel)
        == 2 * pixels * 9 * 4
    )


@pytest.mark.parametrize(("axes", "times"), [((0, 0), 3), ((0, None), 3), ((None, 0), 3)], ids=str)
def test_a_vmapped_depthwise_convolution_counts_every_copy(axes, times):
    x, kernel = jnp.ones((3, 2, 8, 6, 4)), jnp.ones((3, 5, 5, 1, 4))
    args = [array if axis == 0 else array[0] for array, axis in zip((x, kernel), axes, strict=True)]
    assert _count_macs(jax.vmap(depthwise_conv, axes), *args) == times * 2 * 48 * 25 * 4


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_convolution_counts_the_channels_of_a_group(groups):
    x, kernel = jnp.ones((1, 8, 6, 4)), jnp.ones((3, 3, 4 // groups, 8))

    def conv(x, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=names, feature_group_count=groups
        )

    assert _count_macs(conv, x, kernel) == 48 * 9 * (4 // groups) * 8


def test_norms_activations_and_pools_are_not_counted():
    assert _count_macs(lambda x: jax.nn.relu(x - x.mean(0)) * 2 + 1, jnp.ones((4, 4))) == 0


def test_counts_are_python_ints():
    assert {
        type(number)
        for number in count_network(SPACE, PUBLISHED["DARTS_V1"], **SMALL, image_size=8)
    } == {int}


def test_a_genotype_of_another_space_is_refused():
    other = dnas.Genotype("other", PUBLISHED["DARTS_V1"].cells)
    with pytest.raises(ValueError, match="belongs to the space 'other', but the space is 'darts'"):
        count_network(SPACE, other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(image_size=30), "30x30 cannot be halved 2 times.*resize or pad"),
        (dict(image_size=(32, 30)), "32x30 cannot be halved"),
        (dict(image_size=100, stem="imagenet"), "100x100 cannot be halved 5 times"),
        (dict(stem="mnist"), "stem 'mnist' does not exist; choose from: cifar, imagenet"),
        (dict(num_cells=0), "at least one cell"),
        (
            dict(image_size=16, auxiliary=True),
            "auxiliary head needs a feature map of at least 8x8.*got 4x4",
        ),
        (dict(channels=3), "odd|even|cannot be split"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given, message):
    sizes = {**SMALL, "image_size": 32, **given}
    if given == dict(channels=3):
        # Reductions double the channels, so that odd ones fit everywhere but in the imagenet stem.
        assert count_network(SPACE, PUBLISHED["DARTS_V1"], **sizes).params > 0
        sizes.update(stem="imagenet", image_size=64)
    with pytest.raises(ValueError, match=message):
        count_network(SPACE, PUBLISHED["DARTS_V1"], **sizes)


@pytest.mark.parametrize("given", [dict(image_size=30), dict(num_cells=0), dict(channels=0)])
def test_supernet_sizes_that_do_not_fit_are_refused(given):
    with pytest.raises(ValueError, match="cannot be halved|at least one cell"):
        count_supernet(SPACE, **given)


NASBENCH201 = dnas.SPACES["nasbench201"]
# The macs of the benchmark, https://arxiv.org/abs/2001.00326, count the classifier's bias as well:
# 10 more than ours.
BENCHMARK = {
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|": (  # noqa: E501
        129_306,
        15_647_370,
    ),
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|": (  # noqa: E501
        1_531_546,
        220_119_690,
    ),
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|": (73_306, 7_783_050),
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|": (  # noqa: E501
        73_306,
        7_783_050,
    ),
}


@pytest.mark.parametrize("text", BENCHMARK)
def test_nasbench201_counts_are_those_of_the_benchmark(text):
    params, macs = BENCHMARK[text]
    assert count_network(NASBENCH201, dnas.Genotype.from_text(text)) == Counts(params, macs - 10)


# Rounded as published: millions of multiply-adds and of parameters.
ROUNDED = {
    ("avg_pool_3x3",) * 6: (7.783, 0.0733),
    ("nor_conv_1x1",) * 6: (31.376, 0.2413),
    ("nor_conv_3x3", "none", "nor_conv_3x3", "skip_connect", "none", "skip_connect"): (
        78.562,
        0.5594,
    ),
    (
        "nor_conv_3x3",
        "nor_conv_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "nor_conv_3x3",
        "skip_connect",
    ): (113.951, 0.8024),
    (
        "nor_conv_3x3",
        "nor_conv_1x1",
        "nor_conv_3x3",
        "skip_connect",
        "nor_conv_3x3",
        "nor_conv_3x3",
    ): (153.273, 1.0735),
}


def nasbench201_genotype(ops):
    spec = NASBENCH201.cells["cell"]
    return dnas.Genotype(
        "nasbench201",
        {"cell": [(*edge, op) for edge, op in zip(spec.edges, ops, strict=True)]},
        {"cell": (3,)},
    )


@pytest.mark.parametrize("ops", ROUNDED)
def test_nasbench201_counts_round_to_the_published_ones(ops):
    found = count_network(NASBENCH201, nasbench201_genotype(ops))
    assert (round((found.macs + 10) / 1e6, 3), round(found.params / 1e6, 4)) == ROUNDED[ops]


def nasbench201_formula(ops, *, channels=16, num_cells=15, num_classes=10, height=32, width=32):
    """Params and macs from the paper's description: a norm has two numbers a channel, no
    convolution has a bias."""
    areas = [{"nor_conv_1x1": 1, "nor_conv_3x3": 9}.get(op, 0) for op in ops]
    params = (
        27 * channels + 2 * channels + 2 * 4 * channels + 4 * channels * num_classes + num_classes
    )
    macs = height * width * 27 * channels + 4 * channels * num_classes
    for stage in range(3):
        wide, pixels = channels << stage, (height >> stage) * (width >> stage)
        params += num_cells // 3 * sum(area * wide**2 + 2 * wide for area in areas if area)
        macs += num_cells // 3 * pixels * wide**2 * sum(areas)
        # The residual block: 3x3 from half the channels, 3x3, and 1x1 from half the channels.
        if stage:
            kernels = 9 * wide**2 // 2 + 9 * wide**2 + wide**2 // 2
            params, macs = params + kernels + 4 * wide, macs + pixels * kernels
    return Counts(params, macs)


@pytest.mark.parametrize("text", BENCHMARK)
def test_the_nasbench201_formula_gives_the_benchmarks_counts(text):
    ops = [edge.op for edge in dnas.Genotype.from_text(text).cells["cell"]]
    params, macs = BENCHMARK[text]
    assert nasbench201_formula(ops) == Counts(params, macs - 10)


@pytest.mark.parametrize("seed", range(3))
def test_nasbench201_counts_at_other_sizes_equal_the_formula(seed):
    genotype = random_genotype(jax.random.key(seed), NASBENCH201)
    found = count_network(
        NASBENCH201, genotype, channels=4, num_cells=6, num_classes=7, image_size=(12, 8)
    )
    ops = [edge.op for edge in genotype.cells["cell"]]
    assert found == nasbench201_formula(
        ops, channels=4, num_cells=6, num_classes=7, height=12, width=8
    )


@pytest.fixture
def no_garbage_collection():
    """Thousands of traced networks are all still known to JAX: looking for garbage among them takes
    longer than tracing."""
    gc.disable()
    yield
    jax.clear_caches()
    gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", list(itertools.product(NASBENCH201.cells["cell"].ops, repeat=3)), ids=" ".join
)
def test_all_15_625_nasbench201_networks_have_the_counts_of_the_formula(
    first, no_garbage_collection
):
    """125 strings a case, which begin alike, as the smallest network of three cells."""
    small = dict(channels=1, num_cells=3)
    for rest in itertools.product(NASBENCH201.cells["cell"].ops, repeat=3):
        found = count_network(
            NASBENCH201, nasbench201_genotype((*first, *rest)), **small, image_size=4
        )
        assert found == nasbench201_formula((*first, *rest), **small, height=4, width=4), (
            *first,
            *rest,
        )


@pytest.mark.slow
@pytest.mark.parametrize("first", NASBENCH201.cells["cell"].ops)
def test_every_combination_of_ops_has_the_counts_of_the_formula_at_the_published_size(first):
    ops = NASBENCH201.cells["cell"].ops
    for rest in itertools.combinations_with_replacement(ops[ops.index(first) :], 5):
        assert count_network(
            NASBENCH201, nasbench201_genotype((first, *rest))
        ) == nasbench201_formula((first, *rest))


def test_nasbench201_supernet_costs_what_its_candidates_cost_together():
    """Every edge has all five ops; norms of candidates have no scale and shift, and convolutions a
    bias instead."""
    formula = nasbench201_formula(["nor_conv_1x1", "nor_conv_3x3"] * 6)
    biases = 5 * 12 * (16 + 32 + 64)
    assert count_supernet(NASBENCH201) == Counts(formula.params - biases, formula.macs)
    assert count_supernet(NASBENCH201, affine=True) == formula


# Beside the edges a supernet of DARTS has, C = 16 and 8 cells: the stem, 27 * 48 and a norm; the
# 1x1 convolutions in front of the cells, of the channels that they read; and the classifier.
READS = [(48, 48), (48, 64), (64, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 256)]
WIDTHS = [16, 16, 32, 32, 32, 64, 64, 64]
FIXED = (
    27 * 48
    + 2 * 48
    + sum(sum(reads) * width for reads, width in zip(READS, WIDTHS, strict=True))
    + 256 * 10
    + 10
)


def robust_darts_formula(name):
    """Weights of the candidates on each edge, summed over the cells."""
    space, total = dnas.SPACES[name], FIXED
    for number, width in enumerate(WIDTHS):
        kind = "reduce" if number in (2, 5) else "normal"
        spec = space.cells[kind]
        for (source, _), ops in zip(spec.edges, spec.edge_ops or [spec.ops] * 14, strict=True):
            # Two halves of a 1x1 convolution.
            of_op = {
                "skip_connect": (width**2 if kind == "reduce" and source < 2 else 0),
                "sep_conv_3x3": 2 * (9 * width + width**2),
                "dil_conv_3x3": 9 * width + width**2,
                "dil_conv_5x5": 25 * width + width**2,
            }
            total += sum(of_op.get(op, 0) for op in ops)
    return total


def test_darts_supernet_without_its_edges_has_the_fixed_weights():
    empty = dnas.darts_space(name="empty", ops=("none", "max_pool_3x3"))
    assert count_supernet(empty).params == FIXED


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4"])
def test_robust_darts_supernets_have_weights_for_their_own_candidates_only(name):
    assert count_supernet(dnas.SPACES[name]).params == robust_darts_formula(name)
