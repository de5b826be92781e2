"""The alignment loss of a dictionary with several translations a word, whole and by sample."""

import copy

import pytest
import torch
from torch.nn import functional as F

from hf_alignmlm.data.dictionary import BilingualDictionary, join
from hf_alignmlm.models.alignment_loss import CosineAlignmentLoss

V = 200
# Word 0 has forty translations, each of the others one or two, of one or two pieces.
MANY = [(0, 100 + i) for i in range(40)] + [(i, 140 + i) for i in range(1, 50)]
MANY += [((i, i + 1), (150 + i, 151 + i)) for i in range(30, 40)] + [(7, (190, 191))]
DICTIONARY = BilingualDictionary.from_pairs(MANY)
SIDES = list(zip(*DICTIONARY.seen, strict=True))


def table(seed=0):
    return torch.randn(V, 8, generator=torch.Generator().manual_seed(seed)) + 0.3


def by_word(embeddings, dictionary, counts=None):
    """L_align as the mean over words of the mean over their translations, one by one."""
    translations = {}
    for original, derived in dictionary.seen:
        left, right = (embeddings[list(word)].mean(0) for word in (original, derived))
        translations.setdefault(original, []).append(F.cosine_similarity(left, right, dim=0))
    means = torch.stack([torch.stack(cosines).mean() for cosines in translations.values()])
    weights = torch.ones(len(means)) if counts is None else counts
    return -(means * weights).sum() / weights.sum()


def test_each_word_weighs_the_same_however_many_translations_it_has():
    embeddings = table()
    embeddings[100:140] = embeddings[0]  # all forty are aligned
    expected = by_word(embeddings, DICTIONARY)
    assert CosineAlignmentLoss(DICTIONARY)(embeddings).item() == pytest.approx(expected.item())
    # Each pair the same would be nearly 1 for word 0 alone.
    rows = [torch.stack([embeddings[list(w)].mean(0) for w in side]) for side in SIDES]
    assert abs(-F.cosine_similarity(*rows).mean() - expected) > 0.2


def test_words_weigh_by_their_frequency_where_that_is_asked_for():
    counts = torch.arange(len(DICTIONARY.words[0]))
    counted = DICTIONARY.with_counts(counts.tolist(), [0] * len(DICTIONARY.words[1]))
    loss = CosineAlignmentLoss(counted, word_weights="frequency")
    expected = by_word(table(), counted, counts.clamp(min=1).float())
    assert loss(table()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_piece_and_one_translation_a_word_is_the_mean_to_the_bit():
    pairs = [(i, i + 100) for i in range(90)]
    loss, embeddings = CosineAlignmentLoss(BilingualDictionary.from_pairs(pairs)), table()
    assert loss.rows is not None
    plain = copy.copy(loss)
    plain.rows = None
    expected = -F.cosine_similarity(embeddings[:90], embeddings[100:190]).mean()
    assert torch.equal(plain(embeddings), expected)
    assert loss(embeddings).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("weights", ["uniform", "frequency"])
def test_the_sampled_loss_is_an_unbiased_estimate(weights):
    dictionary = DICTIONARY.with_counts([1, 9] * 30, [1] * len(DICTIONARY.words[1]))
    whole = CosineAlignmentLoss(dictionary, word_weights=weights)(table()).item()
    loss = CosineAlignmentLoss(dictionary, pairs_per_step=12, word_weights=weights)
    values = []
    for step in range(1000):
        loss.draw(0, step)
        values.append(loss(table()))
    values = torch.stack(values)
    error = values.std() / len(values) ** 0.5
    assert 0 < error < 0.004
    assert abs(values.mean() - whole) < 4 * error


def test_each_translation_is_drawn_as_often_as_it_weighs():
    loss, drawn = CosineAlignmentLoss(DICTIONARY, pairs_per_step=30), torch.zeros(len(MANY))
    for step in range(2000):
        loss.draw(3, step)
        assert len(loss.drawn) == 60
        assert torch.equal(loss.drawn[:30] + len(MANY), loss.drawn[30:])
        drawn += torch.bincount(loss.drawn[:30], minlength=len(MANY))
    expected = 2000 * 30 * torch.tensor(DICTIONARY.weights()) / len(DICTIONARY.words[0])
    assert ((drawn - expected).abs() < 5 * expected.sqrt()).all()


def test_a_draw_depends_on_seed_and_step_alone():
    one, other = (CosineAlignmentLoss(DICTIONARY, pairs_per_step=10) for _ in range(2))
    draws = set()
    for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for loss in (one, other):
            loss.draw(seed, step)
        other(table())
        other(table())  # another part of the same step
        assert torch.equal(one.drawn, other.drawn)
        draws.add(tuple(one.drawn.tolist()))
    assert len(draws) == 4


def test_a_loop_that_tells_no_step_gets_other_pairs_at_each_call():
    loss = CosineAlignmentLoss(DICTIONARY, pairs_per_step=10).train()
    assert len({loss(table()).item() for _ in range(5)}) == 5
    loss.eval()
    assert len({loss(table()).item() for _ in range(5)}) == 1


def test_a_sample_is_taken_of_larger_dictionaries_alone():
    assert CosineAlignmentLoss(DICTIONARY).drawn is None
    assert CosineAlignmentLoss(DICTIONARY, pairs_per_step=len(MANY)).drawn is None
    one_piece = BilingualDictionary.from_pairs([(i, i + 9000) for i in range(9000)])
    assert CosineAlignmentLoss(one_piece).rows.shape == (2, 9000)
    assert len(CosineAlignmentLoss(one_piece, pairs_per_step=7).drawn) == 14
    several = BilingualDictionary.from_pairs([((i, i), i + 9000) for i in range(9000)])
    assert len(CosineAlignmentLoss(several).drawn) == 8000
    with pytest.raises(ValueError, match="alignment_pairs_per_step must be at least 1, not 0"):
        CosineAlignmentLoss(DICTIONARY, pairs_per_step=0)


def test_a_sample_is_of_float32_whatever_the_embeddings():
    loss = CosineAlignmentLoss(DICTIONARY, pairs_per_step=20)
    loss.draw(0, 0)
    exact = loss(table().bfloat16().float())
    assert torch.equal(loss(table().bfloat16()), exact)


def test_the_words_of_all_parts_weigh_the_same():
    other = BilingualDictionary.from_pairs([(60, 70), (60, 71), (61, 72)])
    joined = join({"en-fr": DICTIONARY, "en-sw": other})
    numbers = [len(part.words[0]) for _, part in joined.parts]
    parts = [n * by_word(table(), d) for n, (_, d) in zip(numbers, joined.parts, strict=True)]
    expected = sum(parts) / sum(numbers)
    assert CosineAlignmentLoss(joined)(table()).item() == pytest.approx(expected.item(), rel=1e-5)
