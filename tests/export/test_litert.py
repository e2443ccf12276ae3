"""Networks in LiteRT compute what they compute here."""

import jax
import numpy as np
import pytest
from exported import SIZES, covering, logits_by_jax, relative_error, samples, sizes_of, trained

import dnas
from dnas import export
from dnas.parts import Part

pytest.importorskip(
    "litert_converter", reason=f"it is not installed: {export.litert.INSTALL_CONVERTER}"
)
pytest.importorskip("ai_edge_litert", reason="the extra dnas[litert] is not installed")

SHAPE = (16, 16, 3)


def error_of(space, genotype, shape, batch_size=1, **sizes):
    """How far LiteRT is from JAX, as a share of the largest logit."""
    network, variables = trained(space, genotype, shape, **sizes)
    images = np.random.default_rng(1).normal(size=(batch_size, *shape)).astype(np.float32)
    model = export.to_litert(network, variables, shape, batch_size=batch_size)
    found = export.load_litert(model)({"images": images})["logits"]
    return relative_error(found, logits_by_jax(network, variables, images))


def random_genotypes():
    """One of every space of networks on images, without the op that is refused."""
    key = jax.random.key(3)
    found = {
        name: dnas.random_genotype(key, space)
        for name, space in dnas.SPACES.items()
        if space.inputs == "images"
    }
    s4 = [edge._replace(op="sep_conv_3x3") for edge in found["s4"].cells["normal"]]
    return found | {"s4": dnas.Genotype("s4", {"normal": s4, "reduce": s4})}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_op_of_darts_computes_the_same(batch_size):
    assert error_of(dnas.SPACES["darts"], covering(), SHAPE, batch_size, **SIZES) < 1e-5


def test_a_random_cell_of_nasbench201_computes_the_same():
    genotype = random_genotypes()["nasbench201"]
    assert error_of(dnas.SPACES["nasbench201"], genotype, SHAPE, **SIZES) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", random_genotypes())
def test_random_networks_of_every_space_compute_the_same(name):
    sizes, shape = sizes_of(name)
    assert error_of(dnas.SPACES[name], random_genotypes()[name], shape, **sizes) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", samples())
def test_known_networks_compute_the_same(name):
    genotype = samples()[name]
    sizes, shape = sizes_of(genotype.space)
    assert error_of(dnas.SPACES[genotype.space], genotype, shape, **sizes) < 1e-5


def test_a_network_whose_cells_have_no_path_is_a_constant():
    genotype = dnas.Genotype.from_text(
        "|none~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|"
    )
    assert error_of(dnas.SPACES["nasbench201"], genotype, SHAPE, **SIZES) < 1e-5


@pytest.mark.parametrize("name", ["DARTS_RNN_V2"])
def test_a_recurrent_cell_reads_a_text_window_by_window(name):
    network = dnas.SPACES["recurrent"].network(dnas.PUBLISHED[name], channels=12, num_classes=40)
    tokens = np.random.default_rng(0).integers(0, 40, (2, 6)).astype(np.int32)
    variables = network.init(jax.random.key(0), dnas.Tokens(tokens))
    # Ten times as large as at the start, where activations are all but linear.
    variables = jax.tree.map(lambda array: 10 * array, variables)
    expected, _ = network.apply(variables, {}, dnas.Tokens(tokens))
    read = export.load_litert(export.language_model_to_litert(network, variables, 2, batch_size=2))
    hidden, logits = np.zeros((2, 12), np.float32), []
    for window in np.split(tokens, 3, axis=1):
        found = read({"tokens": window, "hidden": hidden})
        logits, hidden = [*logits, found["logits"]], found["states"][:, -1]
    assert relative_error(np.concatenate(logits, axis=1), np.asarray(expected.logits)) < 1e-5
    assert relative_error(hidden, np.asarray(expected.hidden[:, -1])) < 1e-5


def test_noise_is_refused_with_a_reason():
    noise = dnas.SPACES["s4"].part_network(Part("noise", 2, 2, 4, 4))
    x = np.zeros((1, 4, 4, 2), np.float32)
    variables = noise.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="LiteRT has no op for something .*numbers .*noise"):
        export.function_to_litert(lambda images: noise.apply(variables, images), x)


def test_sizes_and_functions_that_nothing_can_be_made_of_are_refused():
    network, variables = trained(dnas.SPACES["darts"], covering(), SHAPE, **SIZES)
    with pytest.raises(ValueError, match=r"image_shape is .* not \(16, 16\)"):
        export.to_litert(network, variables, (16, 16))
    with pytest.raises(ValueError, match="at least one at once"):
        export.to_litert(network, variables, SHAPE, batch_size=0)
    with pytest.raises(ValueError, match="nothing to export"):
        export.function_to_litert(lambda x: x, jax.ShapeDtypeStruct((1, 4, 4, 2), np.float32))
