"""Orders of words: what `inv`, `perm` and `syn-*` do to a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hf_alignmlm.languages.word_order import KNOWN as WORD_ORDERS
from hf_alignmlm.languages.word_order import Tree, WordOrderModel

FINAL_MARKS = frozenset(".!?")


# Each superstrate's order, drawn for every sentence anew, or always the most likely one.
SYNTAX = tuple(f"syn-{name}{best}" for name in WORD_ORDERS for best in ("", "-best"))


@lru_cache(maxsize=8)
def _word_orders(superstrate: str) -> WordOrderModel:
    return WordOrderModel.from_name(superstrate)


def _inverted(order: list[int], words: Sequence[str]) -> list[int]:
    """The order reversed; a final mark stays last.

    Where none ends the sentence, marks that begin it ("... and then") stay first: reversed, one
    would end it, and inverting twice would not be the identity.
    """
    final = bool(order) and words[order[-1]] in FINAL_MARKS
    start, stop = 0, len(order) - final
    while not final and start < stop and words[order[start]] in FINAL_MARKS:
        start += 1
    return order[:start] + order[start:stop][::-1] + order[stop:]


class _Reordered:
    """A tree whose words stand in another order."""

    def __init__(self, tree: Tree, order: Sequence[int]):
        place = {word: new for new, word in enumerate(order)}
        heads = [tree.heads[word] for word in order]
        self.heads = [place[head - 1] + 1 if head else 0 for head in heads]
        self.deprels = [tree.deprels[word] for word in order]
        self.upos = [tree.upos[word] for word in order]
