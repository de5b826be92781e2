"""Word order as a superstrate's nouns and verbs have it: what `syn-fr` does to an English tree.

A head and the subtrees of its dependents are constituents. Those of each noun and each verb are put
in an order drawn from p(order) ∝ exp(Σ score(a, b) over a before b). The scores were learned from a
UD treebank (study/word_order.py). A sum over orders of pairwise scores is a sum over subsets, so
normaliser, draw and best order are exact up to EXACT dependents; with more dependents, each window
of EXACT + 1 constituents is exact given the rest. docs/syntax.md says more.
"""

import json
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, combinations
from pathlib import Path
from reprlib import repr as shown
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hf_alignmlm.files import write_json

PACKAGED = Path(__file__).parent / "superstrates"
KNOWN = tuple(sorted(path.stem for path in PACKAGED.glob("*.json")))
CLASSES = {"NOUN": "noun", "PROPN": "noun", "VERB": "verb"}
EXACT, FORMAT_VERSION = 7, 1
# Log-odds for keeping the source order. UNSEEN: of a pair that the treebank never showed. TWINS: of
# two constituents of one kind, whose exchange changes no order of kinds, so that fixing it is free.
UNSEEN, TWINS = 2.0, 60.0
Array = NDArray[np.float64]
Kinds = tuple[str, ...]


class Tree(Protocol):
    """A dependency tree: three columns of one length. Heads count from 1 (0: root)."""

    @property
    def heads(self) -> Sequence[int]: ...
    @property
    def deprels(self) -> Sequence[str]: ...
    @property
    def upos(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a treebank: words, tags and tree, four columns of one length; a `Tree`."""

    words: tuple[str, ...]
    upos: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


def is_projective(heads: Sequence[int]) -> bool:
    """Whether every subtree is a contiguous span; ValueError where the heads are no tree."""
    return plan_tree(heads, "this sentence")[2]


def plan_tree(
    heads: Sequence[int], where: str, *columns: Sequence[str]
) -> tuple[list[int], list[list[int]], bool]:
    """Check a tree of n words and prepare it; `where` names it in the `ValueError` for no tree.

    `columns` are lists of texts, one for each word, that are to fit it: relations, tags, words.
    Returns the words, each head before its dependents; the dependents of each word, and at index n
    the roots; whether it is projective. [2, 0, 2] gives [1, 0, 2], [[], [0, 2], [], [1]] and True.
    """
    for column in (heads, *columns):
        if not isinstance(column, (list, tuple, np.ndarray)):
            raise ValueError(f"{where}: {shown(column)} stands where a list belongs")
    n = len(heads)
    if any(len(column) != n for column in columns):
        raise ValueError(f"{where}: words, heads, deprels and upos differ in length")
    for text in chain(*columns):
        if not isinstance(text, str):
            raise ValueError(f"{where}: {shown(text)} stands where a text belongs")
    children: list[list[int]] = [[] for _ in range(n + 1)]
    for node, head in enumerate(heads):
        if not (type(head) is int or isinstance(head, np.integer)) or not 0 <= head <= n:
            what = f"word {node + 1} has head {shown(head)}, not one of 0 to {n}"
            raise ValueError(f"{where}: {what}")
        children[head - 1].append(node)
    order = list(children[-1])
    for node in order:  # grows while it is read
        order += children[node]
    if not n or len(order) != n:
        lost = min(set(range(n)) - set(order), default=0)
        what = f"word {lost + 1} is in a cycle, or below one" if n else "no words"
        raise ValueError(f"{where}: {what}")
    in_place = _flatten(order, children, lambda head, nodes: nodes)
    return order, children, in_place == list(range(n))


def _flatten(
    order: list[int], children: list[list[int]], arrange: Callable[[int, list[int]], list[int]]
) -> list[int]:
    """The words with each subtree in one piece; `arrange` orders a head and its dependents."""
    heads = (node for node in reversed(order) if children[node])
    arranged = {head: arrange(head, sorted([head, *children[head]])) for head in heads}
    words, todo = list[int](), children[-1][::-1]
    while todo:
        node = todo.pop()
        if node in arranged:
            todo += reversed(arranged.pop(node))
        else:
            words.append(node)
    return words


def kinds_of(tree: Tree, head: int, nodes: Iterable[int]) -> Kinds:
    """Each node's kind: its universal relation to `head`, or "head", and its tag, "amod/ADJ"."""
    bases = [(i, "head" if i == head else tree.deprels[i].partition(":")[0]) for i in nodes]
    return tuple(f"{base}/{tree.upos[i]}" for i, base in bases)


@cache
def pair_features(a: str, b: str) -> list[tuple[str, float]]:
    """The features of "a before b": relations alone, then whole kinds; a name and a sign each.

    A name has the lesser first; the sign is −1 where that is b: ("obl/X", "amod/Y") gives
    ("amod<obl", −1) and ("amod/Y<obl/X", −1).
    """
    levels = ((a.partition("/")[0], b.partition("/")[0]), (a, b))
    return [(f"{x}<{y}", 1.0) if x < y else (f"{y}<{x}", -1.0) for x, y in levels if x != y]


@cache
def subsets(n: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[NDArray[np.int64]]]:
    """All subsets of n, as bit masks: members (2^n, n), each with i added (2^n, n), by size."""
    index = np.arange(1 << n)
    members = (index[:, None] >> np.arange(n) & 1).astype(bool)
    layers = [np.flatnonzero(members.sum(1) == k) for k in range(n + 1)]
    return members, index[:, None] | 1 << np.arange(n), layers


def order_steps(scores: Array, best: bool = False) -> tuple[Array, Array]:
    """The exact distribution over orders with `scores` (batch, n, n), by recursion over subsets.

    Returns log-probabilities (batch, 2^n, n) of each next constituent after each set of placed
    ones, and log-normalisers (batch,). With `best`, maxima stand for sums: 0 marks a best next one.
    """
    members, added, layers = subsets(scores.shape[-1])
    gain = np.where(members, -np.inf, members.astype(float) @ scores)
    value = np.zeros(gain.shape[:2])
    reduce = np.maximum.reduce if best else np.logaddexp.reduce
    for layer in reversed(layers[:-1]):
        value[:, layer] = reduce(gain[:, layer] + value[:, added[layer]], axis=-1)
    return gain + value[:, added] - value[:, :, None], value[:, 0]


def windows(n: int) -> list[slice]:
    """Half-overlapping windows of at most EXACT + 1 constituents that cover n."""
    size, end = EXACT + 1, max(n - EXACT - 1, 0)
    return [slice(start, start + size) for start in (*range(0, end, size // 2), end)]


@dataclass(frozen=True)
class WordOrderModel:
    """How a language orders the dependents of its nouns and verbs.

    weights: class of head → "a<b" → log-odds that a stands before b, all else equal.
    about: what it was learned from; sides: class → relation → how many before and behind the head.
    """

    name: str
    weights: Mapping[str, Mapping[str, float]]
    about: Mapping[str, Any]

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The model saved at `path`; ValueError for another format, OSError for no file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data.pop("version") != FORMAT_VERSION:
                raise ValueError(f"not format version {FORMAT_VERSION}")
            if not set(data["weights"]) == set(data["sides"]) == set(CLASSES.values()):
                raise ValueError("not weights and sides of noun and verb")
            numbers = [w for weights in data["weights"].values() for w in weights.values()]
            numbers += [n for c in data["sides"].values() for side in c.values() for n in side]
            if not all(map(math.isfinite, numbers)):
                raise ValueError("a weight or a count is no number")
            return cls(data.pop("name"), data.pop("weights"), data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a word-order model: {error}") from error

    @classmethod
    @cache
    def from_name(cls, name: str) -> Self:
        """A packaged model by its name, one of `KNOWN`; ValueError for another name."""
        if name not in KNOWN:
            raise ValueError(f"no word-order model {name!r}; known: {', '.join(KNOWN)}")
        return cls.from_file(PACKAGED / f"{name}.json")

    def save(self, path: str | Path) -> None:
        """Write the model as JSON, whole or not at all."""
        data = {"version": FORMAT_VERSION, "name": self.name, **self.about}
        write_json(path, data | {"weights": self.weights})

    def order(
        self, tree: Tree, *, seed: int = 0, index: int = 0, best: bool = False, where: str = ""
    ) -> list[int]:
        """The indices of a sentence's words in this language's order: a draw, or the best order.

        It depends on tree, `seed` and `index` (the sentence's number) alone. Punctuation keeps its
        slot and a final mark its place. A dependent whose relation the treebank never showed moves
        with its head. A tree that is not projective keeps its order; for no tree there is a
        ValueError that names `where`, or `index`.
        """
        where = where or f"sentence {index}"
        order, children, projective = plan_tree(tree.heads, where, tree.deprels, tree.upos)
        if not projective:
            return list(range(len(order)))
        last, base = len(order) - 1, [relation.partition(":")[0] for relation in tree.deprels]
        if base[last] == "punct" and tree.heads[last] and not children[last]:
            children[tree.heads[last] - 1].remove(last)
            children[children[-1][-1]].append(last)
        rng = None if best else random.Random(f"syn/{seed}/{index}")

        def arrange(head: int, nodes: list[int]) -> list[int]:
            if not (head_class := CLASSES.get(tree.upos[head])):
                return nodes
            seen = self.about["sides"][head_class]  # relations that the treebank showed
            free = [i for i in nodes if i == head or base[i] in seen]
            with_head = [i for i in nodes if i == head or not (i in free or base[i] == "punct")]
            ranks = iter(self.arrange(head_class, kinds_of(tree, head, free), rng))
            slots = (i for i in nodes if i == head or i not in with_head)
            placed = (free[next(ranks)] if i in free else i for i in slots)
            return [i for place in placed for i in (with_head if place == head else [place])]

        return _flatten(order, children, arrange)

    def arrange(self, head_class: str, kinds: Kinds, rng: random.Random | None) -> list[int]:
        """Indices of a head and its dependents, given as kinds: a draw by `rng`, or the best order.

        Of more than EXACT dependents, windows are arranged in turn, twice for a draw (Gibbs
        sampling), until nothing changes for the best order.
        """
        scores, placed = self.scores(head_class, kinds), list(range(len(kinds)))
        spans = windows(len(kinds))
        for _ in range(1 if len(spans) == 1 else 2 if rng else len(kinds)):
            before = list(placed)
            for window in (*spans, *spans[-2::-1]):
                part = placed[window]
                placed[window] = [part[i] for i in _draw(scores[part][:, part], rng)]
            if not rng and placed == before:
                break
        return placed

    def scores(self, head_class: str, kinds: Kinds) -> Array:
        """Scores (n, n) of a before b, antisymmetric, for constituents in source order."""
        scores, weights = np.zeros((len(kinds), len(kinds))), self.weights[head_class]
        for i, j in combinations(range(len(kinds)), 2):
            features = pair_features(kinds[i], kinds[j])
            known = [sign * weights[name] for name, sign in features if name in weights]
            score = sum(known) if known else TWINS if kinds[i] == kinds[j] else UNSEEN
            scores[i, j], scores[j, i] = score / 2, -score / 2
        return scores


def _draw(scores: Array, rng: random.Random | None) -> list[int]:
    table, chosen, placed = _table(scores.tobytes(), len(scores), rng is None), list[int](), 0
    for _ in scores:
        chances = table[placed]
        chosen.append(bisect_right(chances, rng.random() * chances[-1] if rng else 0.0))
        placed |= 1 << chosen[-1]
    return chosen


@lru_cache(maxsize=1 << 15)
def _table(scores: bytes, n: int, best: bool) -> Array:
    """Cumulative chances (2^n, n) of each next constituent after each set of placed ones."""
    logs = order_steps(np.frombuffer(scores).reshape(1, n, n), best)[0][0]
    # The margin makes equal scores equal whatever the order of summation: the first one wins.
    return np.cumsum(logs > -1e-9 if best else np.exp(logs), axis=-1)
