"""Genotypes that are named on the command line."""

import os
import re

import dnas
from dnas.files import read_text_file, shown


def read_genotype(given: str, space: str | None = None) -> dnas.Genotype:
    """Returns the genotype that a file holds, that was published under a name, or that the text is.

    Args:
      space: of a text whose notation does not name it.

    Raises:
      ValueError: if it is none of these.
    """
    if not given:
        raise ValueError(
            "no genotype was given; for instance: --genotype=DARTS_V2, or"
            " --genotype=runs/NAME/genotype.json"
        )
    if given in dnas.PUBLISHED:
        return dnas.PUBLISHED[given]
    path = os.path.expanduser(given)
    if os.path.isfile(path):
        try:
            return dnas.Genotype.from_text(read_text_file(path, most_bytes=2**23), space=space)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if not re.search(r"[(|{:]", given):  # a name, which no text of a genotype is
        raise ValueError(
            f"genotype {shown(given)} is neither a file nor published; give a file such as"
            f" runs/NAME/genotype.json, or one of: {', '.join(dnas.PUBLISHED)}"
        )
    return dnas.Genotype.from_text(given, space=space)
