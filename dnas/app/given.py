"""Genotypes that are named on the command line."""

import pathlib

import dnas
from dnas.notation import is_layers


def read_genotype(given: str) -> dnas.Genotype:
    """Returns the genotype that a file holds, that was published under a name, or that the text is.

    Raises:
      ValueError: if it is none of these.
    """
    if given in dnas.PUBLISHED:
        return dnas.PUBLISHED[given]
    if given.lstrip().startswith(("Genotype", "|", "{")) or is_layers(given.lstrip()):
        return dnas.Genotype.from_text(given)
    if not given:
        raise ValueError(
            "no genotype was given; for instance: --genotype=DARTS_V2, or"
            " --genotype=runs/NAME/genotype.json"
        )
    path = pathlib.Path(given)
    if not path.is_file():
        raise ValueError(
            f"genotype {given!r} is neither a file nor published; give a file such as"
            f" runs/NAME/genotype.json, or one of: {', '.join(dnas.PUBLISHED)}"
        )
    try:
        return dnas.Genotype.from_text(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
