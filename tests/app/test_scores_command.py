"""`dnas scores` scores every different network once, goes on where it was killed, and says how
scores order a benchmark."""

import csv
import itertools

import numpy as np
import pytest

import dnas
from dnas.app import scores
from dnas.tabular import canonical_form

OPS = dnas.SPACES["nasbench201"].cells["cell"].ops


def cell(ops):
    first, second, third, *last = (
        f"{op}~{source}" for op, source in zip(ops, (0, 0, 1, 0, 1, 2), strict=True)
    )
    return f"|{first}|+|{second}|{third}|+|{'|'.join(last)}|"


@pytest.fixture
def args(tmp_path):
    """Of a benchmark of 25 cells, with the number of 3x3 convolutions for an accuracy."""
    rng = np.random.default_rng(0)
    texts = [cell([*pair, *rng.choice(OPS, 4)]) for pair in itertools.product(OPS, repeat=2)]
    rows = [f"{text},{text.count('3x3~')},0.5" for text in texts]
    file = tmp_path / "benchmark.csv"
    file.write_text("\n".join(["arch,accuracy,ms", *rows]) + "\n")
    return [
        f"--benchmark={file}",
        "--metric=accuracy",
        "--scores=macs",
        "--channels=4",
        f"--runs={tmp_path}",
    ]


def rows_of(tmp_path):
    with open(tmp_path / "scores" / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_goes_on_where_it_was_killed(args, tmp_path, capsys, monkeypatch):
    scores.main(args)
    whole, shown = rows_of(tmp_path), capsys.readouterr().out
    forms = [canonical_form(dnas.Genotype.from_text(row["arch"])) for row in whole]
    assert len(set(forms)) == len(forms) <= 25
    assert "| macs | 25 |" in shown
    file = tmp_path / "scores" / "scores.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:10]) + lines[10][:7])  # killed while it wrote a row
    scored = []
    make = scores.make_scorer

    def counting(*args, **more):
        scorer = make(*args, **more)
        return lambda genotype: scored.append(genotype) or scorer(genotype)

    monkeypatch.setattr(scores, "make_scorer", counting)
    scores.main(args)
    assert rows_of(tmp_path) == whole and len(scored) == len(whole) - 9
    assert capsys.readouterr().out == shown
    with pytest.raises(SystemExit, match="other settings .channels.; give them, or another name"):
        scores.main([*args, "--channels=8"])


def test_so_many_networks_at_random_are_different(tmp_path):
    given = ["--networks=6", "--scores=macs", "--channels=4", f"--runs={tmp_path}"]
    scores.main(given)
    forms = {canonical_form(dnas.Genotype.from_text(row["arch"])) for row in rows_of(tmp_path)}
    assert len(forms) == 6


def test_a_table_says_how_scores_order_networks():
    rng = np.random.default_rng(0)
    values, noise = rng.normal(size=(2, 40)).tolist()
    lines = scores.table({"own": values, "noise": noise}, values, "top1").splitlines()
    assert lines[2].startswith("| own | 40 | 1.000 | 1.000 (1.000 to 1.000) | 1.000 |")
    assert lines[2].endswith(f"| {max(values):.2f} |") and "tau-b with top1" in lines[0]


def test_mistakes_are_said_before_anything_is_scored(tmp_path):
    for args, message in (
        (["--scores=naswoot"], "score 'naswoot' is not known"),
        (["--space=nothing"], "space 'nothing' is not known"),
        (["--space=recurrent"], "read tokens and not images"),
        (["--space=darts"], "say how many are scored: --networks=1000"),
        (["--batch-size=2000"], "digits has 1,437 images, fewer than batch_size=2000"),
        (["--seeds=0"], "seeds is a number of at least 1"),
        (["--scores=hidden_covariance"], "networks that read tokens"),
    ):
        with pytest.raises(SystemExit, match=message):
            scores.main([*args, f"--runs={tmp_path / 'runs'}"])
        assert not (tmp_path / "runs").exists()
