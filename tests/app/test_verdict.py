"""What a report says of one network beside random ones is true of as many as there are."""

import numpy as np
import pytest

from dnas.app.pages import beside_random, trained_alike, verdict
from dnas.app.text import verdict as verdict_of_text


def said(score, random, **more):
    return beside_random(score, random, **{"finest": 1 / 360, "form": ".2%"} | more)


def test_three_random_cells_claim_a_difference_at_4_97_deviations():
    random = [0.70, 0.71, 0.72]
    assert "4.97 deviations" in said(0.75, random) and "n = 3" in said(0.75, random)
    assert "as the searched one does: no difference" in said(0.71 + 0.0496, random)
    assert "is better than that" in said(0.71 + 0.0498, random)
    assert "is worse than that" in said(0.71 - 0.0498, random)


def test_of_perplexities_less_is_better():
    perplexities = {"finest": 0.0, "form": ".2f", "less_is_better": True}
    assert "is better than that" in said(10.0, [90.0, 91.0, 92.0], **perplexities)
    assert "is worse than that" in said(99.0, [90.0, 91.0, 92.0], **perplexities)


def test_where_nothing_could_be_better_it_says_so():
    assert "Even 100.00% lies within it" in said(1.0, [0.9935, 0.9907, 0.9963])
    assert "Even" not in said(0.71, [0.70, 0.71, 0.72])


def test_equal_scores_are_known_to_one_image_at_best():
    assert "no difference" in said(0.9 + 4 / 360, [0.9, 0.9, 0.9])
    assert "better" in said(0.9 + 5 / 360, [0.9, 0.9, 0.9])


def test_one_random_cell_says_nothing():
    assert "says nothing of what chance does" in said(0.9, [0.5])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_where_there_is_no_difference_one_is_claimed_in_one_of_twenty(n):
    draws = np.random.default_rng(n).normal(0.7, 0.01, (4000, n + 1))
    claims = ["no difference" not in said(own[0], own[1:], finest=0.0) for own in draws]
    assert abs(np.mean(claims) - 0.05) < 4 * (0.05 * 0.95 / len(draws)) ** 0.5


SUMMARY = {
    "test_accuracy": 0.9889,
    "test_images": 360,
    "params": 85050,
    "macs": 10,
    "random_accuracies": [0.9935, 0.99, 0.997],
    "random_mean": 0.9935,
    "random_std": 0.0035,
}


def test_the_verdict_has_number_mean_deviation_and_interval():
    text = verdict(SUMMARY)
    assert "random architectures, trained alike: 99.35% +- 0.35% [98.48% to 100.22%], n = 3" in text
    assert "(architectures), best 99.70%." in text
    assert "seeds of the training" in verdict(SUMMARY | {"own_seeds": True})
    assert "within 97.61% to 101.09%" in text and "no difference can be told" in text
    assert verdict(SUMMARY | {"random_accuracies": []}).endswith("10 multiply-adds.")
    largest = {"test_accuracy": 0.9972, "params": 2000, "macs": 123456}
    assert verdict(SUMMARY | {"largest": largest}).startswith(text)
    assert "multiply-adds (123,456), which needs no search: 99.72%; it is one training" in verdict(
        SUMMARY | {"largest": largest}
    )


def test_the_verdict_on_a_text_has_them_too():
    text = verdict_of_text(
        {
            "test_perplexity": 14.46,
            "tokens": {"test": 100},
            "vocabulary": 10,
            "params": 1,
            "unigram_perplexity": 84.0,
            "random_perplexities": [13.89],
        }
    )
    assert "random cells, trained alike: 13.89, n = 1 (architectures), best 13.89. One" in text


def test_what_networks_share_is_said():
    assert "one seed for all" in trained_alike({}) and "a seed each" in trained_alike(
        {"own_seeds": True}
    )
