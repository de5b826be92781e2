"""The numbers that ALIGN-MLM reports (arXiv 2211.08547, tables 1 to 3), to stand beside ours.

paper.csv has them as printed: a gap may be off the difference of its two scores by rounding.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas

Key = tuple[str, str, str]


def beside(keys: Iterable[Key]) -> dict[Key, dict[str, float]]:
    """The paper's numbers for cells of ours, where it has them, as columns of a table.

    Our languages name the superstrate; the paper has one, `trans_syn`.
    """
    rows = pandas.read_csv(Path(__file__).with_name("paper.csv"), index_col=[0, 1]).to_dict("index")
    columns = {}
    for objective, language, task in keys:
        name = "trans_syn" if language.startswith("trans_syn-") else language
        row = rows.get((objective, name), {})
        if f"{task}_bs" in row:
            measures = {"BS": f"{task}_bs", "BZ": f"{task}_bz", "gap": f"{task}_gap", "P@1": "p1"}
            columns[objective, language, task] = {f"paper {k}": row[v] for k, v in measures.items()}
    return columns
