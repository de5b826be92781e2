"""The numbers that ALIGN-MLM reports (arXiv 2211.08547, tables 1 to 3), to stand beside ours.

paper.csv has them as printed: a gap may be off the difference of its two scores by rounding.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from hf_alignmlm.report import Cell

Key = tuple[str, str, str]


def paper_cells() -> dict[Key, Cell]:
    """The paper's 36 cells, by objective, language and task; its syntax language is `trans_syn`."""
    with open(Path(__file__).with_name("paper.csv"), encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cells = (
        Cell(
            *(row["objective"], row["language"], task),
            *([float(row[name])] for name in (f"{task}_bs", f"{task}_bz", f"{task}_gap", "p1")),
        )
        for row in rows
        for task in ("nli", "ner", "pos")
    )
    return {cell.key: cell for cell in cells}


def beside(keys: Iterable[Key]) -> dict[Key, dict[str, float]]:
    """The paper's numbers for cells of ours, where it has them, as columns of a table."""
    paper, columns = paper_cells(), {}
    for objective, language, task in keys:
        # Ours name the superstrate; the paper has one.
        name = "trans_syn" if language.startswith("trans_syn-") else language
        if cell := paper.get((objective, name, task)):
            numbers = {"BS": cell.bs, "BZ": cell.bz, "gap": cell.gap, "P@1": cell.alignment}
            columns[objective, language, task] = {f"paper {k}": v[0] for k, v in numbers.items()}
    return columns
