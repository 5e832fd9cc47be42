"""Nothing is missing from the corpus: every family has attacks of two kinds at least, and what it names is there."""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from gateway.selftest.vectors import read
from tests.adversarial.corpus import whole

ROOT = Path(__file__).resolve().parents[2]
ELSEWHERE = tomllib.loads((Path(__file__).parent / "elsewhere.toml").read_text(encoding="utf-8"))
CORPUS = whole()
FAMILIES = {**CORPUS.families, **ELSEWHERE["families"]}
FEWEST_FAMILIES = 79
FEWEST_VECTORS = 260


def is_there(test: str) -> bool:
    path, _, name = test.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_two_attacks(family: str) -> None:
    here = sum(vector.family == family for vector in CORPUS.vectors)
    assert here + len(ELSEWHERE["tests"].get(family, ())) >= 2


def test_no_attack_is_of_a_family_that_is_not_told() -> None:
    assert {vector.family for vector in CORPUS.vectors} | set(ELSEWHERE["tests"]) == set(FAMILIES)


def test_no_two_attacks_have_one_name() -> None:
    names = Counter(vector.name for vector in CORPUS.vectors)
    assert [name for name, times in names.items() if times > 1] == []


@pytest.mark.parametrize("test", sorted({test for tests in ELSEWHERE["tests"].values() for test in tests}))
def test_what_is_tested_elsewhere_is_tested(test: str) -> None:
    assert is_there(test)


def test_the_corpus_is_as_large_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    tests = sum(len(each) for each in ELSEWHERE["tests"].values())
    with capsys.disabled():
        sys.stdout.write(
            f"\nadversarial corpus: {len(CORPUS.vectors)} vectors and {tests} tests of {len(FAMILIES)} families\n"
        )
    assert len(FAMILIES) >= FEWEST_FAMILIES
    assert len(CORPUS.vectors) >= FEWEST_VECTORS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('[[vector]]\nname = "a"\nfamily = "b"\nexpects = "400"', id="a key nobody knows"),
        pytest.param('[[vector]]\nname = "a"\nfamily = "b"\nexpect = "soon"', id="an answer nobody gives"),
        pytest.param('[[vector]]\nname = "a"\nfamily = "b"\nexpect = "400"\n' * 2, id="one name twice"),
    ],
)
def test_a_corpus_with_a_mistake_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        read(text)
