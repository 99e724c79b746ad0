"""Estimates: what is learned from answers, and how far off they were."""

from __future__ import annotations

import pytest

from runner.domain.estimates import Estimator
from runner.domain.outcome import Usage


def learned(answers: int, *, body: int = 1_000, usage: Usage) -> Estimator:
    estimator = Estimator()
    for _ in range(answers):
        estimator.learn(body, estimator.estimate(body, 4_096), usage)
    return estimator


def test_before_the_first_answer_there_is_a_guess_and_nothing_to_tell() -> None:
    assert Estimator().estimate(400, 1_000) == (100.0, 250.0)
    assert Estimator().told() is None


def test_one_answer_is_better_than_the_guess() -> None:
    estimator = learned(1, usage=Usage(input_tokens=500, output_tokens=70))
    assert estimator.estimate(2_000, 4_096) == (1_000.0, 70.0)


def test_reads_of_the_cache_do_not_count() -> None:
    estimator = learned(20, usage=Usage(input_tokens=100, cache_write_5m=50, cache_read=900, output_tokens=1))
    assert estimator.estimate(1_000, 10)[0] == pytest.approx(150)


def test_no_more_output_is_expected_than_may_come() -> None:
    assert learned(3, usage=Usage(output_tokens=500)).estimate(1, 100)[1] == 100


def test_an_input_that_changes_is_followed() -> None:
    estimator = learned(500, usage=Usage(input_tokens=250, output_tokens=10))
    for _ in range(600):
        estimator.learn(1_000, (250, 10), Usage(input_tokens=500, output_tokens=40))
    likely = estimator.estimate(1_000, 4_096)
    assert likely[0] == pytest.approx(500, rel=0.1)
    assert likely[1] == pytest.approx(40, rel=0.1)


def test_errors_are_told_together_and_each() -> None:
    estimator = Estimator()
    estimator.learn(100, (50, 20), Usage(input_tokens=100, output_tokens=10))
    estimator.learn(100, (150, 20), Usage(input_tokens=100, output_tokens=10))
    told = estimator.told()
    assert told is not None
    assert (told.input_error.together, told.input_error.each) == (0.0, 0.5)
    assert (told.output_error.together, told.output_error.each) == (1.0, 1.0)


def test_a_run_goes_on_with_what_it_has_learned() -> None:
    estimator = learned(7, usage=Usage(input_tokens=300, output_tokens=25))
    again = Estimator.from_json(estimator.to_json())
    assert again.estimate(900, 4_096) == estimator.estimate(900, 4_096)
    assert again.told() == estimator.told()
    assert Estimator.from_json(None).told() is None
