"""The job on a text: search a recurrent cell -> train it -> compare with random cells and a unigram
model -> report.

`dnas text --text=file.txt` runs it, and so does `dnas search --space=recurrent --text=file.txt`.
"""

import argparse
import dataclasses
import hashlib
import os
import pathlib
import pydoc_data.topics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax

import dnas
from dnas import tasks
from dnas.app import exporting, named, phases
from dnas.app.config import Layer, MethodConfig, RunConfig, layers, small_settings
from dnas.app.pages import beside_random, trained_alike, varied, write_pages
from dnas.app.plots import draw_logits, draw_perplexities, picture
from dnas.app.runs import Run
from dnas.files import read_text_file, shown
from dnas.spaces import Dropout
from dnas.statistics import reported
from dnas.tasks.reading import TOKENS

_MOST_BYTES = 10**9  # of a text; WikiText-103 has half of it


@dataclasses.dataclass(frozen=True)
class TextConfig(MethodConfig):
    """Searches a recurrent cell on a text, trains it and random cells from scratch, and writes a
    report of perplexities.

    Example: dnas text --text=book.txt --name=book
    """

    text: str = ""
    """A text file in UTF-8, or a folder with train.txt, valid.txt and test.txt; by default the help
    topics of Python itself."""
    data_dir: pathlib.Path | None = None
    """Folder from which the name of the text starts."""
    sizes: Literal["small", "published"] = "small"
    """Where the defaults of all others come from: minutes on 2 cores, or DARTS on Penn Treebank, as
    --text=folder --tokens=blanks --min-count=1 reads it."""
    space: str = "recurrent"
    """Search space by name, one whose networks read tokens."""
    tokens: Literal["words", "blanks", "characters"] = "words"
    """What the text falls into: words and marks in lower case, whatever stands between blanks, or
    characters."""
    min_count: int = 2
    """Tokens that the part for training has less often are read as one, <unk>."""
    max_tokens: int = 10_000
    """Size of the vocabulary at the most."""
    window: int = 35
    """Tokens that a gradient goes back through."""

    retrain_channels: int = 850
    """Size of words and hidden states of the final network."""
    retrain_cells: int = 1
    """Cells of the final network."""
    retrain_epochs: int = 8000
    """Epochs of training."""
    retrain_steps: int | None = None
    """End training after this many steps."""
    retrain_batch_size: int = 64
    """Pieces of the text that are read side by side in training."""
    retrain_learning_rate: float = 20.0
    """SGD's."""
    retrain_weight_decay: float = 8e-7
    """Of the weights in training."""
    patience: int = 5
    """Epochs without a better validation loss after which SGD turns into averaged SGD."""
    random_cells: int = 1
    """How many random cells to train for comparison."""
    one_seed: bool = False
    """Whether all final networks are trained with --seed; otherwise random ones have a seed each,
    so that what training does is part of how they differ."""

    retrain_clip: float | None = 0.25
    """Largest norm of the weights' gradient in training."""
    slowness: float = 1e-3
    """Weight of the squared change of the hidden state in the loss of the weights."""
    dropout_words: float = 0.0
    """Rate of words whose embedding is zero, in training; never in the search."""
    dropout_embedding: float = 0.2
    """Rate of dropped elements of embeddings, in search and training."""
    dropout_inputs: float = 0.75
    """The same once more, at the cell's input."""
    dropout_hidden: float = 0.25
    """The same of states within the cell."""
    dropout_output: float = 0.75
    """The same before words are predicted."""
    onnx: bool = False
    """Whether the trained network is written as network.onnx too, which reads one token at a time.
    """
    litert: bool = False
    """The same as network.tflite, for LiteRT."""

    @property
    def dataset(self) -> str:
        """The name of the text, for the run's folder."""
        return pathlib.Path(self.text).stem or "pydoc"


SIZES: dict[str, dict[str, Any]] = {
    "published": {"dropout_words": 0.1},
    "small": {
        "channels": 64,
        "epochs": 4,
        "batch_size": 32,
        "arch_learning_rate": 1e-2,
        "remat": False,
        "retrain_channels": 128,
        "retrain_epochs": 8,
        "retrain_batch_size": 16,
        "dropout_embedding": 0.1,
        "dropout_inputs": 0.2,
        "dropout_hidden": 0.1,
        "dropout_output": 0.2,
    },
}


def text_layers(kind: type[RunConfig], args: Sequence[str]) -> list[Layer]:
    """Returns the layers of settings for the sizes that a command line names.

    Raises:
      ValueError: for sizes, a method or a space that do not exist.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--sizes", default="small")
    first.add_argument("--method", default="darts1")
    first.add_argument("--space", default="recurrent")
    given = first.parse_known_args(list(args))[0]
    named.check_known("sizes", given.sizes, SIZES)
    small = small_settings(given.method, given.space)
    own = {"sizes": given.sizes, **SIZES[given.sizes], **small}
    found = layers(kind, given.method, given.space)
    return [*found, Layer(f"{given.sizes} sizes", own)]


def make_job(config: TextConfig, run_of: phases.RunOf) -> phases.Job:
    """Returns the job of the settings: names become objects here. The run's folder is opened last,
    once all else is valid.

    Raises:
      ValueError: for names that do not exist, a text that is not there or too short, and sizes that
        do not fit.
    """
    spaces = [name for name, space in dnas.SPACES.items() if space.inputs == "tokens"]
    if config.space not in spaces:
        raise ValueError(
            f"space {shown(config.space)} is not one for texts; choose from: {', '.join(spaces)}"
        )
    named.check_known("tokens", config.tokens, TOKENS)
    space, source = dnas.SPACES[config.space], read_source(config)
    text = dnas.read_text(
        source, tokens=config.tokens, min_count=config.min_count, max_tokens=config.max_tokens
    )
    task = tasks.text(text, window=config.window, slowness=config.slowness)
    dropout = _dropout(config)
    final_dropout = dropout._replace(words=config.dropout_words)
    network_options = {"dropout": final_dropout, "dtype": phases.dtype_of(config)}
    sizes = {
        "channels": config.retrain_channels,
        "num_cells": config.retrain_cells,
        "num_classes": task.num_classes,
    }

    def count(genotype: dnas.Genotype) -> dict[str, int]:
        network = space.network(genotype, **sizes, **network_options)
        variables = jax.eval_shape(network.init, jax.random.key(0), task.example)
        return {"params": sum(array.size for array in jax.tree.leaves(variables["params"]))}

    count(dnas.random_genotype(jax.random.key(0), space))  # refuses sizes that no network has
    tokens = {part: len(getattr(text, part)) for part in ("train", "valid", "test")}
    job = phases.Job(
        config=config,
        space=space,
        task=task,
        final_task=task,
        sizes=sizes,
        supernet_options={"dropout": dropout},
        network_options=network_options,
        training={
            "optimizer": partial(
                dnas.text_sgd,
                learning_rate=config.retrain_learning_rate,
                weight_decay=config.retrain_weight_decay,
                clip=config.retrain_clip,
            ),
            "keep": dnas.best_average(config.patience),
        },
        count=count,
        write=exporting.write_language_model,
        facts={
            "unigram_perplexity": dnas.unigram_perplexity(text.train, text.test, task.num_classes),
            "tokens": tokens,
            "vocabulary": task.num_classes,
        },
        reads={"text": _digest_of(source)},
        report=write_report,
    )
    job = phases.check_job(job, run_of)
    if job.run.result("text.json") is None:
        kept = {**job.reads, "tokens": tokens, "vocabulary": list(text.vocabulary)}
        job.run.write("text.json", kept)
    return job


def _digest_of(source: str | list[str]) -> str:
    texts = [source] if isinstance(source, str) else source
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def read_source(config: TextConfig) -> str | list[str]:
    """Returns the text of the settings, or its three parts where it is a folder.

    Raises:
      ValueError: if it is not there, not UTF-8 or larger than 1 GB.
    """
    if not config.text:
        return "\n".join(pydoc_data.topics.topics.values())
    path = pathlib.Path(config.text).expanduser()
    path = path if config.data_dir is None else config.data_dir / path
    in_parts = os.path.isdir(path)
    files = [path / f"{part}.txt" for part in ("train", "valid", "test")] if in_parts else [path]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise ValueError(
            f"there is no {missing[0]}; --text is a file, or a folder with train.txt, valid.txt and"
            " test.txt"
        )
    texts = [read_text_file(file, most_bytes=_MOST_BYTES) for file in files]
    return texts if in_parts else texts[0]


def _dropout(config: TextConfig) -> Dropout:
    rates = (
        config.dropout_embedding,
        config.dropout_inputs,
        config.dropout_hidden,
        config.dropout_output,
    )
    return Dropout(0.0, *rates)


def write_report(
    run: Run,
    space: dnas.SearchSpace,
    summary: Mapping[str, Any],
    trained: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes pictures, report.html and, last of all, summary.json, which marks the run as finished;
    prints the result."""
    search_rows = run.rows("search")
    pictures = {
        "curves.png": picture(
            draw_perplexities(search_rows, {name: run.rows(name) for name in trained})
        ),
    }
    if search_rows:
        pictures["logits.png"] = picture(draw_logits(space, search_rows))
    rows = [
        (
            name.replace("_", " "),
            f"{result['test_perplexity']:.2f}",
            f"{result['valid_perplexity']:.2f}",
            f"{result['params']:,}",
            f"{result['seconds']:.0f}",
        )
        for name, result in trained.items()
    ]
    rows.append(("unigram model", f"{summary['unigram_perplexity']:.2f}", "", "", ""))
    columns = ("cell", "test perplexity", "validation perplexity", "parameters", "seconds")
    note = (
        f"Parameters: all trainable arrays. {trained_alike(summary)} Each is scored with the"
        " weights of the epoch that was best on the validation part. The unigram model predicts"
        " every token with its share of the part for training, one added to each count."
    )
    write_pages(run, summary, verdict(summary), (columns, rows, note), pictures)


def verdict(summary: Mapping[str, Any]) -> str:
    """Returns the result in words, beside the unigram model and the random cells."""
    text = (
        f"test perplexity {summary['test_perplexity']:.2f} on {summary['tokens']['test']:,} tokens,"
        f" vocabulary of {summary['vocabulary']:,}, {summary['params']:,} parameters; a unigram"
        f" model: {summary['unigram_perplexity']:.2f}"
    )
    random = summary["random_perplexities"]
    if not random:
        return text + "."
    text += (
        f"; random cells, trained alike: {reported(random, varied(summary))}, best"
        f" {min(random):.2f}."
    )
    score = summary["test_perplexity"]
    beside = beside_random(score, random, finest=0.0, form=".2f", less_is_better=True)
    return f"{text} {beside}"
