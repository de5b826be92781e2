"""Word orders from treebanks: learn what `syn-fr` does, and check it on held-out trees.

    python -m study.word_order learn TREEBANK.conllu --output model.json
    python -m study.word_order check --model fr --treebank HELD_OUT.conllu

docs/syntax.md explains the model. After Wang & Eisner, Galactic Dependencies (TACL 2016).
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, groupby, product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array, dok_array

from hf_alignmlm.arguments import one_line_errors
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.languages import word_order as syntax
from hf_alignmlm.languages.word_order import CLASSES, Array, Kinds, Tree, WordOrderModel


def _clusters(tree: Tree, where: str) -> Iterator[tuple[str, Kinds, int]]:
    """Each noun and verb of a projective tree: class, kinds in source order, its place in them."""
    order, children, projective = syntax.plan_tree(tree.heads, where, tree.deprels, tree.upos)
    for node in order if projective else ():
        free = [i for i in children[node] if not tree.deprels[i].startswith("punct")]
        if free and (head_class := CLASSES.get(tree.upos[node])):
            nodes = sorted([node, *free])
            yield head_class, syntax.kinds_of(tree, node, nodes), nodes.index(node)


def _before(scores: Array) -> tuple[Array, Array]:
    """Log-normalisers (batch,), and their gradient, P(a before b) (batch, n, n)."""
    members, _, layers = syntax.subsets(scores.shape[-1])
    logs, total = syntax.order_steps(scores)
    flow, each = np.exp(logs), np.arange(scores.shape[-1])
    for layer in layers[1:]:
        reached = (flow[:, layer[:, None] & ~(1 << each), each] * members[layer]).sum(-1)
        flow[:, layer] *= reached[:, :, None]
    return total, members.T.astype(float) @ flow


class _Problem:
    """The penalised negative log-likelihood of the orders seen, and its gradient.

    `seen` counts orders of kinds, such as ("amod/ADJ", "head/NOUN"): 300.
    """

    def __init__(self, seen: Mapping[Kinds, int], l2: float) -> None:
        shown: Counter[str] = Counter()
        for kinds, count in seen.items():
            for a, b in combinations(kinds, 2):
                shown.update({name: count for name, _ in syntax.pair_features(a, b)})
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
                for name, sign in syntax.pair_features(a, b):
                    if name in column:
                        cells[row, column[name]] += sign / 2
            self.groups.append((n, cells.tocsr(), np.array([seen[k] for k in orders], float)))

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
        best = minimize(self, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
        rounded = {name: round(float(w), 2) for name, w in zip(self.names, best, strict=True)}
        return {name: w for name, w in rounded.items() if "/" not in name or abs(w) >= 0.05}


def learn(
    trees: Iterable[Tree], *, name: str = "", l2: float = 1.0, **about: Any
) -> WordOrderModel:
    """Fit a model with the prior l2/2·‖w‖²; non-projective trees are dropped and counted.

    `about` (treebank, licence) is kept with the model. ValueError for no trees, or for no tree.
    """
    if not 0 < l2 < np.inf:
        raise ValueError(f"l2 is {l2}; it must be a number above 0")
    seen: dict[str, Counter[Kinds]] = {c: Counter() for c in CLASSES.values()}
    sides: dict[str, dict[str, list[int]]] = {c: {} for c in seen}
    sentences = dropped = windowed = 0
    for sentences, tree in enumerate(trees, 1):
        for head_class, kinds, head in _clusters(tree, f"sentence {sentences}"):
            windowed += len(kinds) > syntax.EXACT + 1
            seen[head_class].update(kinds[window] for window in syntax.windows(len(kinds)))
            for place, kind in enumerate(kinds):
                if place != head:
                    side = sides[head_class].setdefault(kind.partition("/")[0], [0, 0])
                    side[place > head] += 1
        dropped += not syntax.is_projective(tree.heads)
    if not sentences:
        raise ValueError("no sentences to learn from")
    about |= {"l2": l2, "sentences": sentences, "dropped_nonprojective": dropped}
    about |= {"windowed_heads": windowed}
    about |= {"sides": {c: dict(sorted(side.items())) for c, side in sides.items()}}
    return WordOrderModel(name, {c: _Problem(seen[c], l2).solve() for c in seen}, about)


def majority_sides(model: WordOrderModel) -> WordOrderModel:
    """The baseline: each relation on the side of its head where the model's treebank had it."""
    weights: dict[str, dict[str, float]] = {head_class: {} for head_class in model.weights}
    for head_class, sides in model.about["sides"].items():
        for relation, (before, behind) in sides.items():
            name, sign = syntax.pair_features(relation, "head")[0]
            weights[head_class][name] = 20 * sign * (1 if before > behind else -1)
    return WordOrderModel("majority side", weights, model.about)


def agreement(
    model: WordOrderModel, trees: Iterable[Tree], *, best: bool = True, seed: int = 0
) -> dict[str, tuple[int, int]]:
    """How many pairs of constituents the model orders as the sentences do: (these, all pairs).

    "head" counts pairs of a head and a dependent, "sibling" those of two dependents. The model gets
    constituents shuffled and without punctuation, so that nothing of the real order shows.
    """
    counted: dict[str, Counter[bool]] = {"head": Counter(), "sibling": Counter()}
    for index, tree in enumerate(trees):
        rng = random.Random(f"check/{seed}/{index}")
        for head_class, kinds, head in _clusters(tree, f"sentence {index}"):
            mixed = rng.sample(range(len(kinds)), len(kinds))
            given = tuple(kinds[i] for i in mixed)
            order = [mixed[i] for i in model.arrange(head_class, given, None if best else rng)]
            for a, b in combinations(order, 2):
                counted["head" if head in (a, b) else "sibling"][a < b] += 1
    return {pair: (counts[True], counts.total()) for pair, counts in counted.items()}


def _learn(args: argparse.Namespace) -> None:
    if Path(args.output).exists() and not args.overwrite_output_dir:
        raise ValueError(f"{args.output} exists; --overwrite_output_dir replaces it")
    about = {"treebank": Path(args.treebank).name, "licence": args.license}
    model = learn(read_conllu(args.treebank), name=args.name, l2=args.l2, **about)
    model.save(args.output)
    print({**model.about, "sides": "…", "weights": {c: len(w) for c, w in model.weights.items()}})


def _check(args: argparse.Namespace) -> None:
    load = WordOrderModel.from_name if args.model in syntax.KNOWN else WordOrderModel.from_file
    systems, trees = [(args.model, load(args.model))], list(read_conllu(args.treebank))
    systems += [(Path(p).name, learn(read_conllu(p), l2=args.l2)) for p in args.baseline_treebank]
    rows = [(name, system, best) for name, system in systems for best in (True, False)]
    rows.insert(2, ("majority side", majority_sides(systems[0][1]), True))
    print(f"{'system':32} {'order':8} head–dependent  siblings    all")
    for name, system, best in rows:
        (a, n), (b, m) = agreement(system, trees, best=best, seed=args.seed).values()
        rates = [100 * right / max(of, 1) for right, of in ((a, n), (b, m), (a + b, n + m))]
        order = "best" if best else "sampled"
        print(f"{name:32} {order:8} {rates[0]:14.1f}  {rates[1]:8.1f}  {rates[2]:5.1f}")
    print(f"{'pairs':41} {n:14}  {m:8}  {n + m:5}")


def main(argv: Sequence[str] | None = None) -> None:
    """`learn` a model or `check` one; errors are one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m study.word_order", description=__doc__)
    commands = parser.add_subparsers(required=True)
    to_learn = commands.add_parser("learn", help="learn a word-order model from a UD treebank")
    to_learn.set_defaults(run=_learn)
    to_learn.add_argument("treebank", help="CoNLL-U, plain or .gz")
    to_learn.add_argument("--output", required=True, help="where to write the model (JSON)")
    to_learn.add_argument("--name", default="", help="the language's name, kept in the model")
    to_learn.add_argument("--license", default="", help="the treebank's license, kept in the model")
    to_learn.add_argument("--overwrite_output_dir", action="store_true", help="replace the output")
    check = commands.add_parser("check", help="pairwise accuracy on a treebank, beside baselines")
    check.set_defaults(run=_check)
    check.add_argument("--model", required=True, help="a file, or the name of a packaged model")
    check.add_argument("--treebank", required=True, help="held-out CoNLL-U, plain or .gz")
    check.add_argument("--baseline_treebank", nargs="*", default=[], help="to learn rivals from")
    check.add_argument("--seed", type=int, default=0, help="of the drawn orders")
    for command in (to_learn, check):
        command.add_argument("--l2", type=float, default=1.0, help="strength of the prior")
    args = parser.parse_args(argv)
    with one_line_errors():
        args.run(args)


if __name__ == "__main__":
    main()
