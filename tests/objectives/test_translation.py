"""`TranslationCollator`: a pair a row, as pre-training has it, whatever the row's form."""

import pickle
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments, set_seed

from hf_alignmlm import Objective, ObjectiveCollator, TranslationCollator, pack
from hf_alignmlm.data.packing import EpochDataset
from hf_alignmlm.data.parallel import tokenize_pairs

PAIRS = [
    {"en": "the old cat saw a dog .", "fr": "a dog saw"},
    {"en": "who ?", "fr": "the cat , the dog and this old man saw it ."},
    {"en": "a [MASK] cat", "fr": "the man"},
]

PAGE = Path(__file__).parent.parent.parent / "docs" / "parallel.md"
SHAPE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 64, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def rows(tokenizer):
    return tokenize_pairs(Dataset.from_list(PAIRS), tokenizer, ("en", "fr"))


@pytest.mark.parametrize("embeddings", [True, False])
def test_a_row_of_each_form_is_masked_as_in_pre_training(tokenizer, rows, embeddings):
    """Of one pair a sequence: the packer's rows, the collator's draws, cut to the longest side."""
    objective = Objective.from_name("xlm", language_embeddings=embeddings)
    features = []
    for number in range(len(rows)):
        one = pack(rows.select([number]), tokenizer, max_seq_length=64, languages={}, pair_rate=1.0)
        features.append(EpochDataset(one)[0] | {"example": number, "epoch": 2})
    whole = ObjectiveCollator(tokenizer, objective, 64, 5)(features)
    width = int(whole["attention_mask"].view(3, 2, 32).sum(2).max())
    places = [*range(width), *range(32, 32 + width)]
    assert width < 32
    numbers = [{"example": number, "epoch": 2} for number in range(3)]
    for names, forms in (
        (("en", "fr"), PAIRS),
        (("en", "fr"), [{"translation": pair} for pair in PAIRS]),
        (("source", "target"), list(rows)),
    ):
        collator = TranslationCollator(tokenizer, objective, 64, 5, names=names)
        batch = collator([row | number for row, number in zip(forms, numbers, strict=True)])
        assert batch.keys() == whole.keys()
        for name, values in batch.items():
            assert torch.equal(values, whole[name][:, places]), name
    # [MASK] in a text is text: all but the chosen positions hold no mask.
    masks = (batch["input_ids"] == tokenizer.mask_token_id) & (batch["labels"] == -100)
    assert not masks.any()
    starts = batch["position_ids"][0].tolist()
    assert starts == [*range(width), *range(width)]
    assert set(batch["token_type_ids"][:, width:].unique().tolist()) == {0, int(embeddings)}
    assert not batch["token_type_ids"][:, :width].any()


def test_a_rows_mask_does_not_depend_on_the_other_rows(tokenizer):
    collator = TranslationCollator(tokenizer, names=("en", "fr"))
    numbered = [{**pair, "example": n, "language": -2} for n, pair in enumerate(PAIRS)]
    together = collator(numbered)
    for number, row in enumerate(numbered):
        alone = collator([row])
        width = alone["input_ids"].shape[1] // 2
        start = together["input_ids"].shape[1] // 2
        for name, values in alone.items():
            beside = together[name][number]
            assert torch.equal(values[0], torch.cat([beside[:width], beside[start:][:width]]))
        assert set(alone["token_type_ids"][0, width:].tolist()) <= {0, 2}


def test_rows_without_a_number_are_drawn_anew_and_by_the_librarys_seed(tokenizer):
    collator = pickle.loads(pickle.dumps(TranslationCollator(tokenizer, names=("en", "fr"))))

    def labels():
        return [collator(PAIRS * 4)["labels"].tolist() for _ in range(2)]

    set_seed(3)
    first = labels()
    assert first[0] != first[1]
    set_seed(3)
    assert labels() == first
    loader = DataLoader(PAIRS * 4, 4, num_workers=1, collate_fn=collator)
    assert len(list(loader)) == 3


def test_a_longer_pair_is_cut_and_an_empty_one_refused(tokenizer):
    collator = TranslationCollator(tokenizer, max_seq_length=16, names=("en", "fr"))
    batch = collator([{"en": "the cat saw a dog " * 8, "fr": "a man " * 10}])
    assert batch["attention_mask"].tolist() == [[1] * 8 + [1] * 5 + [0] * 3]
    for row in ({"en": "a"}, {"en": "a", "de": "b"}, {"translation": {"en": "a"}}):
        with pytest.raises(ValueError, match="row 2 of a batch: a text of en and fr is wanted"):
            collator([PAIRS[0], row])
    for row in ({"en": "a", "fr": ""}, {"en": None, "fr": "a"}, {"translation": None}):
        with pytest.raises(ValueError, match="row 1 of a batch has an empty side"):
            collator([row])
    with pytest.raises(ValueError, match="max_seq_length must be at least 8, not 7"):
        TranslationCollator(tokenizer, max_seq_length=7)


def test_the_librarys_trainer_learns_from_it(tokenizer, tmp_path):
    config = BertConfig(vocab_size=len(tokenizer), **SHAPE)
    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    trainer = Trainer(
        BertForMaskedLM(config),
        TrainingArguments(
            str(tmp_path), max_steps=40, learning_rate=0.01, remove_unused_columns=False, **options
        ),
        data_collator=TranslationCollator(tokenizer, max_seq_length=64, names=("en", "fr")),
        train_dataset=Dataset.from_list([{"translation": pair} for pair in PAIRS] * 8),
        eval_dataset=Dataset.from_list([{"translation": pair} for pair in PAIRS] * 8),
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 1


def test_the_documentations_script_trains(tokenizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in (BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), **SHAPE)), tokenizer):
        part.save_pretrained("runs/align-mlm")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {"__name__": "__main__"}
    exec(compile(code, PAGE.name, "exec"), names)
    assert names["trainer"].state.global_step == 2
