"""Orders of words: what `inv`, `perm` and `syn-*` do to a sentence.

An order is a function, registered under the name that stands for it in a language's name:

    @order("rot", "the first word of a sentence last")
    def rotation(order, words, tree, seed, index):
        return order[1:] + order[:1]
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from hf_alignmlm.languages.word_order import KNOWN, Sentence, Tree, WordOrderModel, plan_tree

FINAL_MARKS = frozenset(".!?")
Indices: TypeAlias = list[int]
Words: TypeAlias = Sequence[str]
# Takes the order so far (indices of `words`), the original words, their tree or None, the seed and
# the sentence's number in its corpus; returns the new order of the same indices. The seed is the
# text "SEED/POSITION": the language's seed and which of its orders this is, so that the two
# permutations of `perm_perm` differ. A draw may depend on seed and index alone.
Reorder: TypeAlias = Callable[[Indices, Words, Tree | None, str, int], Indices]


ORDERS: dict[str, Reorder] = {}
DESCRIPTIONS: dict[str, str] = {}


def order(name: str, description: str) -> Callable[[Reorder], Reorder]:
    """Register a function as the order `name`; `description` completes "English with …"."""
    own = not name.startswith("trans") and name not in ORDERS
    if not own or not name.replace("-", "").isalnum():
        raise ValueError(
            f"an order cannot be named {name!r}: names are new, of letters, digits and '-', and do "
            "not begin with 'trans', which names spellings"
        )

    def register(reorder: Reorder) -> Reorder:
        ORDERS[name], DESCRIPTIONS[name] = reorder, description
        return reorder

    return register


@order("inv", "the words of a sentence reversed")
def inversion(order: Indices, words: Words, tree: Tree | None, seed: str, index: int) -> Indices:
    """Reverse the order; a final mark stays last: "The cat sat ." gives "sat cat The .".

    Where no mark ends the sentence, the marks that begin it stay first: ". ? a b" gives ". ? b a".
    Reversed, one of them would end it, and inverting twice would not be the identity.
    """
    final = bool(order) and words[order[-1]] in FINAL_MARKS
    start, stop = 0, len(order) - final
    while not final and start < stop and words[order[start]] in FINAL_MARKS:
        start += 1
    return order[:start] + order[start:stop][::-1] + order[stop:]


@order("perm", "the words of a sentence shuffled")
def permutation(order: Indices, words: Words, tree: Tree | None, seed: str, index: int) -> Indices:
    """Shuffle the order: a new permutation for each sentence."""
    shuffled = list(order)
    random.Random(f"perm/{seed}/{index}").shuffle(shuffled)
    return shuffled


def _syntax(
    name: str, best: bool, order: Indices, words: Words, tree: Tree | None, seed: str, index: int
) -> Indices:
    """Put dependents of nouns and verbs in the superstrate's order: drawn, or the most likely."""
    if tree is None:
        raise ValueError(
            f"syn-{name}{'-best' * best} reorders by syntax: it needs each sentence's tree; "
            "take CoNLL-U, or parse the text first (alignmlm parse)"
        )
    if order != sorted(order):
        columns = (words, tree.upos, tree.deprels)
        plan_tree(tree.heads, "the tree", *columns)
        place = {-1: -1} | {word: new for new, word in enumerate(order)}  # -1 stands for no head
        heads = tuple(place[tree.heads[i] - 1] + 1 for i in order)
        texts, upos, deprels = (tuple(column[i] for i in order) for column in columns)
        tree = Sentence(texts, upos, heads, deprels)
    # This draw depends on the language's seed alone, not on the position.
    model, drawn_with = WordOrderModel.from_name(name), int(seed.partition("/")[0])
    moved = model.order(tree, seed=drawn_with, index=index, best=best, where="the tree")
    if len(moved) != len(words):
        raise ValueError("the tree: words, heads, deprels and upos differ in length")
    return [order[i] for i in moved]


for _name in KNOWN:
    for _ending, _way in (("", "order, drawn for each sentence,"), ("-best", "most likely order")):
        order(f"syn-{_name}{_ending}", f"nouns' and verbs' dependents in the {_way} of `{_name}`")(
            partial(_syntax, _name, bool(_ending))
        )
