"""ReLUs that ops share: how many numbers go through them, of a network and in expectation.

Ops that begin with a ReLU and read the same node share it. Where nothing else reads a node, a
runtime computes it with what makes the node.
"""

from collections.abc import Sequence

import numpy as np

from dnas.base import AnyArray, Array
from dnas.graph import CellSpec, like, namespace
from dnas.parts import NetworkParts, Part

# Of layers that are alike: which candidates begin with a ReLU [E, O], numbers at a node [nodes].
ReluGroups = Sequence[tuple[np.ndarray, np.ndarray]]


def relu_groups(spec: CellSpec, kind: str, layers: NetworkParts) -> ReluGroups:
    """Returns which candidates begin with a ReLU [E, O], and the numbers at each node [nodes], for
    the layers of a kind together."""
    groups: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for layer in layers.layers:
        if layer.kind != kind:
            continue
        begins = np.array(
            [
                [part is not None and layers.begins_with_relu(part) for part in row]
                for row in layer.parts
            ]
        )
        _, sizes = groups.setdefault(
            begins.tobytes(), (begins, np.zeros(spec.num_inputs + spec.num_nodes))
        )
        of_layer = np.zeros_like(sizes)
        for (source, _), row in zip(spec.edges, layer.parts, strict=True):
            of_layer[source] = max(
                (part.height * part.width * part.channels_in for part in row if part), default=0
            )
        sizes += of_layer
    return list(groups.values())


def expected_relus(spec: CellSpec, groups: ReluGroups, running: AnyArray) -> Array:
    """Returns the expected numbers that go through ReLUs of their own, of what runs with these
    probabilities [E, O]."""
    xp = namespace(running)
    nodes = np.arange(spec.num_inputs + spec.num_nodes)
    leaves = np.array([source for source, _ in spec.edges]) == nodes[:, None]  # [nodes, E]

    def none(chances: Array) -> Array:
        """That no edge which leaves a node does something, [nodes]."""
        return xp.where(leaves, 1 - chances, 1.0).prod(axis=-1)

    found = xp.zeros((), running.dtype)
    for begins, sizes in groups:
        through = (running * begins).sum(axis=-1)
        both = running.sum(axis=-1)
        is_read = 1 - none(through)
        alone = xp.where(
            np.isin(nodes, spec.concat), is_read, is_read - none(both - through) + none(both)
        )
        found = found + (alone * like(running, sizes)).sum()
    return found


def relus_of_node(readers: Sequence[Part], is_output: bool, layers: NetworkParts) -> int:
    """Returns how many numbers go through a ReLU of its own at the node that these read."""
    begin = [layers.begins_with_relu(part) for part in readers]
    alone = any(begin) and (is_output or not all(begin))
    return readers[0].height * readers[0].width * readers[0].channels_in if alone else 0
