"""NATS-Bench through its package: here an object with the surface of its API, and where installed
the real class."""

import sys
import types

import pytest
from tables import cell

from dnas.tabular import NATS_METRICS, from_nats

ARCHS = [
    cell("3x3 none none none skip none"),
    cell("skip skip skip skip skip skip"),
    cell("1x1 none none none none 1x1"),
]


class FakeApi:
    """Results are made of the architecture's number, so that a mistake in any of the four places
    shows."""

    search_space_name = "topology"

    def __init__(self, evaluated=(0, 1, 2), fast_mode=False):
        self.evaluated_indexes, self.fast_mode = set(evaluated), fast_mode

    def __len__(self):
        return len(ARCHS)

    def arch(self, index):
        return ARCHS[index]

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
        assert is_random is False and iepoch is None, "the mean over all seeds, at the end"
        known = {
            ("cifar10-valid", "12"): 1,
            ("cifar10", "200"): 2,
            ("cifar100", "200"): 3,
            ("ImageNet16-120", "200"): 4,
        }
        value = 10.0 * known[dataset, hp] + index
        return {
            "train-accuracy": 99.0,
            "valid-accuracy" if dataset == "cifar10-valid" else "test-accuracy": value,
        }

    def get_cost_info(self, index, dataset, hp="12"):
        return {"flops": 100.0 + index, "params": 0.5, "latency": None}


def test_metrics_come_from_their_data_set_and_epochs():
    table = from_nats(FakeApi())
    assert table.query(ARCHS[1]) == dict(zip(NATS_METRICS, [11.0, 21.0, 31.0, 41.0], strict=True))
    assert table.costs == set()


def test_costs_may_be_asked_for():
    table = from_nats(
        FakeApi(),
        metrics={"macs": ("cifar10", 12, "flops"), "top1": ("cifar10", 200, "test-accuracy")},
    )
    assert table.query(ARCHS[2]) == {"macs": 102.0, "top1": 22.0} and table.costs == {"macs"}


def test_only_evaluated_architectures_are_there_but_in_fast_mode_all():
    assert len(from_nats(FakeApi(evaluated=(2, 0)))) == 2 and ARCHS[1] not in from_nats(
        FakeApi(evaluated=(2, 0))
    )
    assert len(from_nats(FakeApi(evaluated=(), fast_mode=True))) == 3


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            ("cifar10", 200, "valid-accuracy"),
            "no 'valid-accuracy' of architecture 0 on 'cifar10'; it has: test-acc",
        ),
        (("cifar10", 90, "test-accuracy"), "no result of architecture 0 on 'cifar10' at 90 epochs"),
        (("cifar10", 200, "latency"), "no 'latency' of architecture 0"),
    ],
)
def test_a_metric_that_is_not_there_is_an_error(metric, message):
    with pytest.raises(ValueError, match=message):
        from_nats(FakeApi(), metrics={"m": metric})


def test_the_size_space_is_refused():
    api = FakeApi()
    api.search_space_name = "size"
    with pytest.raises(ValueError, match="topology space is needed"):
        from_nats(api)


def test_a_path_needs_the_package_which_the_error_says_how_to_install(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no .*nothing.*github.com/D-X-Y/NATS-Bench"):
        from_nats(tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(ValueError, match=r"pip install 'dnas\[nats\]'"):
        from_nats(tmp_path)


@pytest.mark.parametrize(
    "error", [OSError("Invalid data stream"), EOFError("cut"), AssertionError(), TypeError("odd")]
)
def test_what_the_package_raises_of_a_damaged_file_names_it(error, tmp_path, monkeypatch):
    def create(*args, **kwargs):
        raise error

    monkeypatch.setitem(sys.modules, "nats_bench", types.SimpleNamespace(create=create))
    path = tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2"
    path.write_bytes(b"BZh9")
    with pytest.raises(ValueError, match=f"cannot read .*pbz2: {type(error).__name__}.*damaged"):
        from_nats(path)


def test_a_damaged_file_of_one_architecture_is_named_by_it():
    class Damaged(FakeApi):
        def get_more_info(self, index, *args, **kwargs):
            if index == 1:
                raise EOFError("Ran out of input")
            return super().get_more_info(index, *args, **kwargs)

    with pytest.raises(ValueError, match="no result of architecture 1 .*EOFError: Ran out"):
        from_nats(Damaged())


def real_results(nats_bench):
    """State dicts as the published file holds them: per architecture and epochs, three data sets
    and two seeds."""
    infos, datasets = (
        {},
        {
            "cifar10-valid": "x-valid",
            "cifar10": "ori-test",
            "cifar100": "x-test",
            "ImageNet16-120": "x-test",
        },
    )
    for index, arch in enumerate(ARCHS):
        infos[index] = {}
        for epochs in (12, 200):
            results = nats_bench.ArchResults(index, arch)
            for number, (dataset, split) in enumerate(datasets.items(), start=1):
                for seed, shift in ((777, -0.5), (888, 0.5)):
                    config = {"arch_str": arch, "channel": 16, "num_cells": 5, "class_num": 10}
                    zeros = dict.fromkeys(range(epochs), 0.0)
                    one = nats_bench.ResultsCount(
                        dataset, None, zeros, zeros, 0.5, 100.0 + index, config, seed, epochs, None
                    )
                    keys = [f"{split}@{epoch}" for epoch in range(epochs)]
                    values = {key: 0.0 for key in keys} | {
                        keys[-1]: 10.0 * number + index + shift + (epochs == 12) / 8
                    }
                    one.update_eval(values, dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 1.0))
                    results.update(dataset, seed, one)
            infos[index][str(epochs)] = results.state_dict()
    return {"meta_archs": ARCHS, "arch2infos": infos, "evaluated_indexes": [0, 1, 2]}


def test_the_real_class_gives_the_mean_over_its_seeds():
    nats_bench = pytest.importorskip(
        "nats_bench", reason="needs the extra: pip install 'dnas[nats]'"
    )
    table = from_nats(nats_bench.create(real_results(nats_bench), "tss", verbose=False))
    assert table.query(ARCHS[1]) == pytest.approx(
        dict(zip(NATS_METRICS, [11.125, 21.0, 31.0, 41.0], strict=True))
    )
    costs = from_nats(
        nats_bench.create(real_results(nats_bench), "tss", verbose=False),
        metrics={"macs": ("cifar10", 12, "flops")},
    )
    assert costs.query(ARCHS[2]) == {"macs": 102.0}


@pytest.mark.parametrize("fast", [False, True])
def test_the_real_class_reads_both_published_layouts(tmp_path, fast):
    nats_bench = pytest.importorskip(
        "nats_bench", reason="needs the extra: pip install 'dnas[nats]'"
    )
    content, path = real_results(nats_bench), tmp_path / "NATS-tss-simple"
    if fast:
        path.mkdir()
        nats_bench.pickle_save({"meta_archs": ARCHS}, path / "meta.pickle")
        for index, infos in content["arch2infos"].items():
            nats_bench.pickle_save(infos, path / f"{index:06d}.pickle")
    else:
        path = tmp_path / "NATS-tss.pickle.pbz2"
        nats_bench.pickle_save(content, tmp_path / "NATS-tss.pickle")
    assert from_nats(path).query(ARCHS[0]) == pytest.approx(
        dict(zip(NATS_METRICS, [10.125, 20.0, 30.0, 40.0], strict=True))
    )
