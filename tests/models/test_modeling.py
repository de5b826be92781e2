"""The model: each part of the loss is what the papers say, and the checkpoint is plain BERT."""

import copy
import json

import pytest
import tiny
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, Trainer
from transformers import TrainingArguments as StockArguments

from hf_alignmlm.data.dictionary import DICTIONARY_FILE, BilingualDictionary
from hf_alignmlm.models import kernels
from hf_alignmlm.models.alignment_loss import (
    ALIGNMENT_LOSSES,
    AlignmentLoss,
)
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.kernels import PLAIN_ATTENTION
from hf_alignmlm.models.modeling import AlignedMaskedLMOutput

SHAPE = tiny.SHAPE | tiny.NO_DROPOUT
SINGLE = tuple(((i,), (i + 30,)) for i in range(5, 30))
SEVERAL = (*SINGLE[:6], ((6, 7), (40,)), ((11,), (41, 42, 43)), ((9, 9, 10), (44, 44)))


def aligned(pairs=SINGLE, *, seed=0, **options):
    torch.manual_seed(seed)
    model = BertForAlignedMaskedLM(AlignedBertConfig(**SHAPE, **options))
    if pairs is not None:
        model.set_dictionary(BilingualDictionary(tuple(pairs)))
    return model


def batch(seed=0, rows=3, length=12):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 60, (rows, length), generator=generator)
    labels = torch.where(torch.rand(rows, length, generator=generator) < 0.3, ids, -100)
    labels[0, 1] = ids[0, 1]
    mask = torch.ones_like(ids)
    mask[-1, length // 2 :] = 0
    labels[-1, length // 2 :] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def formula(embeddings, pairs):
    """−(1/|D|) Σ cos(E_i, E_j), term by term in float64."""
    table = embeddings.detach().double()
    total = 0.0
    for original, derived in pairs:
        a, b = (sum(table[i] for i in word) / len(word) for word in (original, derived))
        total += float((a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt()))
    return -total / len(pairs)


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_close(left, right, tolerance=1e-5):
    """Parameter by parameter; some gradients are zero in theory, so noise is measured by all."""
    assert left.keys() == right.keys()
    floor = 1e-3 * torch.stack([value.norm() for value in left.values()]).norm()
    for name, value in left.items():
        difference = (value - right[name]).norm() / torch.maximum(value.norm(), floor)
        assert difference < tolerance, (name, difference)


# --- the alignment loss ---------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("pairs", [SINGLE, SEVERAL], ids=["one piece", "several pieces"])
def test_alignment_loss_is_the_formula_on_freshly_drawn_embeddings(pairs, scale):
    model = aligned(pairs)
    seen = set()
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.get_input_embeddings().weight.normal_(0, scale, generator=generator)
        expected = formula(model.get_input_embeddings().weight, pairs)
        assert model.compute_alignment_loss().item() == pytest.approx(expected, abs=1e-6)
        assert model(**batch()).alignment_loss.item() == pytest.approx(expected, abs=1e-6)
        seen.add(round(expected, 6))
    assert len(seen) == 8


@pytest.mark.parametrize("pairs", [SINGLE, SEVERAL], ids=["one piece", "several pieces"])
def test_alignment_gradient_is_that_of_the_formula(pairs):
    model = aligned(pairs, seed=3)
    model.compute_alignment_loss().backward()
    weight = model.get_input_embeddings().weight
    table = weight.detach().double().requires_grad_()
    words = [[table[list(word)].mean(0) for word in side] for side in zip(*pairs, strict=True)]
    left, right = map(torch.stack, words)
    cosines = (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1))
    (-cosines.mean()).backward()
    assert (weight.grad - table.grad).norm() / table.grad.norm() < 1e-5


@pytest.mark.parametrize("block", [1 << 18, 24 * 4])
@pytest.mark.parametrize(
    ("pairs", "runs"),
    [
        (SINGLE, [(5, 35, 25)]),
        (SINGLE[:7] + SINGLE[9:], [(5, 35, 7), (14, 44, 16)]),
        ((*SINGLE[:3], ((2,), (3,)), *SINGLE[3:]), [(5, 35, 3), (2, 3, 1), (8, 38, 22)]),
    ],
)
def test_pairs_that_run_on_align_as_pairs_looked_up(monkeypatch, pairs, runs, block):
    monkeypatch.setitem(kernels.BLOCK, "cpu", block)
    found = []
    for shortest in (1, 1000):
        monkeypatch.setattr(kernels, "SHORTEST_RUN", shortest)
        model = aligned(pairs)
        assert model.alignment_loss.runs == (runs if shortest == 1 else None)
        loss = model.compute_alignment_loss()
        loss.backward()
        found.append((loss.detach(), model.get_input_embeddings().weight.grad))
    torch.testing.assert_close(*found)


def test_alignment_loss_is_computed_in_fp32_under_bf16():
    model = aligned(SEVERAL, seed=5)
    weight = model.get_input_embeddings().weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch())
        assert output.logits.dtype == torch.bfloat16
    assert output.loss.dtype == output.alignment_loss.dtype == torch.float32
    assert output.alignment_loss.item() == pytest.approx(formula(weight, SEVERAL), abs=1e-6)
    plain = model(**batch())
    assert output.mlm_loss.item() == pytest.approx(plain.mlm_loss.item(), abs=0.05)
    # A model held in bf16 rounds its embeddings, and nothing after that.
    model.to(torch.bfloat16)
    assert model.compute_alignment_loss().item() == pytest.approx(
        formula(weight, SEVERAL), abs=1e-6
    )


def test_alignment_loss_lies_between_minus_one_and_one():
    for twin, expected in ((3, -1), (-1, 1)):
        model = aligned(SEVERAL[:3])
        weight = model.get_input_embeddings().weight
        with torch.no_grad():
            weight[30:] = twin * weight[:30]
        assert model.compute_alignment_loss().item() == pytest.approx(expected)


def test_only_seen_pairs_are_aligned():
    pairs = [((i,), (i + 30,)) for i in range(5, 30)]
    dictionary = BilingualDictionary.from_pairs(pairs, fraction=0.4, seed=1)
    model = aligned(None)
    model.set_dictionary(dictionary)
    expected = formula(model.get_input_embeddings().weight, dictionary.seen)
    assert model.compute_alignment_loss().item() == pytest.approx(expected, abs=1e-6)
    model.compute_alignment_loss().backward()
    touched = model.get_input_embeddings().weight.grad.abs().sum(1) > 0
    assert set(touched.nonzero().flatten().tolist()) == {
        i for pair in dictionary.seen for word in pair for i in word
    }


def test_another_alignment_loss_can_stand_beside_the_cosine(monkeypatch):
    class Distance(AlignmentLoss):
        def forward(self, embeddings):
            original, derived = self.pairs(embeddings)
            return (original - derived).square().mean()

    monkeypatch.setitem(ALIGNMENT_LOSSES, "distance", Distance)
    model = aligned(alignment_loss_type="distance")
    weight = model.get_input_embeddings().weight
    expected = (weight[5:30] - weight[35:60]).square().mean()
    assert model(**batch()).alignment_loss.item() == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(ValueError, match=r"unknown alignment_loss_type 'other'.*cosine"):
        aligned(alignment_loss_type="other")


# --- the parts together ---------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [10.0, 0.5, 3])
@pytest.mark.parametrize("training", [True, False])
def test_loss_is_the_sum_of_its_named_parts(weight, training):
    model = aligned(SEVERAL, alignment_loss_weight=weight).train(training)
    output = model(**batch())
    assert isinstance(output, AlignedMaskedLMOutput)
    together = output.mlm_loss + weight * output.alignment_loss
    assert output.loss.item() == pytest.approx(together.item(), rel=1e-6)
    assert output.loss.requires_grad
    assert not output.mlm_loss.requires_grad
    assert not output.alignment_loss.requires_grad


def test_masked_lm_loss_is_that_of_stock_bert():
    model = aligned()
    stock = BertForMaskedLM(BertConfig(**SHAPE))
    stock.load_state_dict(model.state_dict())
    for seed in range(3):
        expected = stock(**batch(seed)).loss.item()
        assert model.train()(**batch(seed)).mlm_loss.item() == pytest.approx(expected, rel=1e-5)
        assert model.eval()(**batch(seed)).mlm_loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_type_is_not_the_causal_one():
    # The library derives it from the class's name, and from this one's it derives the causal loss.
    assert aligned().loss_type == "ForMaskedLM"


@pytest.mark.parametrize(
    ("pairs", "weight"),
    [(None, 10.0), ((), 10.0), (SINGLE, 0.0)],
    ids=["no dictionary", "no seen pair", "weight 0"],
)
def test_without_alignment_the_loss_is_the_masked_lm_loss(pairs, weight):
    model = aligned(pairs, alignment_loss_weight=weight)
    output = model(**batch())
    assert output.alignment_loss is None
    assert output.loss.item() == output.mlm_loss.item()
    assert "alignment_loss" not in output


def test_a_dictionary_can_be_taken_away():
    model = aligned()
    assert model(**batch()).alignment_loss is not None
    model.set_dictionary(None)
    assert model(**batch()).alignment_loss is None


@pytest.mark.parametrize("training", [True, False])
def test_without_labels_there_are_logits_and_no_loss(training):
    model = aligned().train(training)
    inputs = batch()
    del inputs["labels"]
    output = model(**inputs)
    assert output.loss is output.mlm_loss is output.alignment_loss is None
    assert output.logits.shape == (3, 12, 60)


def test_a_batch_without_any_label_has_a_finite_loss():
    inputs = batch()
    inputs["labels"][:] = -100
    for model in (aligned().train(), aligned().eval()):
        output = model(**inputs)
        assert output.mlm_loss.item() == 0
        output.loss.backward()
        assert all(torch.isfinite(g).all() for g in gradients(model).values())


def test_tuples_have_the_logits_where_every_masked_lm_has_them():
    model = aligned().eval()
    inputs = batch()
    loss, logits, hidden, *parts = model(**inputs, return_dict=False, output_hidden_states=True)
    output = model(**inputs)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)
    assert len(hidden) == 3
    assert [p.item() for p in parts] == [output.mlm_loss.item(), output.alignment_loss.item()]
    del inputs["labels"]
    assert torch.equal(model(**inputs, return_dict=False)[0], logits)


def test_logits_where_there_is_a_label_only_give_the_same_loss_and_gradients():
    whole, sparse = aligned(SEVERAL), aligned(SEVERAL)
    inputs = batch()
    full = whole.train()(**inputs, sparse_logits=False)
    few = sparse.train()(**inputs)
    labelled = inputs["labels"] != -100
    assert full.logits.shape == (3, 12, 60)
    assert few.logits.shape == (labelled.sum(), 60)
    torch.testing.assert_close(few.logits, full.logits[labelled])
    assert few.loss.item() == pytest.approx(full.loss.item(), rel=1e-6)
    full.loss.backward()
    few.loss.backward()
    assert_close(gradients(whole), gradients(sparse))


def test_without_alignment_gradients_are_those_of_stock_bert():
    model = aligned(alignment_loss_weight=0.0).train()
    stock = BertForMaskedLM(BertConfig(**SHAPE)).train()
    stock.load_state_dict(model.state_dict())
    stock(**batch()).loss.backward()
    model(**batch()).loss.backward()
    assert_close(gradients(stock), gradients(model))


@pytest.mark.parametrize("pairs", [SINGLE, SEVERAL], ids=["one piece", "several pieces"])
def test_with_alignment_gradients_are_those_of_both_parts(pairs):
    model, stock = aligned(pairs).train(), BertForMaskedLM(BertConfig(**SHAPE)).train()
    stock.load_state_dict(model.state_dict())
    inputs = batch()
    inputs["input_ids"][0, :3] = 0  # padding that is attended to still gives its row no gradient
    model(**inputs).loss.backward()
    table = stock.get_input_embeddings().weight
    words = [[table[list(word)].mean(0) for word in side] for side in zip(*pairs, strict=True)]
    cosines = torch.nn.functional.cosine_similarity(*map(torch.stack, words), dim=1)
    (stock(**inputs).loss - 10.0 * cosines.mean()).backward()
    assert_close(gradients(stock), gradients(model))


def test_logits_that_are_not_kept_change_nothing_else():
    kept, dropped = aligned(SEVERAL).train(), aligned(SEVERAL).train()
    output = dropped(**batch(), keep_logits=False)
    assert output.logits is None
    kept(**batch()).loss.backward()
    output.loss.backward()
    assert_close(gradients(kept), gradients(dropped), tolerance=1e-7)


def test_evaluation_gives_all_logits_unless_told_otherwise():
    model = aligned().eval()
    inputs = batch()
    assert model(**inputs).logits.shape == (3, 12, 60)
    labelled = (inputs["labels"] != -100).sum()
    assert model(**inputs, sparse_logits=True).logits.shape == (labelled, 60)


@pytest.mark.parametrize("pairs", [SINGLE, None], ids=["aligned", "masked LM alone"])
def test_losses_of_the_parts_of_a_batch_add_up_to_that_of_the_whole(pairs):
    inputs = batch(rows=4)
    inputs["labels"][2] = -100
    inputs["labels"][1] = inputs["input_ids"][1]
    whole, parts = aligned(pairs), aligned(pairs)
    loss = whole(**inputs).loss
    loss.backward()
    labels = (inputs["labels"] != -100).sum()
    total = 0.0
    for row in range(4):
        piece = {name: values[row : row + 1] for name, values in inputs.items()}
        part = parts(**piece, num_items_in_batch=labels).loss
        part.backward()
        total += part.item()
    assert total == pytest.approx(loss.item(), rel=1e-5)
    assert_close(gradients(whole), gradients(parts))


def test_a_mask_of_four_dimensions_isolates_sentences():
    model = aligned().eval()
    ids = batch()["input_ids"][:1]
    mask = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    mask[..., :5, :5] = mask[..., 5:, 5:] = True
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = model(ids, attention_mask=mask, position_ids=positions).logits
    alone = torch.cat([model(ids[:, :5]).logits, model(ids[:, 5:]).logits], 1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["none", "all", "padding", "isolated"])
@pytest.mark.parametrize("autocast", [False, True])
def test_plain_attention_knows_every_mask(kind, autocast):
    model = aligned().eval()
    inputs = batch()
    del inputs["labels"]
    isolated = torch.zeros(3, 1, 12, 12, dtype=torch.bool)
    isolated[..., :5, :5] = isolated[..., 5:, 5:] = True
    ones = torch.ones_like(inputs["input_ids"])
    masks = {"none": None, "all": ones, "isolated": isolated}
    inputs["attention_mask"] = masks.get(kind, inputs["attention_mask"])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        fused = model(**inputs).logits.float()
        for name in ("eager", PLAIN_ATTENTION):
            model.set_attn_implementation(name)
            plain = model(**inputs).logits.float()
            torch.testing.assert_close(plain, fused, rtol=0, atol=2e-2 if autocast else 1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_scores_worked_out_again_give_the_same_gradients(monkeypatch, dropout):
    """Dropout's draws among them."""
    model, calls, gradients = aligned().train(), [], []
    model.set_attn_implementation(PLAIN_ATTENTION)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    attend = kernels.eager_attention_forward
    monkeypatch.setattr(
        kernels, "eager_attention_forward", lambda *a, **k: calls.append(a) or attend(*a, **k)
    )
    for kept in (kernels.SCORES_KEPT, 0):
        monkeypatch.setattr(kernels, "SCORES_KEPT", kept)
        torch.manual_seed(0)
        model.zero_grad()
        model(**batch()).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    layers = model.config.num_hidden_layers
    assert len(calls) == layers + 2 * layers
    torch.testing.assert_close(*gradients)


# --- any training loop ----------------------------------------------------------------------------


def test_the_parts_of_the_loss_are_no_predictions(tmp_path):
    rows = [{n: v[0] for n, v in batch(seed).items()} for seed in range(4)]
    arguments = StockArguments(tmp_path, use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = Trainer(aligned(), arguments, eval_dataset=rows)
    output = trainer.predict(rows)
    assert output.predictions.shape == (4, 12, 60)
    # The library computes no loss where `forward` names an input like "label" that is not there.
    assert trainer.label_names == ["labels"]
    assert "test_loss" in output.metrics


def test_the_librarys_own_trainer_trains_it(tmp_path):
    rows = [{n: v[0] for n, v in batch(seed).items()} for seed in range(4)]
    arguments = StockArguments(
        tmp_path, use_cpu=True, report_to="none", disable_tqdm=True, max_steps=3, save_strategy="no"
    )
    model = aligned()
    before = model.compute_alignment_loss().item()
    result = Trainer(model, arguments, train_dataset=rows).train()
    assert result.global_step == 3
    assert model.compute_alignment_loss().item() < before


# --- dictionaries and checkpoints -----------------------------------------------------------------


@pytest.mark.parametrize("pair", [((5,), (60,)), ((5, 99), (30,)), ((-1,), (30,))])
def test_a_dictionary_with_ids_outside_the_vocabulary_is_refused(pair):
    model = aligned()
    with pytest.raises(ValueError, match="outside the model's vocabulary of 60"):
        model.set_dictionary(BilingualDictionary((pair,)))
    assert len(model.dictionary) == len(SINGLE), "the old one stays"


def test_a_checkpoint_comes_back_with_its_dictionary(tmp_path):
    model = aligned(SEVERAL, alignment_loss_weight=4.0)
    model.set_dictionary(BilingualDictionary(SEVERAL, SINGLE[10:12], fraction=0.5, seed=7))
    model.save_pretrained(tmp_path)
    loaded, report = BertForAlignedMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert loaded.dictionary == model.dictionary
    assert loaded.config.alignment_loss_weight == 4.0
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded(**batch()).loss.item() == model.eval()(**batch()).loss.item()


def test_a_checkpoint_without_dictionary_has_none(tmp_path):
    aligned(None).save_pretrained(tmp_path)
    assert not (tmp_path / DICTIONARY_FILE).exists()
    assert BertForAlignedMaskedLM.from_pretrained(tmp_path).dictionary is None


def test_a_damaged_dictionary_is_named(tmp_path):
    aligned().save_pretrained(tmp_path)
    (tmp_path / DICTIONARY_FILE).write_text("{")
    with pytest.raises(ValueError, match=DICTIONARY_FILE):
        BertForAlignedMaskedLM.from_pretrained(tmp_path)


def test_weights_are_those_of_plain_bert(tmp_path):
    model = aligned(SEVERAL).eval()
    model.save_pretrained(tmp_path)
    stock, report = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(stock) is BertForMaskedLM
    assert not any(report.values()), report
    inputs = batch()
    del inputs["labels"]
    assert torch.equal(stock(**inputs).logits, model(**inputs).logits)


def test_a_plain_masked_lm_checkpoint_can_be_aligned(tmp_path):
    torch.manual_seed(1)
    stock = BertForMaskedLM(BertConfig(**SHAPE)).eval()
    stock.save_pretrained(tmp_path)
    model = BertForAlignedMaskedLM.from_pretrained(tmp_path)
    assert model.dictionary is None
    assert model.config.alignment_loss_weight == 10.0
    assert model.loss_type == "ForMaskedLM"
    assert model(**batch()).loss.item() == pytest.approx(stock(**batch()).loss.item(), rel=1e-6)
    model.set_dictionary(BilingualDictionary(SINGLE))
    assert model(**batch()).alignment_loss is not None


def test_the_dictionary_goes_with_a_copy_and_a_move():
    model = aligned(SEVERAL)
    expected = model(**batch()).alignment_loss.item()
    other = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    assert len(other.dictionary) == len(SEVERAL)
    assert copy.deepcopy(model)(**batch()).alignment_loss.item() == expected
    double = copy.deepcopy(model).double()
    assert double(**batch()).alignment_loss.item() == pytest.approx(expected, abs=1e-6)


# --- stock configurations, names that stock tools know --------------------------------------------


def test_a_stock_configuration_serves_with_the_papers_defaults(tmp_path):
    model = BertForAlignedMaskedLM(BertConfig(**SHAPE))
    model.set_dictionary(BilingualDictionary(SINGLE))
    assert not hasattr(model.config, "alignment_loss_weight")
    output = model(**batch())
    expected = output.mlm_loss + 10 * output.alignment_loss
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    model.save_pretrained(tmp_path)
    again = BertForAlignedMaskedLM.from_pretrained(tmp_path, config=BertConfig(**SHAPE))
    assert again.dictionary == model.dictionary
    assert again(**batch()).loss.item() == pytest.approx(output.loss.item(), rel=1e-5)


def test_the_architecture_is_one_that_stock_tools_know(tmp_path):
    aligned().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"]
    assert not [name for name in config if "attn" in name]


def test_a_vocabulary_too_small_for_the_dictionary_is_refused():
    model = aligned()
    with pytest.raises(ValueError, match="ids from 5 to 59, outside the model's vocabulary of 50"):
        model.resize_token_embeddings(50)
    assert model.config.vocab_size == 60
    model.resize_token_embeddings(64)
    assert model(**batch()).loss.isfinite()
