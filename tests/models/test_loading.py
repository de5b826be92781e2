"""What does not load whole is refused in one line that names the checkpoint."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import SHAPE
from transformers import AutoModelForTokenClassification, BertConfig

from hf_alignmlm.data.dictionary import DICTIONARY_FILE, BilingualDictionary
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM
from hf_alignmlm.models.loading import load_whole

DISTILBERT = {"vocab_size": 60, "dim": 24, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
WEIGHTS, CONFIG = "model.safetensors", "config.json"
QUERY = "bert.encoder.layer.0.attention.self.query.weight"
EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
HEAD = "cls.predictions.transform.dense.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    model = BertForAlignedMaskedLM(BertConfig(**SHAPE))
    model.set_dictionary(BilingualDictionary((((5,), (35,)),)))
    model.save_pretrained(folder)
    return folder


def classifier(folder):
    return load_whole(AutoModelForTokenClassification, folder, num_labels=5)


def save(folder, name, **shape):
    config = getattr(transformers, f"{name}Config")
    kind = getattr(transformers, f"{name}ForMaskedLM")
    kind(config(**(shape or SHAPE))).save_pretrained(folder)


def without(*names):
    def change(folder):
        tensors = load_file(folder / WEIGHTS)
        kept = {name: value for name, value in tensors.items() if name not in names}
        save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})

    return change


def written(name, text):
    return lambda folder: (folder / name).write_text(text)


def configured(**changes):
    def change(folder):
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | changes))

    return change


def cut(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def pickled(folder):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


# What befalls a checkpoint, what the message says beside its name, and whether a classifier, too,
# must refuse it.
DAMAGES = {
    "DistilBERT": (lambda folder: save(folder, "DistilBert", **DISTILBERT), EMBEDDINGS[:15], False),
    "RoBERTa": (lambda folder: save(folder, "Roberta"), "no whole checkpoint of Bert", False),
    "ELECTRA": (lambda folder: save(folder, "Electra"), "no whole checkpoint of Bert", False),
    "no tensor fits": (
        lambda folder: save_file({"x": torch.zeros(2)}, folder / WEIGHTS, {"format": "pt"}),
        "37 tensors are missing",
        True,
    ),
    "a weight is missing": (without(QUERY), QUERY, True),
    "the embeddings are missing": (without(EMBEDDINGS), EMBEDDINGS, True),
    "half a head is missing": (without(HEAD), HEAD, False),
    "weights cut": (cut, WEIGHTS, True),
    "weights empty": (written(WEIGHTS, ""), WEIGHTS, True),
    "weights no weights": (written(WEIGHTS, "hello" * 99), WEIGHTS, True),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"no file named {WEIGHTS}", True),
    "a pickle": (pickled, f"no file named {WEIGHTS}", True),
    "no json": (written(CONFIG, "nope"), CONFIG, True),
    "a list": (written(CONFIG, "[]"), CONFIG, True),
    "null": (written(CONFIG, "null"), CONFIG, True),
    "an empty object": (written(CONFIG, "{}"), "", True),
    "a text for a number": (configured(hidden_size="a lot"), CONFIG, True),
    "a wrong width": (configured(hidden_size=48), "of another shape", True),
    "a wrong vocabulary": (configured(vocab_size=61), EMBEDDINGS, True),
    "a negative vocabulary": (configured(vocab_size=-1), CONFIG, True),
    "heads that do not divide": (configured(num_attention_heads=5), CONFIG, True),
    "no heads": (configured(num_attention_heads=0), CONFIG, True),
    "a layer more": (configured(num_hidden_layers=3), "16 tensors are missing", True),
    "a layer less": (configured(num_hidden_layers=1), "16 tensors are missing", True),
    "an unknown activation": (configured(hidden_act="foo"), CONFIG, True),
    "an unknown type": (configured(dtype="float99"), CONFIG, True),
    "a dictionary cut": (written(DICTIONARY_FILE, "{"), DICTIONARY_FILE, False),
    "an unknown loss": (configured(alignment_loss_type="foo"), "alignment_loss_type 'foo'", False),
    "a dictionary of another vocabulary": (
        written(
            DICTIONARY_FILE,
            '{"version": 1, "fraction": 1, "seed": 0, "seen": [[[5], [3000]]], "heldout": []}',
        ),
        "the dictionary has ids from 5 to 3000",
        False,
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, whole, kind):
    change, message, for_all = DAMAGES[kind]
    folder = tmp_path / "it"
    shutil.copytree(whole, folder)
    change(folder)
    for load in (BertForAlignedMaskedLM.from_pretrained, classifier)[: 1 + for_all]:
        with pytest.raises((ValueError, OSError)) as error:
            load(folder)
        line = " ".join(str(error.value).split())
        assert str(folder) in line
        assert message in line


@pytest.mark.parametrize(
    "name",
    ["BertModel", "BertForPreTraining", "BertForTokenClassification", "BertForMaskedLM"],
)
def test_a_new_head_is_fine(tmp_path, name):
    torch.manual_seed(0)
    stock = getattr(transformers, name)(BertConfig(**SHAPE, num_labels=3))
    stock.save_pretrained(tmp_path)
    embeddings = stock.get_input_embeddings().weight
    for model in (BertForAlignedMaskedLM.from_pretrained(tmp_path), classifier(tmp_path)):
        assert torch.equal(model.get_input_embeddings().weight, embeddings)
    assert classifier(tmp_path).num_labels == 5


@pytest.mark.parametrize(("name", "shape"), [("DistilBert", DISTILBERT), ("Roberta", SHAPE)])
def test_any_encoder_that_loads_whole_takes_a_classifier(tmp_path, name, shape):
    save(tmp_path, name, **shape)
    assert type(classifier(tmp_path)).__name__ == f"{name}ForTokenClassification"
