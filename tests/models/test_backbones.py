"""Every architecture: the losses, batches and checkpoints that BERT has, from its stock class."""

import copy
import json
import logging

import backbones
import gradient_driver
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.utils.data import default_collate

from hf_alignmlm import AutoModelForAlignedMaskedLM, BilingualDictionary
from hf_alignmlm.models.backbones import BACKBONES
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.models.vocabulary import embedding_matrix
from hf_alignmlm.objectives import Objective, ObjectiveCollator

WEIGHTS = "model.safetensors"
every = pytest.mark.parametrize("name", BACKBONES)


def aligned(name, **options):
    torch.manual_seed(0)
    model = AutoModelForAlignedMaskedLM.from_config(backbones.config(name, **options))
    # Wide enough for hidden states to differ.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.5)
    model.set_dictionary(BilingualDictionary(tuple(((i,), (i + 30,)) for i in range(5, 30))))
    return model


def stock(model):
    """The library's own masked LM with the same weights."""
    its_class = getattr(transformers, type(model).__name__.replace("Aligned", ""))
    twin = its_class(copy.deepcopy(model.config))
    twin.load_state_dict(model.state_dict())
    return twin


def batch(rows=3):
    inputs = default_collate(gradient_driver.make_rows(rows))
    inputs["attention_mask"][-1, 8:] = 0
    inputs["labels"][-1, 8:] = -100
    return inputs


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def difference(left, right):
    assert left.keys() == right.keys()
    parts = torch.stack([(left[name] - right[name]).norm() for name in left])
    return (parts.norm() / torch.stack([value.norm() for value in left.values()]).norm()).item()


# --- the loss -------------------------------------------------------------------------------------


@every
def test_the_masked_lm_part_and_its_gradient_are_those_of_the_stock_class(name):
    model = aligned(name, alignment_loss_weight=0.0).train()
    twin, inputs = stock(model).train(), batch()
    output, expected = model(**inputs), twin(**inputs)
    assert output.logits.shape == (inputs["labels"].ne(-100).sum(), backbones.VOCABULARY)
    torch.testing.assert_close(output.logits, expected.logits[inputs["labels"] != -100])
    assert output.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    output.loss.backward()
    expected.loss.backward()
    assert difference(gradients(twin), gradients(model)) < 1e-5


@every
def test_both_parts_are_minimised_and_a_dictionary_can_be_taken_away(name):
    model = aligned(name)
    output = model(**batch())
    table = embedding_matrix(model.get_input_embeddings()).detach()
    cosine = torch.nn.functional.cosine_similarity(table[5:30], table[35:60]).mean()
    assert output.alignment_loss.item() == pytest.approx(-cosine.item(), abs=1e-6)
    together = output.mlm_loss + 10 * output.alignment_loss
    assert output.loss.item() == pytest.approx(together.item(), rel=1e-5)
    model.set_dictionary(None)
    assert model(**batch()).alignment_loss is None


@every
def test_the_gradient_of_a_batch_cut_in_eight_is_that_of_the_whole(cut_batches, name):
    found = cut_batches[f"2,4,{name}"]
    assert found["processes"] == 2
    model = gradient_driver.make_model(name).train()
    output = model(**default_collate(gradient_driver.make_rows()))
    output.loss.backward()
    assert difference(gradients(model), found["gradients"]) < 1e-5
    for part in ("mlm_loss", "alignment_loss"):
        assert found["logged"][part] == pytest.approx(output[part].item(), rel=1e-4)


@every
def test_hooks_are_called_and_the_vocabulary_grows(tmp_path, name):
    model, calls = aligned(name), []
    model.resize_token_embeddings(64, mean_resizing=False)
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        module.register_forward_hook(lambda module, *_: calls.append(module))
    output = model.eval()(**batch())
    assert output.logits.shape[-1] == 64
    assert len(calls) == 2
    model.save_pretrained(tmp_path)
    again = AutoModelForAlignedMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**batch()).logits, output.logits)
    with pytest.raises(ValueError, match="ids from 5 to 59, outside the model's vocabulary of 50"):
        model.resize_token_embeddings(50)


# --- checkpoints ----------------------------------------------------------------------------------


@every
def test_stock_classes_load_the_checkpoint(tmp_path, name, caplog):
    model = aligned(name).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == name
    assert config["architectures"] == [type(model).__name__.replace("Aligned", "")]
    logging.getLogger("transformers").propagate = True
    twin, info = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    assert not caplog.messages
    encoder = transformers.AutoModel.from_pretrained(tmp_path).eval()
    inputs = batch()
    del inputs["labels"]
    states = model(**inputs, output_hidden_states=True).hidden_states
    assert torch.equal(twin(**inputs, output_hidden_states=True).hidden_states[-1], states[-1])
    assert torch.equal(encoder(**inputs).last_hidden_state, states[-1])


@every
def test_a_checkpoint_comes_back_of_its_class_with_dictionary_and_options(tmp_path, name):
    model = aligned(name, alignment_loss_weight=3.0).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForAlignedMaskedLM.from_pretrained(tmp_path, objective="xlm")
    assert type(again) is type(model) is BACKBONES[name]
    assert again.dictionary == model.dictionary
    assert (again.config.alignment_loss_weight, again.config.objective) == (3.0, "xlm")
    assert again(**batch()).loss.item() == pytest.approx(model(**batch()).loss.item(), rel=1e-6)


@every
def test_a_checkpoint_without_one_of_its_tensors_is_refused(tmp_path, name):
    model = aligned(name)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    modules = {key.rpartition(".")[0] for key in tensors if "layer" not in key}
    for module in modules:  # whole, so that half a head is among them
        rest = {key: value for key, value in tensors.items() if key.rpartition(".")[0] != module}
        save_file(rest, tmp_path / WEIGHTS, metadata={"format": "pt"})
        with pytest.raises(ValueError, match="tensors are missing"):
            AutoModelForAlignedMaskedLM.from_pretrained(tmp_path)


def test_an_architecture_that_is_not_known_is_refused(tmp_path):
    transformers.FNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"type 'fnet': known are bert, roberta.*deberta-v2"):
        AutoModelForAlignedMaskedLM.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"does not load, see its config.json"):
        AutoModelForAlignedMaskedLM.from_pretrained(tmp_path)


# --- the collator's batches -----------------------------------------------------------------------


def tokenizer(pad_token_id):
    """One word an id: [PAD] 0 or 1, [CLS] 2, [SEP] 3, [MASK] 4, then words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(5, 60))]
    if pad_token_id:
        names[:2] = names[1::-1]
    special = {
        f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
    }
    model = WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **special)


def framed(name, sentences, language=0, objective="mlm", **options):
    """The collator's batch of one packed row, its tokens as they were; padding is 0 or 1."""
    made = tokenizer(getattr(backbones.config(name), "pad_token_id", 0))
    collator = ObjectiveCollator(made, Objective.from_name(objective, **options), backbones.LENGTH)
    ids = [token for sentence in sentences for token in sentence]
    row = {"input_ids": ids, "language": language, "example": 0}
    inputs = collator([row])
    del inputs["labels"]
    inputs["input_ids"][0] = made.pad_token_id
    inputs["input_ids"][0, : len(ids)] = torch.tensor(ids)
    return inputs


def states(model, **inputs):
    with torch.no_grad():
        return model.eval()(**inputs, output_hidden_states=True).hidden_states[-1]


@every
@pytest.mark.parametrize("attention", ["as it comes", "eager", PLAIN_ATTENTION])
@settings(max_examples=4)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_an_isolated_sentence_has_the_states_that_the_stock_class_gives_it_alone(
    name, attention, lengths
):
    model = aligned(name)
    twin = stock(model)
    if attention != "as it comes":
        if attention == PLAIN_ATTENTION and not model._supports_sdpa:
            return
        model.set_attn_implementation(attention)
    sentences, place = [], 0
    for length in lengths:
        words = torch.randint(5, 60, (length,)).tolist()
        if place + length + 2 <= backbones.LENGTH:
            sentences.append([2, *words, 3])
            place += length + 2
    packed = states(model, **framed(name, sentences, isolate_sentences=True))[0]
    assert packed.isfinite().all()
    alone = [states(twin, input_ids=torch.tensor([s]))[0] for s in sentences]
    torch.testing.assert_close(packed[:place], torch.cat(alone), rtol=1e-4, atol=2e-5)


@every
def test_sentences_that_run_on_have_the_states_of_the_stock_class(name):
    model = aligned(name)
    model.set_attn_implementation(PLAIN_ATTENTION if model._supports_sdpa else "eager")
    inputs = framed(name, [[2, 7, 8, 3, 9, 10, 11]])
    names = ("input_ids", "attention_mask")
    expected = states(stock(model), **{name: inputs[name] for name in names})
    torch.testing.assert_close(states(model, **inputs)[:, :7], expected[:, :7])


@pytest.mark.parametrize("name", [n for n in BACKBONES if not n.startswith("deberta")])
def test_positions_of_the_second_half_start_anew(name):
    # Where all see all, the same token at the same position has the same state.
    window = {"local_attention": 2 * backbones.LENGTH} if name == "modernbert" else {}
    model = aligned(name, **window)
    pad = model.config.pad_token_id
    pair = [[2, 7, 8, 9, 3, pad]] * 2
    inputs = framed(name, pair, -1, "xlm", language_embeddings=False, isolate_sentences=False)
    assert inputs["position_ids"].tolist() == [[*range(6), *range(6)]]
    found = states(model, **inputs)[0]
    torch.testing.assert_close(found[:5], found[6:11], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes", "options", "message"),
    [
        ("roberta", {}, {"length": 13}, "max_seq_length 13 is more than the model's 12 positions"),
        ("bert", {}, {"length": 13}, "max_seq_length 13 is more than the model's 12 positions"),
        ("roberta", {}, {"language_embeddings": True}, "2 languages .* this roberta has 1: add"),
        ("distilbert", {}, {"language_embeddings": True}, "this distilbert has 0: add"),
        ("bert", {}, {"languages": 3, "language_embeddings": True}, "this bert has 2: add"),
        ("deberta-v2", {"conv_kernel_size": 3}, {"isolate_sentences": True}, "a convolution"),
        ("deberta-v2", {}, {"objective": "xlm", "language_embeddings": False}, "goes by distance"),
    ],
)
def test_what_an_architecture_cannot_do_is_refused(name, changes, options, message):
    length, languages = options.pop("length", 12), options.pop("languages", 2)
    objective = Objective.from_name(options.pop("objective", "mlm"), **options)
    with pytest.raises(ValueError, match=message):
        BACKBONES[name].check_batches(
            backbones.config(name, **changes), objective, length, languages
        )
