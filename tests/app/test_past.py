"""What lies in the folder of a run is read without the run."""

import pytest

from dnas.app import images, text
from dnas.app.past import KINDS, read_past
from dnas.app.runs import Run


def folder_of(tmp_path, command, networks):
    run = Run(tmp_path)
    run.write("config.json", {"command": command, "settings": {}})
    for name in networks:
        run.write(f"phases/{name}.json", {"name": name})
    # phases that are no networks
    run.write("phases/search.json", {"genotype": ""})
    run.write("phases/proof.json", {"limits": [{"metric": "macs"}]})
    run.write("phases/onnx.json", {"file": "network.onnx"})
    return tmp_path


@pytest.mark.parametrize("command", KINDS)
def test_networks_come_in_the_order_in_which_they_were_trained_and_nothing_else_does(
    command, tmp_path
):
    names = ["searched", *(f"random_{number}" for number in range(11)), "most_multiply-adds"]
    past = read_past(folder_of(tmp_path, command, reversed(names)))
    assert list(past.trained) == names and past.kind == KINDS[command]
    assert past.trained["random_10"] == {"name": "random_10"}


def test_a_run_of_every_command_is_made_again_by_what_made_it():
    assert KINDS["text"].make_job is text.make_job
    assert {KINDS[name].make_job for name in KINDS if name != "text"} == {images.make_job}


@pytest.mark.parametrize("networks", [(), ("random_0",)])
def test_without_the_searched_network_there_is_nothing_to_score_or_show(networks, tmp_path):
    with pytest.raises(ValueError, match="has trained no network; .* --resume goes on"):
        read_past(folder_of(tmp_path, "search", networks))
