"""A genotype on the command line: a name, a text or a file, in any notation that is published."""

import jax
import pytest

import dnas
from dnas.app.given import read_genotype

DARTS = dnas.PUBLISHED["DARTS_V2"]
TEXT = DARTS.to_text()
LOG = f"2019-05-01 09:12:13,456 genotype = {TEXT}\n"
GIVEN = {
    "name": "DARTS_V2",
    "text": TEXT,
    "json": DARTS.to_json(),
    "assignment": f"MINE = {TEXT}",
    "log": LOG,
}


@pytest.mark.parametrize("name", GIVEN)
def test_a_genotype_is_given_by_its_name_or_its_text(name):
    assert read_genotype(GIVEN[name]) == DARTS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", [TEXT, DARTS.to_json(), LOG], ids=["text", "json", "log"])
def test_or_by_a_file_whatever_wrote_it(text, encoding, tmp_path):
    (tmp_path / "mine.txt").write_text(text, encoding=encoding)
    assert read_genotype(str(tmp_path / "mine.txt")) == DARTS
    (tmp_path / "mine.txt").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match="mine.txt.*save it as UTF-8"):
        read_genotype(str(tmp_path / "mine.txt"))


def test_the_space_of_the_settings_is_that_of_a_notation_without_one(tmp_path):
    genotype = dnas.random_genotype(jax.random.key(0), dnas.SPACES["s1"])
    (tmp_path / "mine.txt").write_text(genotype.to_text())
    for given in (genotype.to_text(), str(tmp_path / "mine.txt")):
        assert read_genotype(given, "s1") == genotype
    assert read_genotype("DARTS_V2", "s1") == DARTS  # which a check of the space refuses


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "no genotype was given; for instance: --genotype=DARTS_V2"),
        ("DARTS_V3", "'DARTS_V3' is neither a file nor published; .*or one of: DARTS_V1, DARTS_V2"),
        ("a" * 5000, "'aaaa.* is neither a file nor published"),
        ("runs\0/x", "is neither a file nor published"),
        ("Genotype(normal=[]", "not well-formed"),
        ("a: b; c", "layer 0 of the genotype"),
        ("|", "node 1 of the NAS-Bench-201 string"),
        (TEXT * 50, "characters was given; at most 20000 are read: of a log, give the line"),
    ],
    ids=range(8),
)
def test_what_is_no_genotype_is_refused_with_what_to_give(given, reason):
    with pytest.raises(ValueError, match=reason):
        read_genotype(given)
