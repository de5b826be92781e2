"""Objectives: packing loses nothing, masks are a function of seed, epoch and example, and of BERT.

Where figures are shares, they are of tens of thousands of draws, and bounds are five deviations.
"""

import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from itertools import chain, groupby

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hf_alignmlm.data import packing as objectives
from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.data.encoding import TOKENIZED, tokenize_corpus
from hf_alignmlm.data.packing import (
    DERIVED,
    ORIGINAL,
    PAIR,
    EpochDataset,
    EpochStream,
    pack,
    packing_report,
)
from hf_alignmlm.data.tokenizer import reserved_ids, vocabulary_pairs
from hf_alignmlm.objectives.base import Objective
from hf_alignmlm.objectives.collator import IGNORE_INDEX, ObjectiveCollator

PAD, UNK, CLS, SEP, MASK = range(5)
V, LENGTH = 600, 64
SPECIAL = torch.tensor([PAD, UNK, CLS, SEP, MASK])


@pytest.fixture(scope="module")
def double(doubled):
    assert doubled[0].convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == list(
        range(5)
    )
    return doubled[0]


@pytest.fixture(scope="module")
def tokenized(embedded, doubled):
    corpus = Dataset.from_list([{"words": s.words} for s in embedded])
    return tokenize_corpus(corpus, *doubled)


@pytest.fixture(scope="module")
def packed(tokenized, double):
    return pack(tokenized, double, max_seq_length=LENGTH)


@pytest.fixture(scope="module")
def paired(tokenized, double):
    return pack(tokenized, double, max_seq_length=LENGTH, pair_rate=1.0)


@pytest.fixture(scope="module")
def isolated(tokenized, double):
    options = {"max_seq_length": LENGTH, "pair_rate": 1.0, "isolate_sentences": True}
    return pack(tokenized, double, **options)


def features(packed, count=None, epoch=0):
    rows = EpochDataset(packed)
    rows.set_epoch(epoch)
    return rows.__getitems__(list(range(count or len(packed))))


def collate(double, rows, *, seed=0, dictionary=None, length=LENGTH, **options):
    objective = Objective.from_name(**{"name": "mlm", **options})
    return ObjectiveCollator(double, objective, length, seed, dictionary)(rows)


def ids_of(rows, length=LENGTH):
    ids = torch.full((len(rows), length), PAD)
    for row, feature in zip(ids, rows, strict=True):
        row[: len(feature["input_ids"])] = torch.as_tensor(np.array(feature["input_ids"]))
    return ids


def near(share, expected, draws):
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


# --- packing --------------------------------------------------------------------------------------


@st.composite
def batches(draw):
    """Sentences whose tokens are all different, so that each can be followed."""
    count = draw(st.integers(1, 12))
    rows, fresh = [], iter(range(10, 100_000))
    for index in range(count):
        pieces = draw(st.lists(st.sampled_from([0, 1, 1, 1, 2, 3, 7, 20]), max_size=14))
        order = draw(st.permutations(range(len(pieces))))
        words = [[next(fresh) for _ in range(size)] for size in pieces]
        rows.append(
            {
                "original": list(chain.from_iterable(words)),
                "derived": [i + 100_000 for place in order for i in words[place]],
                "pieces": pieces,
                "order": order,
                "index": index,
            }
        )
    return rows


def unpacked(rows, kind):
    return [list(map(int, row["input_ids"])) for row in rows if row["language"] == kind]


@given(batch=batches(), length=st.integers(8, 24))
@settings(max_examples=40)
def test_each_languages_sentences_run_on_and_lose_nothing(double, batch, length):
    rows = list(pack(Dataset.from_list(batch, features=TOKENIZED), double, max_seq_length=length))
    for kind, column in ((ORIGINAL, "original"), (DERIVED, "derived")):
        sequences = unpacked(rows, kind)
        assert all(row[0] == CLS for row in sequences)
        assert all(len(row) == length for row in sequences[:-1])
        assert 1 < len(sequences[-1]) <= length
        flat = list(chain.from_iterable(row[1:] for row in sequences))
        assert flat == list(chain.from_iterable([*row[column], SEP] for row in batch))
    assert not unpacked(rows, PAIR)


def plain(rows):
    return [(int(row["language"]), list(map(int, row["input_ids"]))) for row in rows]


@given(batch=batches(), length=st.integers(8, 24))
@settings(max_examples=60)
def test_isolated_sentences_stay_whole_unless_longer_than_a_sequence(double, batch, length):
    dataset = Dataset.from_list(batch, features=TOKENIZED)
    rows = list(pack(dataset, double, max_seq_length=length, isolate_sentences=True))
    for kind, column in ((ORIGINAL, "original"), (DERIVED, "derived")):
        found = []
        for row in unpacked(rows, kind):
            assert len(row) <= length
            found += segments(row, isolated=True)
        room, expected = length - 2, []
        for sentence in batch:
            ids = sentence[column]
            expected += [ids[start : start + room] for start in range(0, len(ids), room)]
        assert sorted(found) == sorted(expected)


def segments(row, *, isolated):
    """The sentences of a sequence or of a half, after checking its frame."""
    end = row.index(PAD) if PAD in row else len(row)
    assert set(row[end:]) <= {PAD}
    assert row[0] == CLS
    assert row[end - 1] == SEP
    found = []
    for token in row[:end]:
        if token == CLS:
            assert not found or isolated
            found.append([])
        elif token == SEP:
            found += [] if isolated else [[]]
        else:
            found[-1].append(token)
    assert isolated or found.pop() == []
    assert row.count(SEP) == len(found)
    return found


def halves(row, *, isolated=False):
    """The sentences of each half of a pair."""
    half = len(row) // 2
    sides = [segments(side, isolated=isolated) for side in (row[:half], row[half:])]
    assert len(sides[0]) == len(sides[1])
    return sides


@given(batch=batches(), length=st.integers(8, 24), isolated=st.booleans())
@settings(max_examples=100)
def test_pairs_hold_the_same_words_and_lose_only_words_longer_than_a_half(
    double, batch, length, isolated
):
    dataset = Dataset.from_list(batch, features=TOKENIZED)
    options = {"max_seq_length": length, "pair_rate": 1.0, "isolate_sentences": isolated}
    rows = list(pack(dataset, double, **options))
    room, word_of, place_of, expected = length // 2 - 2, {}, {}, []
    for number, sentence in enumerate(batch):
        ids, places = iter(sentence["original"]), np.argsort(sentence["order"])
        for word, size in enumerate(sentence["pieces"]):
            tokens = [next(ids) for _ in range(size)]
            word_of |= {token: (number, word, tuple(tokens)) for token in tokens}
            place_of |= dict.fromkeys(tokens, places[word])
            expected += tokens if size <= room else []
    found = []
    for row in unpacked(rows, PAIR):
        assert len(row) == length // 2 * 2
        for original, derived in zip(*halves(row, isolated=isolated), strict=True):
            found += original
            derived = [i - 100_000 for i in derived]
            # The same words, whole, of one sentence; twins in the derived order.
            assert sorted(original) == sorted(derived)
            assert len({word_of[i][0] for i in original}) <= 1
            for side in (original, derived):
                words = [word for word, _ in groupby(side, key=word_of.get)]
                assert list(chain.from_iterable(tokens for _, _, tokens in words)) == side
            assert [place_of[i] for i in derived] == sorted(place_of[i] for i in derived)
    assert found == expected


def test_pairs_of_the_embedded_corpus_can_be_derived_from_one_another(paired, double, doubled):
    language, whole = doubled[1], 0

    def words(ids):
        text = " ".join(double.convert_ids_to_tokens(ids))
        return text.replace(" ##", "").split(" ")

    for row in unpacked(paired, PAIR):
        for original, derived in zip(*halves(row), strict=True):
            text, twin = words(original), words(derived)
            assert Counter(map(language.unspell, twin)) == Counter(text)
            whole += twin == language.derive(text)
    # All but sentences cut in two whose first part ends in a mark.
    assert whole > 2000


def test_packing_is_the_same_for_streams_and_processes(embedded, doubled, double, monkeypatch):
    monkeypatch.setattr(objectives, "PACKING_BATCH", 70)
    corpus = Dataset.from_list([{"words": s.words} for s in embedded[:300]])
    options = {"max_seq_length": 32, "pair_rate": 0.5, "seed": 3}
    one, two = (
        plain(pack(tokenize_corpus(corpus, *doubled, num_proc=n), double, **options))
        for n in (1, 2)
    )
    stream = pack(tokenize_corpus(corpus.to_iterable_dataset(), *doubled), double, **options)
    assert one == two == plain(stream)
    # Groups of 70 sentences, each with rows of every kind, so that a stream mixes them.
    kinds = [kind for kind, _ in groupby(kind for kind, _ in one)]
    assert kinds == [ORIGINAL, DERIVED, PAIR] * 5


def test_packing_takes_the_languages_asked_for(tokenized, double):
    rows = pack(tokenized, double, max_seq_length=LENGTH, languages={"derived": DERIVED})
    assert set(rows["language"]) == {DERIVED}
    tokens = set(chain.from_iterable(unpacked(rows, DERIVED)))
    assert {i for i in tokens if i < V} <= {UNK, CLS, SEP}
    assert len(tokens) > 300


def test_padding_is_under_two_percent_of_the_embedded_corpus(packed, paired, isolated, double):
    for rows in (
        packed,
        paired,
        isolated.filter(lambda kind: kind != PAIR, input_columns="language"),
    ):
        share = packing_report(rows, {}, double, LENGTH)["padding_share"]
        tokens = sum(i != PAD for i in chain.from_iterable(rows["input_ids"]))
        assert share == pytest.approx(100 - 100 * tokens / (len(rows) * LENGTH))
        assert 0 <= share < 2


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_the_tlm_rate_is_the_share_of_sentences_that_give_a_pair(tokenized, double, rate):
    def sentences_in_pairs(seed, rate=rate):
        rows = pack(tokenized, double, max_seq_length=512, pair_rate=rate, seed=seed)
        assert len(unpacked(rows, ORIGINAL)) == len(unpacked(rows, DERIVED)) > 0
        found = chain.from_iterable(halves(row)[0] for row in unpacked(rows, PAIR))
        return Counter(map(tuple, found))

    known = set(map(tuple, tokenized["original"]))
    found = sentences_in_pairs(1)
    # A sentence cut in two counts as two that are not known.
    count = sum(number for sentence, number in found.items() if sentence in known)
    cut = found.total() - count
    assert abs(count + cut / 2 - rate * 2000) < 5 * math.sqrt(2000 * rate * (1 - rate)) + 1
    assert found == sentences_in_pairs(1)
    if 0 < rate < 1:
        assert found != sentences_in_pairs(2)
        more = sentences_in_pairs(1, min(1, 2 * rate))
        assert sum((found - more).values()) <= 2 * cut + 60


def test_too_short_a_sequence_is_refused(tokenized, double):
    with pytest.raises(ValueError, match="max_seq_length must be at least 8, not 7"):
        pack(tokenized, double, max_seq_length=7)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlm", "align-mlm", "xlm"])
def test_masks_are_berts(packed, paired, double, name):
    rows = features(paired if name == "xlm" else packed)
    ids, batch = ids_of(rows), collate(double, rows, name=name)
    inputs, labels = batch["input_ids"], batch["labels"]
    chosen = labels != IGNORE_INDEX
    candidates = ~torch.isin(ids, SPECIAL)
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert not (chosen & ~candidates).any()
    # 15 % of each sequence, to the nearest token.
    expected = (candidates.sum(1) * 0.15).round().clamp(min=1)
    assert torch.equal(chosen.sum(1).float(), expected)
    draws = int(chosen.sum())
    assert draws > 5_000
    masked, same = inputs[chosen] == MASK, inputs[chosen] == ids[chosen]
    assert near(masked.float().mean(), 0.8, draws)
    assert near(same.float().mean(), 0.1, draws)
    assert near((~masked & ~same).float().mean(), 0.1, draws)
    # Every place is as likely as any other.
    for place in range(1, LENGTH - 1):
        there = int(candidates[:, place].sum())
        assert near(chosen[candidates[:, place], place].float().mean(), 0.15, max(there, 1))


def test_random_tokens_come_from_both_halves_and_are_never_reserved(packed, double):
    counts = torch.zeros(2 * V)
    for epoch in range(6):
        rows = features(packed, epoch=epoch)
        batch = collate(double, rows, mlm_probability=1.0)
        drawn = batch["input_ids"][(batch["input_ids"] != ids_of(rows))]
        counts += torch.bincount(drawn[drawn != MASK], minlength=2 * V)
    reserved = reserved_ids(double)
    assert len(reserved) == 10
    assert counts[reserved].sum() == 0
    ordinary = counts[[i for i in range(2 * V) if i not in reserved]]
    assert ordinary.sum() > 20_000
    assert (ordinary > 0).all()
    assert near(float(counts[:V].sum() / counts.sum()), 0.5, int(counts.sum()))


@pytest.mark.parametrize("probability", [0.01, 0.3, 1.0])
def test_the_mask_probability_is_an_option(packed, double, probability):
    rows = features(packed, 200)
    batch = collate(double, rows, mlm_probability=probability)
    candidates = ~torch.isin(ids_of(rows), SPECIAL)
    share = (batch["labels"] != IGNORE_INDEX).sum() / candidates.sum()
    assert abs(share - probability) < 0.01


def test_a_short_sequence_has_at_least_one_target_and_an_empty_one_none(double):
    rows = [
        {"input_ids": np.array([CLS, 100, SEP]), "language": 0, "example": i, "epoch": 0}
        for i in range(20)
    ]
    labels = collate(double, rows)["labels"]
    assert (labels[:, 1] == 100).all()
    assert (labels != IGNORE_INDEX).sum() == 20
    rows = [{**row, "input_ids": np.array([CLS, UNK, SEP])} for row in rows]
    assert (collate(double, rows)["labels"] == IGNORE_INDEX).all()


OPTIONS = {"name": "dict-mlm", "swap_probability": 0.5}


def test_masks_depend_on_seed_epoch_and_example_alone(packed, double):
    dictionary = BilingualDictionary.from_pairs([(i, i + V) for i in range(5, V)], fraction=0.5)
    rows = features(packed, 64, epoch=3)
    collator = ObjectiveCollator(double, Objective.from_name(**OPTIONS), LENGTH, 11, dictionary)
    whole = collator(rows)
    torch.manual_seed(1)
    np.random.seed(1)
    # In other company, in another order, alone, and drawn by another collator.
    shuffled = np.random.default_rng(0).permutation(64)
    for parts in ([[i] for i in range(64)], np.split(shuffled, 4), [shuffled]):
        for part in parts:
            batch = ObjectiveCollator(
                double, Objective.from_name(**OPTIONS), LENGTH, 11, dictionary
            )([rows[i] for i in part])
            for name, values in batch.items():
                assert torch.equal(values, whole[name][torch.as_tensor(part)])


def test_masks_change_with_seed_epoch_and_example(packed, double):
    row = features(packed, 1)[0]

    def labels(seed=0, **changes):
        return tuple(collate(double, [{**row, **changes}], seed=seed)["labels"][0].tolist())

    draws = [labels(), labels(seed=1), labels(epoch=1), labels(example=1), labels(example=2)]
    draws += [labels(seed=1, epoch=1), labels(seed=1, example=1), labels(epoch=1, example=1)]
    assert len(set(draws)) == len(draws)
    assert labels() == labels()


def test_every_token_is_a_target_in_the_end(packed, double):
    rows = features(packed, 8)
    seen = torch.zeros(8, LENGTH, dtype=torch.bool)
    for epoch in range(60):
        batch = collate(double, [{**row, "epoch": epoch} for row in rows])
        seen |= batch["labels"] != IGNORE_INDEX
    assert torch.equal(seen, ~torch.isin(ids_of(rows), SPECIAL))


SCRIPT = """
import sys
from test_objectives import digest
print(digest())
"""


def digest():
    """A digest of what packing and masking draw, from fixed sentences and no fixture."""
    from hf_alignmlm import minienglish
    from hf_alignmlm.data.tokenizer import double_tokenizer, train_tokenizer
    from hf_alignmlm.languages.synthetic import SyntheticLanguage

    found = [s.words for s in minienglish.sentences(100)]
    plain = train_tokenizer((" ".join(words) for words in found), 300)
    double, language = double_tokenizer(plain, SyntheticLanguage("trans_perm", seed=2))
    rows = tokenize_corpus(Dataset.from_list([{"words": w} for w in found]), double, language)
    rows = pack(rows, double, max_seq_length=32, pair_rate=0.5, seed=2)
    dictionary = BilingualDictionary.from_pairs(vocabulary_pairs(double, language), fraction=0.5)
    options = {**OPTIONS, "isolate_sentences": True}
    batch = collate(
        double, features(rows, epoch=1), seed=5, dictionary=dictionary, length=32, **options
    )
    data = b"".join(name.encode() + values.numpy().tobytes() for name, values in batch.items())
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("stream", [False, True])
def test_workers_that_persist_draw_masks_anew_in_each_epoch(packed, double, stream):
    collator = ObjectiveCollator(double, Objective.from_name("mlm"), LENGTH)

    def epochs(**workers):
        first = packed.select(range(24))
        rows = EpochStream(first.to_iterable_dataset()) if stream else EpochDataset(first)
        loader = DataLoader(rows, 8, collate_fn=collator, **workers)
        labels = []
        for epoch in range(3):
            rows.set_epoch(epoch)
            labels.append(torch.cat([batch["labels"] for batch in loader]))
        return labels

    alone, persistent = epochs(), epochs(num_workers=1, persistent_workers=True)
    assert all(map(torch.equal, alone, persistent))
    assert not torch.equal(alone[0], alone[1])


def test_another_process_draws_the_same():
    here = os.path.dirname(__file__)
    other = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": here},
        capture_output=True,
        check=True,
        text=True,
    )
    assert other.stdout.split()[-1] == digest()


@pytest.mark.parametrize("workers", [1, 2])
def test_data_loader_workers_draw_the_same(packed, double, workers):
    collator = ObjectiveCollator(double, Objective.from_name("mlm"), LENGTH)
    batches = [
        list(DataLoader(EpochDataset(packed), 16, collate_fn=collator, num_workers=number))
        for number in (0, workers)
    ]
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


# --- dict-mlm -------------------------------------------------------------------------------------

HALF = BilingualDictionary.from_pairs([(i, i + V) for i in range(5, V)], fraction=0.5, seed=4)
IN_DICTIONARY = torch.zeros(2 * V, dtype=torch.bool)
IN_DICTIONARY[[i for pair in HALF.single_piece_pairs() for i in pair]] = True


def twin(ids):
    return torch.where(ids < V, ids + V, ids - V)


@pytest.fixture(scope="module")
def swapped(packed, double):
    def draw(variant, language=None, **options):
        inputs, labels, originals = [], [], []
        for epoch in range(4):
            rows = features(packed, epoch=epoch)
            rows = [row for row in rows if language is None or row["language"] == language]
            options = {**OPTIONS, "dict_mlm_variant": variant, **options}
            batch = collate(double, rows, dictionary=HALF, **options)
            ids, chosen = ids_of(rows), batch["labels"] != IGNORE_INDEX
            assert torch.equal(batch["input_ids"][~chosen], ids[~chosen])
            inputs.append(batch["input_ids"][chosen])
            labels.append(batch["labels"][chosen])
            originals.append(ids[chosen])
        return torch.cat(inputs), torch.cat(labels), torch.cat(originals)

    return draw


@pytest.mark.parametrize("language", [ORIGINAL, DERIVED])
def test_inputs_are_swapped_as_released(swapped, language):
    inputs, labels, ids = swapped("input", language)
    assert torch.equal(labels, ids)
    known = IN_DICTIONARY[ids]
    draws = int(known.sum())
    assert draws > 5_000
    share = (inputs[known] == twin(ids[known])).float().mean()
    # Half, and hardly any by chance among the random ones.
    assert near(share, 0.5, draws)
    assert near((inputs[known] == MASK).float().mean(), 0.4, draws)
    assert near((inputs[known] == ids[known]).float().mean(), 0.05, draws)


@pytest.mark.parametrize("variant", ["input", "label"])
def test_a_position_without_an_entry_is_masked_as_usual(swapped, variant):
    """Not left in sight, as in the released code."""
    inputs, labels, ids = swapped(variant)
    unknown = ~IN_DICTIONARY[ids]
    draws = int(unknown.sum())
    assert draws > 5_000
    assert torch.equal(labels[unknown], ids[unknown])
    assert near((inputs[unknown] == ids[unknown]).float().mean(), 0.1, draws)
    assert near((inputs[unknown] == MASK).float().mean(), 0.8, draws)


@pytest.mark.parametrize("language", [ORIGINAL, DERIVED])
def test_labels_are_swapped_as_in_the_paper(swapped, language):
    inputs, labels, ids = swapped("label", language)
    known = IN_DICTIONARY[ids]
    draws = int(known.sum())
    crossed = labels[known] == twin(ids[known])
    assert near(crossed.float().mean(), 0.5, draws)
    assert torch.equal(labels[known][~crossed], ids[known][~crossed])
    for part in (crossed, ~crossed):
        assert near((inputs[known][part] == MASK).float().mean(), 0.8, int(part.sum()))
        assert near((inputs[known][part] == ids[known][part]).float().mean(), 0.1, int(part.sum()))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_the_swap_probability_is_an_option(swapped, probability):
    inputs, _, ids = swapped("input", swap_probability=probability)
    known = IN_DICTIONARY[ids]
    share = (inputs[known] == twin(ids[known])).float().mean()
    assert share == 1 if probability else share < 0.001


def test_one_of_several_translations_is_drawn(double):
    pairs = BilingualDictionary.from_pairs(
        [(10, 700), (10, 701), (11, 701), (10, (702, 703)), ((12, 13), 704)]
    )
    ids = np.array([CLS, *[10] * 20, *[11] * 10, *[701] * 10, *[12] * 5, *[704] * 5, SEP])
    rows = [{"input_ids": ids, "language": 0, "example": i, "epoch": 0} for i in range(300)]
    options = {"name": "dict-mlm", "mlm_probability": 1.0, "swap_probability": 1.0}
    inputs = collate(double, rows, dictionary=pairs, **options)["input_ids"]
    for token, others in ((10, {700: 0.5, 701: 0.5}), (11, {701: 1}), (701, {10: 0.5, 11: 0.5})):
        found = inputs[ids_of(rows) == token]
        assert set(found.tolist()) == set(others)
        for other, share in others.items():
            assert abs((found == other).float().mean() - share) < 0.05
    # Of words of several pieces, none is swapped.
    for token in (12, 704):
        found = inputs[ids_of(rows) == token]
        assert near((found == MASK).float().mean(), 0.8, len(found))


def test_other_objectives_do_not_swap(packed, double):
    rows = features(packed, 50)
    plain = collate(double, rows)
    for name in ("align-mlm", "xlm"):
        batch = collate(double, rows, name=name, dictionary=HALF)
        assert torch.equal(batch["input_ids"], plain["input_ids"])
        assert torch.equal(batch["labels"], plain["labels"])


@pytest.mark.parametrize(
    "dictionary",
    [
        None,
        BilingualDictionary.from_pairs([(5, 605)], fraction=0),
        BilingualDictionary.from_pairs([((5, 6), 605)]),
    ],
)
def test_dict_mlm_without_a_pair_to_swap_is_refused(double, dictionary):
    with pytest.raises(ValueError, match="needs a dictionary with seen pairs of one piece each"):
        ObjectiveCollator(double, Objective.from_name("dict-mlm"), LENGTH, 0, dictionary)


# --- attention, positions, languages --------------------------------------------------------------


def test_a_plain_batch_has_a_plain_mask_and_no_positions(packed, double):
    rows = features(packed)
    batch = collate(double, rows)
    assert set(batch) == {"input_ids", "labels", "attention_mask", "token_type_ids"}
    assert torch.equal(batch["attention_mask"], (ids_of(rows) != PAD).long())
    assert {values.dtype for values in batch.values()} == {torch.int64}
    assert all(values.shape == (len(rows), LENGTH) for values in batch.values())


@pytest.mark.parametrize("length", [64, 65])
def test_positions_restart_at_a_pairs_second_half(tokenized, double, length):
    rows = features(pack(tokenized, double, max_seq_length=length, pair_rate=1.0))
    batch = collate(double, rows, name="xlm", length=length)
    run = list(range(length))
    restart = [*range(32), *range(length - 32)]
    for row, positions in zip(rows, batch["position_ids"].tolist(), strict=True):
        assert positions == (restart if row["language"] == PAIR else run)
    assert torch.equal(batch["attention_mask"], (ids_of(rows, length) != PAD).long())


def test_token_types_tell_the_languages_apart_by_option(paired, double):
    rows = features(paired)
    assert {int(row["language"]) for row in rows} == {ORIGINAL, DERIVED, PAIR}
    without = collate(double, rows, name="xlm", language_embeddings=False)
    assert not without["token_type_ids"].any()
    types = collate(double, rows, name="xlm", language_embeddings=True)["token_type_ids"]
    ids = ids_of(rows)
    for row, kind, tokens in zip(rows, types, ids, strict=True):
        expected = {ORIGINAL: [0] * 64, DERIVED: [1] * 64, PAIR: [0] * 32 + [1] * 32}
        real = tokens != PAD
        assert kind[real].tolist() == torch.tensor(expected[int(row["language"])])[real].tolist()
        assert not kind[~real].any()
    # What the tokens say themselves.
    ordinary = ~torch.isin(ids, SPECIAL)
    assert torch.equal(types[ordinary], (ids[ordinary] >= V).long())


def sentence_numbers(ids, half):
    """Per place the number of its sentence, from the start of its half; positions within it."""
    numbers, positions = [], []
    for place, token in enumerate(ids):
        if place in (0, half):
            number = position = 0
        elif ids[place - 1] == SEP:
            number, position = number + 1, 0
        else:
            position += 1
        numbers.append(None if token == PAD else number)
        positions.append(position)
    return numbers, positions


@pytest.mark.parametrize("corpus", ["isolated", "paired"])
def test_isolated_sentences_see_themselves_and_their_twins_alone(request, double, corpus):
    packed = request.getfixturevalue(corpus)
    kinds = np.array(packed["language"])
    picked = [
        int(i) for kind in (ORIGINAL, DERIVED, PAIR) for i in np.flatnonzero(kinds == kind)[-25:]
    ]
    rows = EpochDataset(packed).__getitems__(picked)
    batch = collate(double, rows, name="xlm", isolate_sentences=True)
    assert batch["attention_mask"].shape == (len(rows), 1, LENGTH, LENGTH)
    assert batch["attention_mask"].dtype == torch.bool
    ids = ids_of(rows)
    for row, tokens, mask, positions in zip(
        rows, ids.tolist(), batch["attention_mask"][:, 0], batch["position_ids"], strict=True
    ):
        half = LENGTH // 2 if row["language"] == PAIR else LENGTH
        numbers, expected = sentence_numbers(tokens, half)
        real = [number is not None for number in numbers]
        for place, number in enumerate(numbers):
            sees = real if number is None else [other == number for other in numbers]
            assert mask[place].tolist() == sees
        assert positions[torch.tensor(real)].tolist() == [
            position for position, keep in zip(expected, real, strict=True) if keep
        ]
    if corpus == "isolated":
        assert torch.equal(
            batch["position_ids"][ids == CLS], torch.zeros((ids == CLS).sum()).long()
        )
        assert (ids == CLS).sum() == (ids == SEP).sum()
    # Twins see each other, in both directions.
    mask, last = batch["attention_mask"][-1, 0], ids[-1].tolist()
    first, second = last.index(SEP), last.index(SEP, LENGTH // 2)
    assert mask[first, second]
    assert mask[second, first]
    assert not mask[first, first + 1]


def test_isolation_does_not_change_the_masks(packed, double):
    rows = features(packed, 50)
    plain, isolated = (collate(double, rows, isolate_sentences=i) for i in (False, True))
    assert torch.equal(plain["input_ids"], isolated["input_ids"])
    assert torch.equal(plain["labels"], isolated["labels"])


# --- data sets ------------------------------------------------------------------------------------


def test_rows_carry_their_number_and_the_epoch(packed):
    rows = EpochDataset(packed)
    assert len(rows) == len(packed)
    rows.set_epoch(4)
    for index in (0, 7, len(packed) - 1):
        row = rows[index]
        assert (row["example"], row["epoch"]) == (index, 4)
        assert row["input_ids"].tolist() == packed[index]["input_ids"].tolist()
        assert row["language"] == packed[index]["language"]


def test_a_streams_rows_are_numbered_and_shuffled_with_their_numbers(packed):
    stream = packed.to_iterable_dataset()
    plain = list(EpochStream(stream))
    assert [row["example"] for row in plain] == list(range(len(packed)))
    shuffled = EpochStream(stream, shuffle_buffer=100, seed=1)
    orders = []
    for epoch in (0, 0, 1):
        shuffled.set_epoch(epoch)
        rows = list(shuffled)
        orders.append([int(row["example"]) for row in rows])
        assert {row["epoch"] for row in rows} == {epoch}
        for row in rows[:50]:
            assert list(row["input_ids"]) == list(plain[int(row["example"])]["input_ids"])
    assert sorted(orders[0]) == list(range(len(packed)))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])


# --- the report -----------------------------------------------------------------------------------


def test_the_frequency_baseline_is_that_of_counting(tokenized, double):
    train = pack(tokenized.select(range(1500)), double, max_seq_length=LENGTH, pair_rate=0.5)
    held_out = tokenized.select(range(1500, 2000))
    evaluation = {
        name: pack(held_out, double, max_seq_length=LENGTH, languages={name: number})
        for number, name in enumerate(("original", "derived"))
    }
    report = packing_report(train, evaluation, double, LENGTH)
    reserved = set(reserved_ids(double))
    ordinary = [i for i in range(2 * V) if i not in reserved]
    for name, kind in (("original", ORIGINAL), ("derived", DERIVED)):
        counts = Counter(chain.from_iterable(unpacked(train, kind)))
        total = sum(counts[i] + 1 for i in ordinary)
        tokens = [
            i for i in chain.from_iterable(evaluation[name]["input_ids"]) if i not in reserved
        ]
        expected = -sum(math.log((counts[i] + 1) / total) for i in tokens) / len(tokens)
        assert report[f"eval_{name}_frequency_baseline_loss"] == pytest.approx(expected, rel=1e-9)
    assert set(report) == {
        "padding_share",
        "eval_original_frequency_baseline_loss",
        "eval_derived_frequency_baseline_loss",
    }


DICT = {"name": "dict-mlm"}

# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bert"}, "unknown objective 'bert': known are mlm, xlm, dict-mlm, align-mlm"),
        ({"tlm_rate": 0.5}, "--tlm_rate is an option of xlm, not of align-mlm"),
        ({"mlm_probability": 15}, "mlm_probability must lie between 0 and 1, not 15"),
        ({"mlm_probability": math.nan}, "mlm_probability must lie between 0 and 1, not nan"),
        ({"mlm_probability": 0}, "mlm_probability must be more than 0"),
        ({"name": "xlm", "tlm_rate": -0.1}, "tlm_rate must lie between 0 and 1, not -0.1"),
        (
            {"name": "dict-mlm", "swap_probability": 1.01},
            "swap_probability must lie between 0 and 1, not 1.01",
        ),
        (
            {"name": "dict-mlm", "dict_mlm_variant": "both"},
            "unknown dict_mlm_variant 'both': known are input, label",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Objective.from_name(**{"name": "align-mlm", **options})
