import numpy as np

import dnas
from dnas.app.display import Display, skips, text_of
from dnas.running.loop import Progress

ONE, OTHER = dnas.PUBLISHED["DARTS_V1"], dnas.PUBLISHED["DARTS_V2"]


def progress_at(step, row=None):
    return Progress(
        step, 4, 2, 0.5, {"loss": np.array([1.25]), "accuracy": np.array([0.5])}, None, row
    )


def shown_by(genotypes, capsys):
    display = Display("search")
    for step, genotype in enumerate(genotypes, start=1):
        display(progress_at(step, {"epoch": step, "genotype": genotype}))
    return capsys.readouterr()


def test_the_line_shows_loss_accuracy_step_time_and_progress(capsys):
    shown = shown_by([ONE] * 4, capsys).err
    for words in ("compiling", "loss 1.250", "acc 0.500", "500 ms/step", "4/4"):
        assert words in shown


def test_a_genotype_is_shown_when_it_changes_and_not_when_its_edges_are_listed_in_another_order(
    capsys,
):
    turned = dnas.Genotype(
        "darts", {kind: tuple(reversed(edges)) for kind, edges in ONE.cells.items()}
    )
    shown = shown_by([ONE, ONE, turned, OTHER], capsys).out
    assert [line.split(":")[0] for line in shown.splitlines() if "Genotype" in line] == [
        "epoch 1",
        "epoch 4",
    ]
    assert skips(ONE) in shown and skips(OTHER) in shown


def test_skips_counts_the_skip_connections_of_each_cell():
    assert skips(ONE) == "skips normal 3 of 8, reduce 3 of 8"


def test_text_reads_back_to_the_same_genotype_whatever_the_space():
    renamed = dnas.Genotype("mine", ONE.cells)
    for genotype in (ONE, renamed):
        assert dnas.Genotype.from_text(text_of(genotype)) == genotype
