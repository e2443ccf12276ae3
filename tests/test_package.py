"""What the package says of itself is said once, or alike in all places."""

import configparser
import pathlib
import re
import subprocess
import sys

import dnas

ROOT = pathlib.Path(__file__).parents[1]


def setup():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config


def test_the_version_is_written_in_the_package_and_cited_and_described():
    assert setup()["metadata"]["version"] == "attr: dnas.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", dnas.__version__)
    cited = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (\S+)$", cited, re.MULTILINE) == [dnas.__version__]
    changes = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert dnas.__version__ in changes[0]


def test_the_licence_is_one():
    name = setup()["metadata"]["license_expression"]
    assert f"license: {name}" in (ROOT / "CITATION.cff").read_text().splitlines()
    text = (ROOT / "LICENSE").read_text()
    assert name == "Apache-2.0" and "Apache License\n" in text and "Version 2.0" in text
    assert "the dnas authors" in text and setup()["metadata"]["author"] == "the dnas authors"


def test_what_is_tested_with_the_oldest_packages_is_what_the_bounds_say():
    config = setup()
    lines = config["options"]["install_requires"].split("\n")
    for extra in ("app", "nats", "searchers", "predictors", "stream", "dev"):
        lines += config["options.extras_require"][extra].split("\n")
    bounds = {}
    for line in lines:
        if line and line[0] not in "#%":
            name, bound = re.fullmatch(r"([\w-]+)(?:\[\w+\])?[>=]=(\S+)", line).groups()
            bounds[name] = bound
    pins = (ROOT / "constraints-minimum.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in pins if "==" in line)
    bounds["jaxlib"] = bounds["jax"]  # they come together

    def numbers(version):
        return re.sub(r"(\.0)+$", "", version)

    assert {name: numbers(bound) for name, bound in bounds.items()} == {
        name: numbers(pin) for name, pin in pinned.items()
    }


def test_the_documents_for_contributors_point_to_what_is_there():
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text()
        links = set(re.findall(r"\]\((?!http)([^)#]+)\)", text))
        assert [link for link in links if not (ROOT / link).exists()] == [], name
    checks = set(re.findall(r"`(check_\w+)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert [name for name in checks if not hasattr(dnas.contracts, name)] == []


def test_importing_dnas_loads_nothing_that_few_need():
    program = "import sys, dnas; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"scipy", "matplotlib", "sklearn", "optuna", "onnx", "onnxruntime", "tyro", "PIL"}
    assert not heavy & set(done.stdout.split())
