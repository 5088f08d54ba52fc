"""A small share of the fuzz run, on built files only, so that it runs everywhere (``make fuzz`` is the long one)."""

import random

from .mutate import MUTATORS, elements, mutant
from .run import MEMORY_LIMIT_MIB, peak_mib, run, table
from .seeds import seeds

COUNT, BUDGET_S = 250, 12.0


def test_damaged_files_get_named_refusals_and_never_a_server_error():
    before = peak_mib()  # other tests have been in this process
    result = run(0, COUNT, seed=1, real=False, budget_s=BUDGET_S)
    assert result["faults"] == [], table(result, 0)
    assert result["memory_mib"] - before < MEMORY_LIMIT_MIB / 2
    assert result["files"] > 50
    assert len(result["codes"]) > 10  # the damage is of many kinds
    assert result["codes"]["accepted"] < result["files"] / 2  # and most of it matters


def test_every_file_is_a_function_of_its_number():
    corpus = seeds(real=False)
    assert [mutant(random.Random(f"7/{n}"), corpus) for n in range(20)] == [
        mutant(random.Random(f"7/{n}"), corpus) for n in range(20)
    ]


def test_every_mutator_changes_something():
    corpus = seeds(real=False)
    rng = random.Random(3)
    for mutator in set(MUTATORS):
        assert any(mutator(rng, data) != data for data in corpus[:4])


def test_the_elements_of_a_sound_file_are_found():
    tags = [data[e.at : e.at + 4] for data in seeds(real=False)[:1] for e in elements(data)]
    assert b"\x02\0\x10\0" in tags
    assert tags[-1] == b"\xe0\x7f\x10\0"
