"""The job on a text: search a recurrent cell -> train it -> compare with random cells and a unigram
model -> report.

`make text TEXT=file.txt` runs it, and so does `make search SPACE=recurrent TEXT=file.txt`.
"""

import argparse
import dataclasses
import hashlib
import pathlib
import pydoc_data.topics
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax

import dnas
from dnas.spaces import Dropout
from dnas.tasks.text import TOKENS
from experiments import build, hardware, phases
from experiments.checkpoints import Checkpoints
from experiments.command import run_command
from experiments.config import MethodConfig, RunConfig
from experiments.display import text_of
from experiments.plots import draw_logits, draw_perplexities, picture
from experiments.report import write_pages
from experiments.retrain import read_genotype
from experiments.runs import Run


@dataclasses.dataclass(frozen=True)
class TextConfig(MethodConfig, RunConfig):
    """Searches a recurrent cell on a text, trains it and random cells from scratch, and writes a
    report of perplexities.

    Example: make text TEXT=book.txt NAME=book
    """

    text: str = ""
    """A text file in UTF-8, or a folder with train.txt, valid.txt and test.txt; by default the help
    topics of Python itself."""
    data_dir: pathlib.Path | None = None
    """Folder from which the name of the text starts."""
    sizes: Literal["small", "published"] = "small"
    """Where the defaults of all others come from: minutes on 2 cores, or DARTS on Penn Treebank, as
    TEXT=folder TOKENS=blanks MIN_COUNT=1 reads it."""
    space: str = "recurrent"
    """Search space by name, one whose networks read tokens."""
    genotype: str = ""
    """Train this cell instead of searching one: a file, the name of a published cell such as
    DARTS_RNN_V2, or its text."""
    tokens: Literal["words", "blanks", "characters"] = "words"
    """What the text falls into: words and marks in lower case, whatever stands between blanks, or
    characters."""
    min_count: int = 2
    """Tokens that the part for training has less often are read as one, <unk>."""
    max_tokens: int = 10_000
    """Size of the vocabulary at the most."""
    window: int = 35
    """Tokens that a gradient goes back through."""

    channels: int = 300
    """Size of words and hidden states in the search."""
    epochs: int = 50
    """Epochs of the search, each over the part for training."""
    steps: int | None = None
    """End the search after this many steps."""
    batch_size: int = 256
    """Pieces of the text that are read side by side in the search, of each of the two parts."""
    learning_rate: float = 20.0
    """SGD's for the weights, at the start."""
    min_learning_rate: float = 20.0
    """SGD's at the end."""
    arch_learning_rate: float = 3e-3
    """Adam's for arch."""
    arch_weight_decay: float | None = None
    """Of the arch optimiser: added to the gradient of arch."""
    arch_b1: float = 0.9
    """Adam's for arch."""
    clip_virtual: bool = True
    """Whether virtual steps are clipped as real ones are."""
    weight_decay: float = 5e-7
    """Of the weights in the search."""
    remat: bool = True
    """Whether the search computes each token again for the gradient instead of keeping what it
    computed."""

    retrain_channels: int = 850
    """Size of words and hidden states of the final network."""
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

    momentum: float = 0.0
    """SGD's in the search."""
    nesterov: bool = False
    """Whether that momentum looks ahead."""
    clip: float = 0.25
    """Largest norm of the weights' gradient, in search and training."""
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
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What networks compute in."""
    onnx: bool = False
    """Whether the trained network is written as network.onnx too, which reads one token at a time.
    """

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


class TextJob(NamedTuple):
    """What all phases of a run on a text share."""

    config: TextConfig
    run: Run
    text: dnas.Text
    space: dnas.SearchSpace


def main(args: list[str]) -> None:
    """Runs the job with the settings of the command line."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--sizes", default="small")
    sizes = first.parse_known_args(args)[0].sizes
    if sizes not in SIZES:
        sys.exit(f"error: sizes {sizes!r} is not known; choose from: {', '.join(SIZES)}")
    default = TextConfig(sizes=sizes, **SIZES[sizes])
    run_command(TextConfig, "text", args, search, make=make_job, default=default)


def make_job(config: TextConfig, run_of: Callable[[], Run]) -> TextJob:
    """Returns the job of the settings: names become objects here. The run's folder is opened last,
    once all else is valid.

    Raises:
      ValueError: for names that do not exist, a text that is not there or too short, and sizes that
        do not fit.
    """
    if config.onnx:
        hardware.check_export()
    spaces = [name for name, space in dnas.SPACES.items() if space.inputs == "tokens"]
    if config.space not in spaces:
        raise ValueError(
            f"space {config.space!r} is not one for texts; choose from: {', '.join(spaces)}"
        )
    if config.tokens not in TOKENS:
        raise ValueError(f"tokens {config.tokens!r} is not known; choose from: {', '.join(TOKENS)}")
    space, source = dnas.SPACES[config.space], read_source(config)
    if config.genotype:
        dnas.check_genotype(space, read_genotype(config.genotype))
    text = dnas.read_text(
        source, tokens=config.tokens, min_count=config.min_count, max_tokens=config.max_tokens
    )
    for part, batch_size in (
        (text.train, config.batch_size),
        (text.valid, config.batch_size),
        (text.train, config.retrain_batch_size),
    ):
        dnas.tasks.text.streams(part, batch_size, config.window)
    build.method_parts(config, build.Length(config.epochs, 1))
    space.supernet(channels=config.channels, num_classes=len(text.vocabulary), **_options(config))
    run = run_of()
    digest = hashlib.sha256(
        "\0".join([source] if isinstance(source, str) else source).encode()
    ).hexdigest()
    before = run.read("text.json") or {"sha256": digest}
    if before["sha256"] != digest:
        raise ValueError(
            f"the text has changed since the run in {run.folder} began; give another name"
        )
    tokens = {part: len(getattr(text, part)) for part in ("train", "valid", "test")}
    run.write(
        "text.json", {"sha256": digest, "tokens": tokens, "vocabulary": list(text.vocabulary)}
    )
    return TextJob(config, run, text, space)


def read_source(config: TextConfig) -> str | list[str]:
    """Returns the text of the settings, or its three parts where it is a folder.

    Raises:
      ValueError: if it is not there or not UTF-8.
    """
    if not config.text:
        return "\n".join(pydoc_data.topics.topics.values())
    path = pathlib.Path(config.text).expanduser()
    path = path if config.data_dir is None else config.data_dir / path
    files = (
        [path / f"{part}.txt" for part in ("train", "valid", "test")] if path.is_dir() else [path]
    )
    try:
        texts = [file.read_text("utf-8") for file in files]
    except FileNotFoundError as error:
        raise ValueError(
            f"there is no {error.filename}; TEXT is a file, or a folder with train.txt, valid.txt"
            " and test.txt"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}") from None
    return texts if path.is_dir() else texts[0]


def search(job: TextJob) -> None:
    """Runs all phases that are not done yet and writes summary.json and report.html."""
    config, text = job.config, job.text
    found = search_cell(job)
    genotype = dnas.Genotype.from_text(found["genotype"])
    trained = {"searched": train(job, "searched", "train searched cell", genotype)}
    keys = jax.random.split(
        jax.random.fold_in(jax.random.key(config.seed), 2**31 + 1), max(config.random_cells, 1)
    )
    for number, key in enumerate(keys[: config.random_cells]):
        cell = dnas.random_genotype(key, job.space)
        trained[f"random_{number}"] = train(
            job, f"random_{number}", f"train random cell {number + 1}", cell
        )
    random = [result["test_perplexity"] for name, result in trained.items() if name != "searched"]
    summary = {
        "test_perplexity": trained["searched"]["test_perplexity"],
        "unigram_perplexity": dnas.unigram_perplexity(text.train, text.test, len(text.vocabulary)),
        "random_perplexities": random,
        "random_mean": statistics.fmean(random) if random else None,
        "genotype": text_of(genotype),
        "params": trained["searched"]["params"],
        "seconds": (
            {"search": found["seconds"]}
            | {name: result["seconds"] for name, result in trained.items()}
        ),
        "seed": config.seed,
        "dataset": config.dataset,
        "tokens": job.run.read("text.json")["tokens"],
        "vocabulary": len(text.vocabulary),
    }
    write_report(job, summary, trained)


def search_cell(job: TextJob) -> dict[str, Any]:
    """Runs the search, or reads its result if it is done or given: the genotype's JSON and the
    seconds it took."""
    config, done = job.config, job.run.read("phases/search.json")
    if done:
        return done
    if config.genotype:
        genotype = read_genotype(config.genotype)
        phases.write_genotype(job.run, genotype)
        job.run.write("phases/search.json", {"genotype": genotype.to_json(), "seconds": 0.0})
        return job.run.read("phases/search.json")
    phase = phases.Phase(job, "search", "search")
    steps = (len(job.text.train) - 1) // config.batch_size // config.window
    result = dnas.search_text(
        job.space,
        job.text,
        channels=config.channels,
        epochs=config.epochs,
        batch_size=config.batch_size,
        window=config.window,
        max_steps=config.steps,
        supernet_options=_options(config),
        slowness=config.slowness,
        **build.method_parts(config, build.Length(config.epochs, steps)),
        seed=config.seed,
        resume=phase.resume,
        report=phase.report,
        announce=phase.announce,
    )
    phases.write_genotype(job.run, result.genotype)
    return phase.finish({"genotype": result.genotype.to_json()})


def train(job: TextJob, name: str, title: str, genotype: dnas.Genotype) -> dict[str, Any]:
    """Trains the network of a genotype, or reads the result if that is done: perplexities,
    parameters, seconds."""
    done = job.run.read(f"phases/{name}.json")
    if done:
        return done
    phase = phases.Phase(job, name, title)
    result = _retrain(
        job, genotype, resume=phase.resume, report=phase.report, announce=phase.announce
    )
    print(f"{title}: test perplexity {result.test_perplexity:.2f}")
    found = phase.finish(
        {
            "genotype": genotype.to_json(),
            "test_perplexity": result.test_perplexity,
            "valid_perplexity": result.valid_perplexity,
            "params": sum(array.size for array in jax.tree.leaves(result.weights)),
        }
    )
    if (
        job.config.onnx and name == "searched"
    ):  # once the result is written: a failure here loses nothing
        network = _network(job, genotype)
        phases.keep_onnx(
            job.run,
            lambda path: hardware.write_language_model(path, network, {"params": result.weights}),
        )
    return found


def evaluate(job: TextJob, name: str) -> float:
    """Returns the test perplexity of a network that was trained in this run and is read back from
    its checkpoint."""
    done, checkpoints = (
        job.run.read(f"phases/{name}.json"),
        Checkpoints(job.run.folder / "checkpoints" / name),
    )
    if checkpoints.latest() is None:
        raise ValueError(
            f"{job.run.folder / 'checkpoints' / name} holds no checkpoint; train the network again"
        )
    quiet = {"report": lambda progress: None, "announce": lambda memory: None}
    return _retrain(
        job, dnas.Genotype.from_text(done["genotype"]), resume=checkpoints.restore, **quiet
    ).test_perplexity


def _retrain(job: TextJob, genotype: dnas.Genotype, **progress) -> dnas.TextRetrainResult:
    config = job.config
    return dnas.retrain_text(
        _network(job, genotype),
        job.text,
        epochs=config.retrain_epochs,
        batch_size=config.retrain_batch_size,
        window=config.window,
        max_steps=config.retrain_steps,
        optimizer=partial(
            dnas.text_sgd,
            learning_rate=config.retrain_learning_rate,
            weight_decay=config.retrain_weight_decay,
            clip=config.clip,
        ),
        patience=config.patience,
        slowness=config.slowness,
        seed=config.seed,
        **progress,
    )


def _network(job: TextJob, genotype: dnas.Genotype) -> dnas.Model:
    config = job.config
    return job.space.network(
        genotype,
        channels=config.retrain_channels,
        num_classes=len(job.text.vocabulary),
        dropout=_dropout(config)._replace(words=config.dropout_words),
        dtype=phases.dtype_of(config),
    )


def _dropout(config: TextConfig) -> Dropout:
    rates = (
        config.dropout_embedding,
        config.dropout_inputs,
        config.dropout_hidden,
        config.dropout_output,
    )
    return Dropout(0.0, *rates)


def _options(config: TextConfig) -> dict[str, Any]:
    return {"dropout": _dropout(config), "remat": config.remat, "dtype": phases.dtype_of(config)}


def write_report(job: TextJob, summary: dict[str, Any], trained: dict[str, dict[str, Any]]) -> None:
    """Writes pictures, report.html and, last of all, summary.json, which marks the run as finished;
    prints the result."""
    search_rows = job.run.rows("search")
    pictures = {
        "curves.png": picture(
            draw_perplexities(search_rows, {name: job.run.rows(name) for name in trained})
        ),
    }
    if search_rows:
        pictures["logits.png"] = picture(draw_logits(job.space, search_rows))
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
        "Parameters: all trainable arrays. All networks are trained with the same settings and the"
        " same seed; each is scored with the weights of the epoch that was best on the validation"
        " part. The unigram model predicts every token with its share of the part for training, one"
        " added to each count."
    )
    write_pages(job.run, summary, verdict(summary), (columns, rows, note), pictures)


def verdict(summary: dict[str, Any]) -> str:
    """Returns the result in words, beside the unigram model and the random cells."""
    text = (
        f"test perplexity {summary['test_perplexity']:.2f} on {summary['tokens']['test']:,} tokens,"
        f" vocabulary of {summary['vocabulary']:,}, {summary['params']:,} parameters; a unigram"
        f" model: {summary['unigram_perplexity']:.2f}"
    )
    random = summary["random_perplexities"]
    if not random:
        return text + "."
    cells = f"{len(random)} random cells" if len(random) > 1 else "1 random cell"
    return (
        text + f"; {cells}, trained alike: {summary['random_mean']:.2f} (best {min(random):.2f})."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
