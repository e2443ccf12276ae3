"""The product as someone has it who installs the wheel: `dnas search` in an empty folder.

Command: python -m experiments.studies.wheel. It takes minutes, installs packages from an index, and
prints the seconds of the installation and of the search, whose compilation cache is empty.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]


def build(folder: pathlib.Path) -> pathlib.Path:
    """Returns the wheel, built into the folder from the source distribution beside it."""
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("dnas-*.whl")
    return wheel


def install(folder: pathlib.Path, requirement: str) -> pathlib.Path:
    """Returns the folder of the programs of a new environment with this requirement alone."""
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    programs = environment / "bin"
    # -I: pip takes what lies here, or on PYTHONPATH, for installed.
    pip = [str(programs / "python"), "-I", "-m", "pip", "install", "--quiet", requirement]
    subprocess.run(pip, check=True)
    return programs


def run(
    programs: pathlib.Path, folder: pathlib.Path, *words: str, **options
) -> subprocess.CompletedProcess[str]:
    """Runs a program of an environment in a folder that is its home too, with no variable of this
    process but XLA's flags.

    Args:
      options: what else `subprocess.run` takes.
    """
    folder.mkdir(exist_ok=True)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder)}
    if "XLA_FLAGS" in os.environ:
        environment["XLA_FLAGS"] = os.environ["XLA_FLAGS"]
    command = [str(programs / words[0]), *words[1:]]
    return subprocess.run(command, cwd=folder, env=environment, text=True, **options)


def main() -> None:
    """Prints the seconds of a search with its defaults."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        wheel = build(folder / "dist")
        start = time.monotonic()
        programs = install(folder, f"{wheel}[app]")
        print(f"pip install '{wheel.name}[app]': {time.monotonic() - start:.0f} s", flush=True)
        start = time.monotonic()
        run(programs, folder / "empty", "dnas", "search", check=True)
        print(f"dnas search: {time.monotonic() - start:.0f} s")
        (report,) = (folder / "empty" / "runs").glob("*/report.html")
        print(f"{report.name}: {report.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
