"""What a person sees while a run works: a progress line, and the genotype as it changes."""

import math
import sys

from tqdm import tqdm

from dnas.genotype import Genotype
from dnas.running.loop import Progress, StepMemory


class Display:
    """A progress line with loss, accuracies, step time and time left. Its call is a report function
    of the library."""

    def __init__(self, title: str):
        tqdm.write(f"{title}: compiling (programs are kept for later runs)", file=sys.stderr)
        self._title = title
        self._line = None
        self._genotype = None

    def announce(self, memory: StepMemory) -> None:
        """Says how much memory a step needs, before the first one."""
        tqdm.write(f"{self._title}: {memory}", file=sys.stderr)

    def __call__(self, progress: Progress) -> None:
        if self._line is None:
            self._line = tqdm(
                desc=self._title,
                total=progress.total_steps,
                # the first call compiles: left out of the rate, it does not spoil the time left
                initial=progress.step,
                unit=progress.unit,
                dynamic_ncols=True,
                mininterval=0.2 if sys.stderr.isatty() else 10.0,
            )
        numbers = {name: float(values[-1]) for name, values in progress.metrics.items()}
        epoch = math.ceil(progress.step / progress.steps_per_epoch)
        words = [f"{progress.row_unit} {epoch}"]
        words += [f"{_SHORT.get(name, name)} {value:.3f}" for name, value in numbers.items()]
        words.append(f"{progress.seconds * 1000:.0f} ms/{progress.unit}")
        self._line.set_postfix_str(", ".join(words), refresh=False)
        self._line.update(progress.step - self._line.n)
        row = progress.row or {}
        if "genotype" in row and _choices(row["genotype"]) != _choices(self._genotype):
            self._genotype = row["genotype"]
            when = f"{progress.row_unit} {row['epoch']}"
            tqdm.write(f"{when}: {skips(row['genotype'])}; {text_of(self._genotype)}")
        if "test_accuracy" in row and progress.step == progress.total_steps:
            tqdm.write(f"{self._title}: test accuracy {row['test_accuracy']:.2%}")
        if progress.step == progress.total_steps:
            self._line.close()


_SHORT = {"accuracy": "acc", "valid_accuracy": "valid acc", "valid_loss": "valid loss"}


def text_of(genotype: Genotype) -> str:
    """Returns the original notation if that reads back to the same genotype, and JSON otherwise."""
    try:
        text = genotype.to_text()
    except ValueError:
        return genotype.to_json()
    return text if Genotype.from_text(text) == genotype else genotype.to_json()


def _choices(genotype: Genotype | None):
    """What is chosen, whatever the order in which the edges are listed."""
    return genotype and {kind: frozenset(edges) for kind, edges in genotype.cells.items()}


def skips(genotype: Genotype) -> str:
    """Returns the skip count of each cell in words: a cell of skips has collapsed (DARTS+, arXiv
    1909.06035)."""
    return "skips " + ", ".join(
        f"{kind} {count} of {len(genotype.cells[kind])}"
        for kind, count in skip_counts(genotype).items()
    )


def skip_counts(genotype: Genotype) -> dict[str, int]:
    """Returns how many edges of each cell are skips: in a recurrent cell those of the identity."""
    return genotype.count("identity" if "recurrent" in genotype.cells else "skip_connect")
