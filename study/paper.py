"""The numbers that ALIGN-MLM reports (arXiv 2211.08547, tables 1 to 3), to stand beside ours."""

from __future__ import annotations

from collections.abc import Iterable

from hf_alignmlm.report import Cell

Key = tuple[str, str, str]
COLUMNS = ("paper BS", "paper BZ", "paper gap", "paper P@1")

# Objective, language, then BS, BZ and gap of XNLI, NER and POS, and P@1. As printed: a gap may be
# off the difference of the two before it by rounding.
_TABLES = """
mlm       trans     76.4 74.9  -1.5 80.6 78.0  -2.6 95.0 94.6  -0.4 90.0
mlm       trans_inv 73.9 56.7 -17.2 79.2 35.9 -43.3 95.0 56.5 -38.5  0.3
mlm       trans_syn 73.5 69.0  -4.5 71.3 52.3 -19.0 93.6 91.6  -2.0 57.3
xlm       trans     77.3 77.5   0.2 80.8 79.7  -1.1 95.0 94.8  -0.2 97.7
xlm       trans_inv 75.4 67.2  -8.2 80.0 60.7 -19.4 95.0 61.8 -33.2 85.6
xlm       trans_syn 76.1 74.1  -1.9 71.5 59.6 -11.9 93.7 92.7  -0.9 98.6
dict-mlm  trans     77.0 75.9  -1.1 79.3 78.3  -1.1 95.1 94.8  -0.3 95.7
dict-mlm  trans_inv 74.5 65.3  -9.2 79.1 59.8 -19.3 95.0 76.0 -19.0 64.2
dict-mlm  trans_syn 74.3 72.2  -2.2 71.4 57.6 -13.8 93.6 92.6  -1.0 93.7
align-mlm trans     75.1 75.5   0.5 79.4 78.6  -0.8 94.9 94.8  -0.1 98.4
align-mlm trans_inv 75.5 68.8  -6.7 80.0 64.5 -15.5 95.0 92.0  -3.0 95.2
align-mlm trans_syn 74.7 71.1  -3.6 71.3 58.3 -13.1 93.7 92.9  -0.8 98.2
"""


def paper_cells() -> dict[Key, Cell]:
    """The paper's 36 cells, by objective, language and task; its syntax language is `trans_syn`."""
    cells = {}
    for line in _TABLES.strip().splitlines():
        objective, language, *printed = line.split()
        numbers = [float(number) for number in printed]
        for place, task in enumerate(("nli", "ner", "pos")):
            bs, bz, gap = numbers[3 * place : 3 * place + 3]
            cell = Cell(objective, language, task, [bs], [bz], [gap], [numbers[-1]])
            cells[cell.key] = cell
    return cells


def beside(keys: Iterable[Key]) -> dict[Key, dict[str, float]]:
    """The paper's numbers for cells of ours, where it has them, as columns of a table."""
    paper, columns = paper_cells(), {}
    for objective, language, task in keys:
        # Ours name the superstrate; the paper has one.
        name = "trans_syn" if language.startswith("trans_syn-") else language
        if cell := paper.get((objective, name, task)):
            numbers = (*cell.bs, *cell.bz, *cell.gap, *cell.alignment)
            columns[objective, language, task] = dict(zip(COLUMNS, numbers, strict=True))
    return columns
