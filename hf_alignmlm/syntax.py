"""Word order as a superstrate's nouns and verbs have it: what `syn-fr` does to an English tree.

A head and its dependents' subtrees are constituents. Those of each noun and each verb are put in an
order drawn from p(order) ∝ exp(Σ score(a, b) over a before b), the scores learned from a UD
treebank. A sum over orders of pairwise scores is a sum over subsets, so normaliser, gradient, draw
and best order are exact up to EXACT dependents; beyond, each window of EXACT + 1 constituents is
exact given the rest. After Galactic Dependencies (Wang & Eisner, TACL 2016).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, groupby, product
from pathlib import Path
from typing import Any, Protocol

import conllu
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array, dok_array

from hf_alignmlm.files import open_file, write_text

PACKAGED = Path(__file__).parent / "word_order"
KNOWN = tuple(sorted(path.stem for path in PACKAGED.glob("*.json")))
CLASSES = {"NOUN": "noun", "PROPN": "noun", "VERB": "verb"}
EXACT = 7
FORMAT_VERSION = 1
# Log-odds for the source order: of a pair the treebank never showed, and of twins (same kind), for
# whom exchanging places changes no order of kinds, so that holding them takes nothing from it.
UNSEEN, TWINS = 2.0, 60.0

Array = NDArray[np.float64]
Kinds = tuple[str, ...]


class Tree(Protocol):
    """A dependency tree, all of one length: heads count from 1 (0: root); UD relations and tags."""

    @property
    def heads(self) -> Sequence[int]: ...
    @property
    def deprels(self) -> Sequence[str]: ...
    @property
    def upos(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a treebank: words, tags and tree, all of one length; satisfies `Tree`."""

    words: tuple[str, ...]
    upos: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


def read_conllu(path: str | Path, *, trees: bool = True) -> Iterator[Sentence]:
    """Sentences of a CoNLL-U file (`.gz` or plain), to learn from or to derive.

    Multiword tokens and empty nodes are skipped; without `trees`, heads are not looked at. Raises
    ValueError, naming file and sentence, for no CoNLL-U, no tree, no sentence; and OSError.
    """
    number = 0
    try:
        with open_file(path) as lines:
            for number, tokens in enumerate(conllu.parse_incr(lines), 1):
                where = f"{path}: sentence {number} ({tokens.metadata.get('sent_id', 'no id')})"
                words = [token for token in tokens if isinstance(token["id"], int)]
                if [word["id"] for word in words] != list(range(1, len(words) + 1)):
                    raise ValueError(f"{where}: words are not numbered 1, 2, 3, …")
                columns = ("form", "upos", "head", "deprel")
                sentence = Sentence(*(tuple(word[c] for word in words) for c in columns))
                if trees:
                    _plan(sentence.heads, where)
                yield sentence
    except (conllu.exceptions.ParseException, KeyError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not CoNLL-U after sentence {number}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 after sentence {number}") from error
    if not number:
        raise ValueError(f"{path}: no sentences")


def is_projective(heads: Sequence[int]) -> bool:
    """Whether every subtree is a contiguous span (heads from 1, 0: root); ValueError: no tree."""
    return _plan(heads, "this sentence")[2]


def _plan(
    heads: Sequence[int], where: str, *columns: Sequence[str]
) -> tuple[list[int], list[list[int]], bool]:
    """Nodes, heads first; each head's dependents (under n: the roots); whether projective."""
    n = len(heads)
    if any(len(column) != n for column in columns):
        raise ValueError(f"{where}: heads, deprels and upos differ in length")
    children: list[list[int]] = [[] for _ in range(n + 1)]
    for node, head in enumerate(heads):
        if head is None or not 0 <= head <= n:
            raise ValueError(f"{where}: word {node + 1} has head {head!r}, not one of 0 to {n}")
        children[head - 1].append(node)
    order = list(children[-1])
    for node in order:  # grows while it is read
        order += children[node]
    if not n or len(order) != n:
        raise ValueError(f"{where}: {'a cycle, or no root' if n else 'no words'}")
    flat = _flatten(order, children, lambda head, nodes: nodes)
    return order, children, flat == list(range(n))


def _flatten(
    order: list[int], children: list[list[int]], arrange: Callable[[int, list[int]], list[int]]
) -> list[int]:
    """A tree's words, each subtree in one piece; `arrange` orders a head and its dependents."""
    spans = [[node] for node in range(len(order))]
    for node in reversed(order):
        if children[node]:
            nodes = arrange(node, sorted([node, *children[node]]))
            spans[node] = [word for i in nodes for word in spans[i]]
    return [word for root in children[-1] for word in spans[root]]


def _kinds(tree: Tree, head: int, nodes: Iterable[int]) -> Kinds:
    # Subtypes differ from treebank to treebank, so the universal relation alone counts.
    bases = [(i, "head" if i == head else tree.deprels[i].partition(":")[0]) for i in nodes]
    return tuple(f"{base}/{tree.upos[i]}" for i, base in bases)


def _clusters(tree: Tree, where: str) -> Iterator[tuple[str, Kinds, int]]:
    """Of a projective tree each noun and verb: class, kinds in source order, its place in them."""
    order, children, projective = _plan(tree.heads, where, tree.deprels, tree.upos)
    for node in order if projective else ():
        free = [i for i in children[node] if not tree.deprels[i].startswith("punct")]
        if free and (head_class := CLASSES.get(tree.upos[node])):
            nodes = sorted([node, *free])
            yield head_class, _kinds(tree, node, nodes), nodes.index(node)


@cache
def _features(a: str, b: str) -> list[tuple[str, float]]:
    """The names of "a before b", coarse and fine, each with +1 as named or −1 the other way."""
    levels = ((a.partition("/")[0], b.partition("/")[0]), (a, b))
    return [(f"{x}<{y}", 1.0) if x < y else (f"{y}<{x}", -1.0) for x, y in levels if x != y]


@cache
def _subsets(n: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Of all subsets of n: members (2^n, n), the subset with i added (2^n, n), those of size k."""
    index = np.arange(1 << n)
    members = (index[:, None] >> np.arange(n) & 1).astype(bool)
    layers = [np.flatnonzero(members.sum(1) == k) for k in range(n + 1)]
    return members, index[:, None] | 1 << np.arange(n), layers


def _steps(scores: Array, best: bool = False) -> tuple[Array, Array]:
    """How n constituents with `scores` (batch, n, n) unfold, exactly, by recursion over subsets.

    Gives log-probabilities (batch, 2^n, n) of each next constituent after each set of placed ones,
    and log-normalisers (batch,). With `best`, maxima stand for sums: 0 marks a best next one.
    """
    members, added, layers = _subsets(scores.shape[-1])
    gain = np.where(members, -np.inf, members.astype(float) @ scores)
    value = np.zeros(gain.shape[:2])
    reduce = np.maximum.reduce if best else np.logaddexp.reduce
    for layer in reversed(layers[:-1]):
        value[:, layer] = reduce(gain[:, layer] + value[:, added[layer]], axis=-1)
    return gain + value[:, added] - value[:, :, None], value[:, 0]


def _before(scores: Array) -> tuple[Array, Array]:
    """Log-normalisers (batch,) and, their gradient, P(a before b) (batch, n, n)."""
    members, _, layers = _subsets(scores.shape[-1])
    logs, total = _steps(scores)
    flow, each = np.exp(logs), np.arange(scores.shape[-1])
    for layer in layers[1:]:
        reached = (flow[:, layer[:, None] & ~(1 << each), each] * members[layer]).sum(-1)
        flow[:, layer] *= reached[:, :, None]
    return total, members.T.astype(float) @ flow


def _windows(n: int) -> list[slice]:
    """Half-overlapping runs of at most EXACT + 1 constituents that cover n."""
    size, end = EXACT + 1, max(n - EXACT - 1, 0)
    return [slice(start, start + size) for start in (*range(0, end, size // 2), end)]


class _Problem:
    """The penalised negative log-likelihood of the orders seen, and its gradient, by weights."""

    def __init__(self, seen: Mapping[Kinds, int], l2: float) -> None:
        shown: Counter[str] = Counter()
        for kinds, count in seen.items():
            for a, b in combinations(kinds, 2):
                shown.update({name: count for name, _ in _features(a, b)})
        # A fine feature seen once or twice teaches noise. The coarse ones all stay: they also tell
        # which relations and pairs the treebank has shown.
        self.names = sorted(f for f, count in shown.items() if "/" not in f or count > 2)
        self.l2, column = l2, {name: i for i, name in enumerate(self.names)}
        self.groups: list[tuple[int, csr_array, Array]] = []
        for n, group in groupby(sorted(seen, key=len), len):
            orders = list(group)
            pairs = [pair for kinds in orders for pair in product(kinds, repeat=2)]
            cells = dok_array((len(pairs), len(self.names)))
            for row, (a, b) in enumerate(pairs):
                for name, sign in _features(a, b):
                    if name in column:
                        cells[row, column[name]] += sign / 2
            counts = np.array([seen[kinds] for kinds in orders], float)
            self.groups.append((n, cells.tocsr(), counts))

    def __call__(self, weights: Array) -> tuple[float, Array]:
        loss, gradient = self.l2 / 2 * weights @ weights, self.l2 * weights
        for n, design, counts in self.groups:
            scores, real = (design @ weights).reshape(-1, n, n), np.triu(np.ones((n, n)), 1)
            total, before = _before(scores)
            loss += counts @ (total - (scores * real).sum((1, 2)))
            gradient += design.T @ (counts[:, None, None] * (before - real)).ravel()
        return float(loss), gradient

    def solve(self) -> dict[str, float]:
        if not self.names:
            return {}
        start = np.zeros(len(self.names))
        found = minimize(self, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000})
        rounded = {name: round(float(w), 2) for name, w in zip(self.names, found.x, strict=True)}
        return {f: w for f, w in rounded.items() if "/" not in f or abs(w) >= 0.05}


@dataclass(frozen=True)
class WordOrderModel:
    """How a language orders the dependents of its nouns and verbs.

    `weights`: class of head → "a<b" → log-odds that a stands before b, all else equal. `about`:
    treebank, licence, l2, sentences, dropped_nonprojective, windowed_heads (those over EXACT) and
    sides (class → relation → how many stood before and behind the head).
    """

    name: str
    weights: Mapping[str, Mapping[str, float]]
    about: Mapping[str, Any]

    @classmethod
    def learn(
        cls, trees: Iterable[Tree], *, name: str = "", l2: float = 1.0, **told: str
    ) -> WordOrderModel:
        """Fit a model with the prior l2/2·‖w‖²; non-projective trees are dropped and counted.

        `told` (treebank, licence) is kept in `about`. Raises ValueError for no trees, or no tree.
        """
        if l2 <= 0:
            raise ValueError(f"l2 is {l2}; it must be above 0")
        seen: dict[str, Counter[Kinds]] = {c: Counter() for c in CLASSES.values()}
        sides: dict[str, dict[str, list[int]]] = {c: {} for c in seen}
        sentences = dropped = windowed = 0
        for sentences, tree in enumerate(trees, 1):
            for head_class, kinds, head in _clusters(tree, f"sentence {sentences}"):
                windowed += len(kinds) > EXACT + 1
                seen[head_class].update(kinds[window] for window in _windows(len(kinds)))
                for place, kind in enumerate(kinds):
                    if place != head:
                        side = sides[head_class].setdefault(kind.partition("/")[0], [0, 0])
                        side[place > head] += 1
            dropped += not is_projective(tree.heads)
        if not sentences:
            raise ValueError("no sentences to learn from")
        about = {**told, "l2": l2, "sentences": sentences, "dropped_nonprojective": dropped}
        about |= {"windowed_heads": windowed}
        about |= {"sides": {c: dict(sorted(counted.items())) for c, counted in sides.items()}}
        return cls(name, {c: _Problem(seen[c], l2).solve() for c in seen}, about)

    @classmethod
    def from_file(cls, path: str | Path) -> WordOrderModel:
        """The model saved at `path`; ValueError for another format, OSError for no file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data.pop("version") != FORMAT_VERSION:
                raise ValueError(f"not format version {FORMAT_VERSION}")
            if not set(data["weights"]) == set(data["sides"]) == set(CLASSES.values()):
                raise ValueError("not weights and sides of noun and verb")
            return cls(data.pop("name"), data.pop("weights"), data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a word-order model: {error}") from error

    @classmethod
    def from_name(cls, name: str) -> WordOrderModel:
        """A packaged model, one of `KNOWN`; ValueError for another name."""
        if name not in KNOWN:
            raise ValueError(f"no word-order model {name!r}; known: {', '.join(KNOWN) or 'none'}")
        return cls.from_file(PACKAGED / f"{name}.json")

    def save(self, path: str | Path) -> None:
        """Write the model as JSON, one weight a line, whole or not at all."""
        data = {"version": FORMAT_VERSION, "name": self.name, **self.about}
        text = json.dumps({**data, "weights": self.weights}, ensure_ascii=False, indent=1)
        write_text(path, re.sub(r"\[\s+(\d+),\s+(\d+)\s+\]", r"[\1, \2]", text) + "\n")

    def order(self, tree: Tree, *, seed: int = 0, index: int = 0, best: bool = False) -> list[int]:
        """The words (from 0) of a sentence in this language's order: a draw, or the best one.

        Depends on nothing but tree, `seed` and `index` (the sentence's number). Punctuation keeps
        its slot, a final mark its place; dependents whose relation was never seen go along with
        their head; a tree that is not projective stays. ValueError, naming `index`, for no tree.
        """
        where = f"sentence {index}"
        order, children, projective = _plan(tree.heads, where, tree.deprels, tree.upos)
        last = len(order) - 1
        if not projective:
            return list(range(last + 1))
        base = [relation.partition(":")[0] for relation in tree.deprels]
        if base[last] == "punct" and tree.heads[last] and not children[last]:
            children[tree.heads[last] - 1].remove(last)
            children[children[-1][-1]].append(last)
        rng = None if best else random.Random(f"syn/{seed}/{index}")

        def arrange(head: int, nodes: list[int]) -> list[int]:
            if not (head_class := CLASSES.get(tree.upos[head])):
                return nodes
            seen = self.about["sides"][head_class]
            free = [i for i in nodes if i == head or base[i] in seen]
            along = [i for i in nodes if i == head or not (i in free or base[i] == "punct")]
            ranks = iter(self.arrange(head_class, _kinds(tree, head, free), rng))
            slots = (i for i in nodes if i == head or i not in along)
            placed = (free[next(ranks)] if i in free else i for i in slots)
            return [i for place in placed for i in (along if place == head else [place])]

        return _flatten(order, children, arrange)

    def arrange(self, head_class: str, kinds: Kinds, rng: random.Random | None) -> list[int]:
        """Indices of a head and its dependents, given as kinds, in a drawn order (rng None: best).

        A kind is "relation/TAG" or "head/TAG". Over EXACT dependents, windows are arranged in turn,
        each exactly given the rest: twice for a draw (Gibbs), until nothing changes for the best.
        """
        scores, placed = self.scores(head_class, kinds), list(range(len(kinds)))
        windows = _windows(len(kinds))
        for _ in range(1 if len(windows) == 1 else 2 if rng else len(kinds)):
            before = list(placed)
            for window in (*windows, *windows[-2::-1]):
                part = placed[window]
                placed[window] = [part[i] for i in _draw(scores[part][:, part], rng)]
            if not rng and placed == before:
                break
        return placed

    def scores(self, head_class: str, kinds: Kinds) -> Array:
        """(n, n) of a before b, antisymmetric, for constituents in source order."""
        scores, weights = np.zeros((len(kinds), len(kinds))), self.weights[head_class]
        for i, j in combinations(range(len(kinds)), 2):
            features = _features(kinds[i], kinds[j])
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
    """Cumulative chances of each next constituent (n), set after set of placed ones (2^n)."""
    logs = _steps(np.frombuffer(scores).reshape(1, n, n), best)[0][0]
    # The margin makes equal scores equal whatever the order of summation: the first one wins.
    return np.cumsum(logs > -1e-9 if best else np.exp(logs), axis=-1)


def majority_sides(model: WordOrderModel) -> WordOrderModel:
    """The baseline: each relation on the side of its head where the model's treebank had it."""
    weights: dict[str, dict[str, float]] = {head_class: {} for head_class in model.weights}
    for head_class, sides in model.about["sides"].items():
        for relation, (before, behind) in sides.items():
            name, sign = _features(relation, "head")[0]
            weights[head_class][name] = 20 * sign * (1 if before > behind else -1)
    return WordOrderModel("majority side", weights, model.about)


def agreement(
    model: WordOrderModel, trees: Iterable[Tree], *, best: bool = True, seed: int = 0
) -> dict[str, tuple[int, int]]:
    """How many pairs of constituents of nouns and verbs the model orders as the sentences do.

    It gets them shuffled and without punctuation, so that nothing of the real order shows. Gives
    "head" (head and dependent) and "sibling" → (pairs in agreement, pairs).
    """
    counted: dict[str, Counter[bool]] = {"head": Counter(), "sibling": Counter()}
    for index, tree in enumerate(trees):
        rng = random.Random(f"check/{seed}/{index}")
        for head_class, kinds, head in _clusters(tree, f"sentence {index}"):
            mixed = rng.sample(range(len(kinds)), len(kinds))
            given = tuple(kinds[i] for i in mixed)
            found = [mixed[i] for i in model.arrange(head_class, given, None if best else rng)]
            for a, b in combinations(found, 2):
                counted["head" if head in (a, b) else "sibling"][a < b] += 1
    return {pair: (counts[True], counts.total()) for pair, counts in counted.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """`learn` a model or `check` one; errors are one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m hf_alignmlm.syntax", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    learn = commands.add_parser("learn", help="learn a word-order model from a UD treebank")
    learn.add_argument("treebank", help="CoNLL-U, plain or .gz")
    learn.add_argument("--output", required=True, help="where to write the model (JSON)")
    learn.add_argument("--name", default="", help="the language's name, kept in the model")
    learn.add_argument("--licence", default="", help="the treebank's licence, kept in the model")
    learn.add_argument("--overwrite", action="store_true", help="replace an existing output")
    check = commands.add_parser("check", help="pairwise accuracy on a treebank, beside baselines")
    check.add_argument("--model", required=True, help=f"a file, or one of {', '.join(KNOWN)}")
    check.add_argument("--treebank", required=True, help="held-out CoNLL-U, plain or .gz")
    check.add_argument("--baseline_treebank", nargs="*", default=[], help="to learn rivals from")
    check.add_argument("--seed", type=int, default=0, help="of the drawn orders")
    for command in (learn, check):
        command.add_argument("--l2", type=float, default=1.0, help="strength of the prior")
    args = parser.parse_args(argv)
    try:
        (_learn if args.command == "learn" else _check)(args)
    except (OSError, ValueError) as error:
        print(f"{parser.prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _learn(args: argparse.Namespace) -> None:
    if Path(args.output).exists() and not args.overwrite:
        raise ValueError(f"{args.output} exists; --overwrite replaces it")
    told = {"treebank": Path(args.treebank).name, "licence": args.licence}
    model = WordOrderModel.learn(read_conllu(args.treebank), name=args.name, l2=args.l2, **told)
    model.save(args.output)
    kept = {c: len(weights) for c, weights in model.weights.items()}
    print({**model.about, "sides": "…", "weights": kept})


def _check(args: argparse.Namespace) -> None:
    load = WordOrderModel.from_name if args.model in KNOWN else WordOrderModel.from_file
    model, trees = load(args.model), list(read_conllu(args.treebank))
    rows = [(args.model, model, True), (args.model, model, False)]
    rows.append(("majority side", majority_sides(model), True))
    for path in args.baseline_treebank:
        rival = WordOrderModel.learn(read_conllu(path), l2=args.l2)
        rows += [(Path(path).name, rival, True), (Path(path).name, rival, False)]
    print(f"{'system':32} {'order':8} head–dependent  siblings    all")
    for name, system, best in rows:
        found = agreement(system, trees, best=best, seed=args.seed)
        (a, n), (b, m) = found.values()
        rates = [100 * right / max(of, 1) for right, of in ((a, n), (b, m), (a + b, n + m))]
        order = "best" if best else "sampled"
        print(f"{name:32} {order:8} {rates[0]:14.1f}  {rates[1]:8.1f}  {rates[2]:5.1f}")
    print(f"{'pairs':41} {n:14}  {m:8}  {n + m:5}")


if __name__ == "__main__":
    sys.exit(main())
