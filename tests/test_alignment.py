"""Laws of the alignment scores, and their agreement with a slow float64 reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hf_alignmlm.alignment import (
    AlignmentMetric,
    alignment_scores,
    dictionary_alignment,
    words,
)
from hf_alignmlm.data.dictionary import BilingualDictionary, join

GROUPS = ("", "_seen", "_heldout")
# The same examples each time: once in many, a random gap falls on the very edge of a tie.
LAW = settings(deadline=None, max_examples=100, derandomize=True)
RANKED = ("p1", "p5", "p10", "mrr", "csls_p1", "csls_p5", "csls_p10", "csls_mrr")


def slow_reference(
    original: np.ndarray, derived: np.ndarray, pairs: np.ndarray, seen: np.ndarray, neighbours: int
) -> dict[str, float | None]:
    """Rank every query by comparing it with one candidate at a time, in float64."""

    def unit(rows: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norms == 0, 1, norms)

    cosines = unit(original) @ unit(derived).T
    r_original = np.sort(cosines, 1)[:, ::-1][:, :neighbours].mean(1)
    r_derived = np.sort(cosines.T, 1)[:, ::-1][:, :neighbours].mean(1)
    csls = 2 * cosines - r_original[:, None] - r_derived[None]
    result: dict[str, float | None] = {"cosine_random": float(cosines.mean())}
    for suffix, member in zip(GROUPS, (seen | ~seen, seen, ~seen), strict=True):
        true = [cosines[i, j] for i, j in pairs[member]]
        result[f"cosine_true{suffix}"] = float(np.mean(true)) if true else None
        for way, table, flip, tie in (
            ("", cosines, 1, 5e-6),
            ("csls_", csls, 1, 1e-5),
            ("backward_", cosines.T, -1, 5e-6),
            ("backward_csls_", csls.T, -1, 1e-5),
        ):
            ranks = []
            for query in sorted({int(pair[::flip][0]) for pair in pairs[member]}):
                own = {int(p[::flip][1]) for p in pairs if p[::flip][0] == query}
                gold = {int(p[::flip][1]) for p in pairs[member] if p[::flip][0] == query}
                best = max(table[query, g] for g in gold)
                rivals = [c for c in range(table.shape[1]) if c not in own]
                ranks.append(1 + sum(table[query, c] >= best - tie for c in rivals))
            values = {f"p{k}": [rank <= k for rank in ranks] for k in (1, 5, 10)}
            values["mrr"] = [1 / rank for rank in ranks]
            for name, value in values.items():
                result[way + name + suffix] = 100 * float(np.mean(value)) if ranks else None
    return result


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Small many-to-many problems; integer entries make ties and zero vectors common."""
    n, m = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    d, p = draw(st.integers(1, 4)), draw(st.integers(1, 16))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    original, derived = (
        torch.randint(-2, 3, (size, d), generator=generator).float()
        if draw(st.booleans())
        else torch.randn(size, d, generator=generator)
        for size in (n, m)
    )
    pairs = torch.stack([torch.randint(size, (p,), generator=generator) for size in (n, m)], 1)
    seen = torch.rand(p, generator=generator) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    return original, derived, pairs, seen


def assert_same(left: dict[str, float | None], right: dict[str, float | None]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value == (None if right[name] is None else pytest.approx(right[name], abs=1e-5)), (
            name
        )


def random_problem(size: int = 60, noise: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    original = torch.randn(size, 16, generator=generator)
    derived = original + noise * torch.randn(size, 16, generator=generator)
    return original, derived, torch.arange(size)[:, None].expand(-1, 2)


@LAW
@given(problems(), st.integers(1, 12))
def test_agrees_with_the_slow_reference(problem: tuple[Tensor, ...], neighbours: int) -> None:
    original, derived, pairs, seen = problem
    scores = alignment_scores(original, derived, pairs, seen, csls_neighbours=neighbours)
    expected = slow_reference(
        original.double().numpy(), derived.double().numpy(), pairs.numpy(), seen.numpy(), neighbours
    )
    assert_same(scores, expected)


@LAW
@given(problems(), st.integers(1, 6))
def test_block_size_changes_nothing(problem: tuple[Tensor, ...], block_size: int) -> None:
    assert_same(alignment_scores(*problem, block_size=block_size), alignment_scores(*problem))


@LAW
@given(problems(), st.randoms(use_true_random=False))
def test_relabelling_the_candidates_changes_nothing(problem: tuple[Tensor, ...], random) -> None:
    original, derived, pairs, seen = problem
    relabelled, columns = [], []
    for side, rows in enumerate((original, derived)):
        new = torch.tensor(random.sample(range(len(rows)), len(rows)))
        relabelled.append(torch.empty_like(rows).index_copy_(0, new, rows))
        columns.append(new[pairs[:, side]])
    order = torch.tensor(random.sample(range(len(pairs)), len(pairs)))
    moved = alignment_scores(*relabelled, torch.stack(columns, 1)[order], seen[order])
    assert_same(moved, alignment_scores(*problem))


@LAW
@given(problems(), st.integers(0, 2**31))
def test_the_length_of_a_row_changes_nothing(problem: tuple[Tensor, ...], seed: int) -> None:
    original, derived, pairs, seen = problem
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        rows * 10 ** (60 * torch.rand(len(rows), 1, generator=generator) - 30)
        for rows in (original, derived)
    )
    assert_same(alignment_scores(left, right, pairs, seen), alignment_scores(*problem))


@LAW
@given(problems())
def test_backward_is_forward_with_the_languages_swapped(problem: tuple[Tensor, ...]) -> None:
    original, derived, pairs, seen = problem
    scores = alignment_scores(*problem)
    swapped = alignment_scores(derived, original, pairs.flip(1), seen)
    for name in [name + group for name in RANKED for group in GROUPS]:
        assert swapped[name] == scores[f"backward_{name}"]
        assert swapped[f"backward_{name}"] == scores[name]


def test_perfect_alignment_scores_100_and_collapse_scores_nothing() -> None:
    original, _, pairs = random_problem()
    perfect = alignment_scores(original, 3 * original, pairs)
    lengths = torch.rand(60, 1) + 0.1
    collapsed = alignment_scores(original[:1] * lengths, original[:1] * lengths.flip(0), pairs)
    zeros = alignment_scores(torch.zeros(60, 4), torch.zeros(60, 4), pairs)
    for name in RANKED:
        assert perfect[name] == perfect[f"backward_{name}"] == 100
        assert perfect[f"{name}_heldout"] is None
        worst = pytest.approx(100 / 60) if name.endswith("mrr") else 0
        assert collapsed[name] == collapsed[f"backward_{name}"] == zeros[name] == worst
    assert perfect["cosine_true"] == pytest.approx(1)
    assert collapsed["cosine_random"] == pytest.approx(1)
    assert zeros["cosine_true"] == zeros["cosine_random"] == 0


def test_collapse_at_width_scores_nothing() -> None:
    row = torch.randn(1, 513, generator=torch.Generator().manual_seed(0))
    pairs = torch.arange(250)[:, None].expand(-1, 2)
    scores = alignment_scores(row.expand(250, -1), row.expand(250, -1), pairs, block_size=99)
    assert scores["p10"] == scores["csls_p10"] == scores["backward_csls_p10"] == 0


def test_groups_average_to_all_when_each_word_has_one_translation() -> None:
    original, derived, pairs = random_problem()
    seen = torch.arange(60) % 3 == 0
    scores = alignment_scores(original, derived, pairs, seen)
    for name in [*RANKED, *(f"backward_{name}" for name in RANKED), "cosine_true"]:
        every, some, others = (scores[name + group] for group in GROUPS)
        assert every is not None
        assert some is not None
        assert others is not None
        assert every == pytest.approx((20 * some + 40 * others) / 60)
    # Held-out words still compete: the seen figures are not those of a smaller vocabulary.
    alone = alignment_scores(original[seen], derived[seen], pairs[:20])
    assert alone["p1"] > scores["p1_seen"]


def test_a_query_with_translations_in_both_groups_is_filtered() -> None:
    original = torch.tensor([[1.0, 0.0]])
    angles = torch.tensor([0.0, 0.3, 0.6])  # seen translation, a stranger, held-out translation
    derived = torch.stack([angles.cos(), angles.sin()], 1)
    pairs, seen = torch.tensor([[0, 0], [0, 2]]), torch.tensor([True, False])
    scores = alignment_scores(original, derived, pairs, seen)
    assert scores["p1"] == scores["p1_seen"] == 100
    assert scores["p1_heldout"] == 0
    assert scores["mrr_heldout"] == 50  # second, behind the stranger alone


def test_csls_corrects_a_hub_as_worked_out_by_hand() -> None:
    # Cosines of x0 and x1 with the hub y0: .8 and 1; with y1, the translation of x0: .6 and 0.
    original = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    derived = torch.tensor([[0.8, 0.6], [0.6, -0.8]])
    pairs = torch.tensor([[0, 1]])
    # r(y0) = .9, r(y1) = .3, r(x0) = .7: 1.6 - .7 - .9 = 0 against 1.2 - .7 - .3 = .2
    two = alignment_scores(original, derived, pairs, csls_neighbours=2)
    assert (two["p1"], two["csls_p1"]) == (0, 100)
    # r(y0) = 1, r(y1) = .6, r(x0) = .8: both -.2, and the tie goes against the translation
    one = alignment_scores(original, derived, pairs, csls_neighbours=1)
    assert (one["p1"], one["csls_p1"], one["csls_mrr"]) == (0, 0, 50)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_works(dtype: torch.dtype) -> None:
    original, derived, pairs = random_problem(noise=0.05)
    scores = alignment_scores(original.to(dtype), derived.to(dtype), pairs)
    assert scores["p1"] == 100
    assert all(type(value) in (float, type(None)) for value in scores.values())


def test_inputs_stay_as_they_were_and_gradients_stay_out() -> None:
    original, derived, pairs = random_problem()
    parameter = torch.nn.Parameter(original.clone())
    alignment_scores(parameter, derived, pairs)
    assert torch.equal(parameter, original)
    assert parameter.grad is None


def test_autocast_does_not_blur_the_cosines() -> None:
    original, derived, pairs = random_problem()
    expected = alignment_scores(original, derived, pairs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(alignment_scores(original, derived, pairs), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original": torch.full((60, 16), math.nan)}, "original embeddings hold NaN"),
        ({"derived": torch.full((60, 16), math.inf)}, "derived embeddings hold NaN"),
        ({"derived": torch.ones(60, 15)}, "with one d"),
        ({"derived": torch.ones(60)}, "with one d"),
        ({"pairs": torch.empty(0, 2, dtype=torch.long)}, "p at least 1"),
        ({"pairs": torch.zeros(3, 3, dtype=torch.long)}, "p at least 1"),
        ({"pairs": torch.zeros(3, 2)}, "integers"),
        ({"pairs": torch.tensor([[0, 60]])}, "outside"),
        ({"pairs": torch.tensor([[-1, 0]])}, "outside"),
        ({"seen": torch.ones(59, dtype=torch.bool)}, "60 bools"),
        ({"seen": torch.ones(60)}, "60 bools"),
        ({"csls_neighbours": 0}, "at least 1"),
        ({"block_size": 0}, "at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict, message: str) -> None:
    original, derived, pairs = random_problem()
    arguments = {"original": original, "derived": derived, "pairs": pairs, **change}
    with pytest.raises(ValueError, match=message) as error:
        alignment_scores(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("container", [Tensor.tolist, Tensor.numpy])
def test_the_metric_gives_what_the_function_gives(container, tmp_path) -> None:
    original, derived, pairs = random_problem()
    seen = torch.arange(60) % 2 == 0
    metric = AlignmentMetric(cache_dir=str(tmp_path))
    scores = metric.compute(
        predictions=container(original),
        references=container(derived),
        seen=seen.tolist(),
        csls_neighbours=5,
    )
    assert scores == alignment_scores(original, derived, pairs, seen, csls_neighbours=5)
    assert not list(tmp_path.rglob("*.arrow"))
    assert "2211.08547" in metric.citation
    assert "1710.04087" in metric.citation


def test_the_metric_takes_batches(tmp_path) -> None:
    original, derived, pairs = random_problem()
    metric = AlignmentMetric(cache_dir=str(tmp_path), keep_in_memory=True)
    for rows in torch.arange(60).split(25):
        metric.add_batch(predictions=original[rows].tolist(), references=derived[rows].tolist())
    assert metric.compute() == alignment_scores(original, derived, pairs)


# --- of a dictionary ------------------------------------------------------------------------------


def some_dictionary(fraction: float = 0.6, size: int = 60) -> BilingualDictionary:
    """Words of one and several pieces, several translations, and words that both sides share."""
    pairs = [(i, size + i) for i in range(size)] + [(i, size + i // 2) for i in range(0, size, 3)]
    pairs += [(i, i) for i in range(0, size, 7)]
    several = [((i, i + 1), (size + i, size + i + 1)) for i in range(0, size - 1, 4)]
    dictionary = BilingualDictionary.from_pairs([*pairs, *several], fraction=fraction)
    return dictionary.with_counts(
        *([i * i % 1500 for i in range(len(w))] for w in dictionary.words)
    )


def noisy_table(size: int = 60, noise: float = 0.7) -> Tensor:
    original, derived, _ = random_problem(size, noise)
    return torch.cat([original, derived])


def p1_by_hand(table: Tensor, dictionary: BilingualDictionary, group: str) -> dict[tuple, bool]:
    """For each original word of a group, whether one of its translations there is nearest."""

    def unit(word: tuple[int, ...]) -> Tensor:
        row = table[list(word)].mean(0)
        return row / row.norm()

    hits = {}
    for query in dict.fromkeys(a for a, _ in getattr(dictionary, group)):
        own = {b for a, b in dictionary.pairs if a == query}
        gold = {b for a, b in getattr(dictionary, group) if a == query}
        best = max(float(unit(query) @ unit(word)) for word in gold)
        rivals = [float(unit(query) @ unit(w)) for w in dictionary.words[1] if w not in own]
        hits[query] = max(rivals) < best - 5e-6
    return hits


def test_a_dictionary_is_scored_by_words_by_frequency_and_by_what_is_shared() -> None:
    dictionary, table = some_dictionary(), noisy_table()
    assert dictionary.linked
    scores = dictionary_alignment(table, dictionary)
    counts = dict(zip(dictionary.words[0], dictionary.counts[0], strict=True))
    same = {a for a, b in dictionary.pairs if a == b}
    for group in ("seen", "heldout"):
        hits = p1_by_hand(table, dictionary, group)
        parts = {
            "": hits,
            "_identical": same,
            "_different": hits.keys() - same,
            "_count_0": {w for w in hits if not counts[w]},
            "_count_10_99": {w for w in hits if 10 <= counts[w] < 100},
            "_count_1000_up": {w for w in hits if counts[w] >= 1000},
        }
        for name, part in parts.items():
            values = [hits[word] for word in hits if word in part]
            expected = pytest.approx(100 * np.mean(values)) if values else None
            assert scores[f"p1_{group}{name}"] == expected
        right = sum(counts[word] for word in hits if hits[word])
        expected = pytest.approx(100 * right / sum(counts[word] for word in hits))
        assert scores[f"p1_{group}_frequency"] == expected
        assert 0 < scores[f"p1_{group}"] < 100
    assert {name for name in scores if "_count_" in name and "seen" in name} == {
        f"p1_seen_count_{band}" for band in ("0", "1_9", "10_99", "100_999", "1000_up")
    }


@pytest.mark.parametrize("rows", [7, 256])
def test_a_sample_of_all_words_is_the_whole(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    dictionary, table = some_dictionary(), noisy_table()
    whole = dictionary_alignment(table, dictionary)
    assert dictionary_alignment(table, dictionary, quick=True) == whole  # it is small
    monkeypatch.setattr(words, "_MANY", 0)
    monkeypatch.setattr(words, "_ROWS", rows)
    quick = dictionary_alignment(table, dictionary, quick=True)
    assert set(quick) < set(whole)
    assert_same(quick, {name: whole[name] for name in quick})
    monkeypatch.setattr(words, "_SAMPLE", 20)
    some = dictionary_alignment(table, dictionary, quick=True)
    assert some["p1_seen"] * 20 / 100 == pytest.approx(round(some["p1_seen"] * 20 / 100))
    assert some["cosine_true"] == quick["cosine_true"]
    seen, heldout = (len({a for a, _ in g}) for g in (dictionary.seen, dictionary.heldout))
    mean = (seen * some["p1_seen"] + heldout * some["p1_heldout"]) / (seen + heldout)
    assert some["p1"] == pytest.approx(mean)


def test_a_vocabulary_is_always_ranked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MANY", 0)
    dictionary = BilingualDictionary.from_pairs([(i, 60 + i) for i in range(60)], fraction=0.5)
    scores = dictionary_alignment(noisy_table(), dictionary)
    assert dictionary_alignment(noisy_table(), dictionary, quick=True) == scores
    assert scores.keys() == alignment_scores(*random_problem()).keys()


def test_several_parts_are_scored_apart_and_together() -> None:
    one, other = some_dictionary(), BilingualDictionary.from_pairs([(i, 61 + i) for i in range(50)])
    table = noisy_table()
    scores = dictionary_alignment(table, join({"en-fr": one, "en-hi": other}))
    parts = {"en-fr": dictionary_alignment(table, one), "en-hi": dictionary_alignment(table, other)}
    for name in RANKED:
        assert scores[name] == pytest.approx((parts["en-fr"][name] + parts["en-hi"][name]) / 2)
    assert scores["p1_heldout"] == parts["en-fr"]["p1_heldout"]  # en-hi holds nothing out
    for part, own in parts.items():
        assert {name: scores[f"{part}_{name}"] for name in own} == own
