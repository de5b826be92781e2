"""The fast paths: equal to their plain twins; they step aside where they would skip a module."""

from functools import partial

import pytest
import tiny
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BertConfig, BertForTokenClassification

from hf_alignmlm.data.dictionary import BilingualDictionary
from hf_alignmlm.models import kernels
from hf_alignmlm.models.backbones import BertForAlignedMaskedLM
from hf_alignmlm.models.configuration import AlignedBertConfig
from hf_alignmlm.models.vocabulary import embedding_matrix
from hf_alignmlm.trainer import AlignMLMTrainer, AlignMLMTrainingArguments

SHAPE = tiny.SHAPE | tiny.NO_DROPOUT
PAIRS = tuple(((i,), (i + 30,)) for i in range(5, 30))


def make(config=None):
    torch.manual_seed(0)
    model = BertForAlignedMaskedLM(config or AlignedBertConfig(**SHAPE))
    model.set_dictionary(BilingualDictionary(PAIRS))
    return model


def batch(rows=3, length=12):
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(1))
    labels = torch.where(torch.arange(length) % 3 == 1, ids, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def losses_and_gradients(model):
    model.zero_grad()
    output = model.train()(**batch())
    output.loss.backward()
    return output.loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}


# --- equal to the plain twins ---------------------------------------------------------------------


def test_the_fast_path_is_the_default_and_equals_the_plain_one(monkeypatch):
    model = make()
    assert kernels.may_tie(model)
    fast = losses_and_gradients(model)
    monkeypatch.setattr(kernels, "may_tie", lambda model: False)
    plain = losses_and_gradients(model)
    torch.testing.assert_close(fast, plain)


def test_cross_entropy_equals_its_twin(monkeypatch):
    monkeypatch.setitem(kernels.BLOCK, "cpu", 60 * 7)
    results = []
    for function in (kernels.cross_entropy, partial(F.cross_entropy, reduction="sum")):
        logits = torch.randn(40, 60, generator=torch.Generator().manual_seed(0)).requires_grad_()
        labels = torch.where(torch.arange(40) % 5 == 0, -100, torch.arange(40))
        loss = function(logits, labels)
        (3 * loss).backward()
        results.append((loss.detach(), logits.grad))
    torch.testing.assert_close(*results)


def plain_tied_embeddings(weight, ids, dtype, rows):
    cosines = F.cosine_similarity(weight[rows[0]].float(), weight[rows[1]].float())
    return F.embedding(ids, weight), weight.to(dtype), -cosines.mean()


def test_tied_embeddings_equal_their_twin():
    rows = torch.tensor([[1, 2, 3, 9], [11, 12, 13, 4]])
    ids = torch.tensor([[1, 5, 5], [0, 2, 19]])
    results = []
    for function in (kernels.tied_embeddings, plain_tied_embeddings):
        weight = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
        values = function(weight, ids, torch.float32, rows=rows)
        sum((k + 1) * value.sin().sum() for k, value in enumerate(values)).backward()
        results.append((*[value.detach() for value in values], weight.grad))
    torch.testing.assert_close(*results)


# --- out of the way -------------------------------------------------------------------------------

MODULES = {
    "embedding": lambda model: model.get_input_embeddings(),
    "decoder": lambda model: model.cls.predictions.decoder,
    "head": lambda model: model.cls.predictions,
    "cls": lambda model: model.cls,
}


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward"])
@pytest.mark.parametrize("name", MODULES)
def test_hooks_are_called(name, kind):
    model, calls = make(), []
    module = MODULES[name](model)
    handle = getattr(module, f"register_{kind}_hook")(lambda *_: calls.append(name))
    loss, _ = losses_and_gradients(model)
    assert calls
    handle.remove()
    assert kernels.may_tie(model)
    assert loss == pytest.approx(losses_and_gradients(model)[0].item(), rel=1e-5)


def train(tmp_path, model, **options):
    arguments = {"max_steps": 2, "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    arguments |= {"use_cpu": True, "disable_tqdm": True, "report_to": "none"} | options
    rows = [{name: value[i] for name, value in batch(8).items()} for i in range(8)]
    trainer = AlignMLMTrainer(
        model,
        AlignMLMTrainingArguments(output_dir=str(tmp_path), **arguments),
        train_dataset=rows,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "mlm_loss" in entry]


def test_neftune_noise_reaches_the_loss(tmp_path):
    assert train(tmp_path, make()) == train(tmp_path, make())
    assert train(tmp_path, make()) != train(tmp_path, make(), neftune_noise_alpha=5.0)


def test_gradients_of_the_inputs_can_be_asked_for():
    model = make()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.enable_input_require_grads()
    assert model.train()(**batch()).loss.requires_grad


def test_parametrized_embeddings_are_used_as_they_are():
    model = make()
    nn.utils.parametrize.register_parametrization(
        model.get_input_embeddings(), "weight", nn.Hardtanh(-0.01, 0.01)
    )
    assert not kernels.may_tie(model)
    assert model(**batch()).alignment_loss == model.compute_alignment_loss()


def test_untied_weights_stay_apart():
    model = make()
    model.cls.predictions.decoder.weight = nn.Parameter(torch.zeros(60, 24))
    model(**batch()).mlm_loss.item()
    assert not kernels.may_tie(model)
    logits = model.eval()(**batch()).logits
    torch.testing.assert_close(logits, model.cls.predictions.decoder.bias.expand_as(logits))


def test_offloaded_weights_give_the_same_loss():
    from accelerate import cpu_offload

    model = make().eval()
    expected = model(**batch())
    cpu_offload(model, execution_device=torch.device("cpu"))
    assert model.get_input_embeddings().weight.device.type == "meta"
    with torch.no_grad():
        offloaded = model(**batch())
    for name in ("loss", "mlm_loss", "alignment_loss"):
        torch.testing.assert_close(offloaded[name], expected[name].detach())
    with torch.no_grad():
        assert embedding_matrix(model.get_input_embeddings()).shape == (60, 24)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft's own
@pytest.mark.parametrize("target", ["word_embeddings", "decoder"])
def test_adapters_train_what_they_say(tmp_path, target):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = peft.get_peft_model(make(), peft.LoraConfig(r=2, target_modules=[target]))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(tmp_path, model, learning_rate=0.1)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all("lora" in name and target in name for name in changed)


# --- attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa", kernels.PLAIN_ATTENTION])
@pytest.mark.parametrize("whole", [True, False], ids=["model", "model.bert"])
def test_what_is_masked_changes_nothing(attention, whole):
    model = make().eval()
    model.set_attn_implementation(attention)
    ids = batch()["input_ids"]
    other = ids.clone()
    other[:, 8:] = 7
    mask = (torch.arange(12) < 8).long().expand_as(ids)

    def states(ids, mask):
        output = model(ids, attention_mask=mask) if whole else model.bert(ids, attention_mask=mask)
        return output[0][:, :8]

    torch.testing.assert_close(states(ids, mask), states(other, mask))
    assert not torch.allclose(states(ids, None), states(other, None), atol=1e-4)
    if attention != "eager" or whole:
        square = mask.bool()[:, None, None].expand(-1, 1, 12, -1)
        torch.testing.assert_close(states(ids, square), states(ids, mask))


def test_a_stock_model_with_the_trainers_attention_is_masked():
    model = BertForTokenClassification(BertConfig(**SHAPE)).eval()
    model.set_attn_implementation(kernels.PLAIN_ATTENTION)
    ids = batch()["input_ids"]
    mask = (torch.arange(12) < 8).long().expand_as(ids)
    other = torch.where(mask.bool(), ids, 9)
    left, right = (model(x, attention_mask=mask).logits[:, :8] for x in (ids, other))
    torch.testing.assert_close(left, right)
