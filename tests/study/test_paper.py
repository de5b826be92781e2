"""The paper's numbers, as printed and beside ours."""

import math
from itertools import product

from hf_alignmlm.report import Cell, correlations
from study.grid import OBJECTIVES, TASKS
from study.paper import beside

KEYS = list(product(OBJECTIVES, ("trans", "trans_inv", "trans_syn-fr"), TASKS))


def paper_cells():
    """The paper's 36 cells."""
    numbers = beside(KEYS)
    assert list(numbers) == KEYS
    measures = [f"paper {name}" for name in ("BS", "BZ", "gap", "P@1")]
    return [Cell(*key, *([numbers[key][m]] for m in measures)) for key in KEYS]


def test_the_papers_cells_give_the_papers_correlations():
    found = correlations(paper_cells())
    rhos = {task: round(result.rho, 3) for task, result in found.items()}
    assert rhos == {"nli": 0.727, "ner": 0.781, "pos": 0.734}
    assert all(result.n == 12 for result in found.values())


def test_the_papers_gaps_are_its_differences():
    for cell in paper_cells():
        assert math.isclose(cell.bz[0] - cell.bs[0], cell.gap[0], abs_tol=0.11)


def test_a_language_with_a_superstrate_stands_beside_the_papers_syntax():
    ours = [("mlm", "trans_syn-hi", "ner"), ("mlm", "trans50", "ner"), ("other", "trans", "pos")]
    numbers = {"paper BS": 71.3, "paper BZ": 52.3, "paper gap": -19.0, "paper P@1": 57.3}
    assert beside(ours) == {ours[0]: numbers}
