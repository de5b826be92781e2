"""The configuration: plain BERT's, with typed fields of ours that survive a save and a load."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, BertConfig

from hf_alignmlm.models.configuration import AlignedBertConfig

FIELDS = {
    "alignment_loss_weight": 2.5,
    "alignment_loss_type": "cosine",
    "alignment_pairs_per_step": None,
    "alignment_word_weights": "uniform",
    "language_embeddings": True,
    "objective": "xlm",
}


def test_defaults_are_those_of_the_paper():
    config = AlignedBertConfig()
    assert config.alignment_loss_weight == 10.0
    assert config.alignment_loss_type == "cosine"
    assert config.language_embeddings is False
    assert config.objective is None


def test_fields_survive_a_save_and_a_load(tmp_path):
    AlignedBertConfig(hidden_size=24, **FIELDS).save_pretrained(tmp_path)
    loaded = AlignedBertConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in FIELDS} == FIELDS
    assert loaded.hidden_size == 24


def test_the_file_is_one_of_plain_bert(tmp_path):
    AlignedBertConfig(**FIELDS).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "bert"
    assert "auto_map" not in saved
    assert "keys_to_ignore_at_inference" not in saved
    stock = AutoConfig.from_pretrained(tmp_path)
    assert type(stock) is BertConfig
    assert stock.alignment_loss_weight == FIELDS["alignment_loss_weight"]


def test_a_plain_bert_configuration_becomes_ours(tmp_path):
    BertConfig(hidden_size=24).save_pretrained(tmp_path)
    config = AlignedBertConfig.from_pretrained(tmp_path, alignment_loss_weight=3)
    assert config.hidden_size == 24
    assert config.alignment_loss_weight == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [("alignment_loss_weight", "ten"), ("language_embeddings", "yes"), ("objective", 3)],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        AlignedBertConfig(**{name: value})
