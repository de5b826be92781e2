"""Retrieval: means of hidden states against a slow count, and a model whose languages are one."""

import json

import pytest
import torch
from refusals import refused
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

from hf_alignmlm import cli, retrieval_scores, sentence_states
from hf_alignmlm.languages.natural import NaturalLanguages

SHAPE = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 32, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def texts(embedded):
    """Sentences, the longest of 30 words."""
    return [" ".join(s.words) for s in embedded[:60]] + [" ".join(embedded[0].words * 3)]


@pytest.fixture(scope="module")
def model(doubled):
    """A BERT that does not tell a word from its twin."""
    torch.manual_seed(0)
    made = BertForMaskedLM(BertConfig(vocab_size=len(doubled[0]), **SHAPE)).eval()
    rows = made.get_input_embeddings().weight.data
    rows[len(rows) // 2 :] = rows[: len(rows) // 2]
    return made


def test_states_are_the_means_of_a_texts_own_tokens(model, doubled, texts, monkeypatch):
    monkeypatch.setattr("hf_alignmlm.retrieval.BATCH_TOKENS", 300)
    found = sentence_states(model.bert, doubled[0], texts)
    assert found.shape == (3, len(texts), 24)
    for place in (0, 7, len(texts) - 1):
        ids = doubled[0](texts[place], return_tensors="pt", truncation=True, max_length=64)
        states = model.bert(**ids, output_hidden_states=True).hidden_states
        for layer, state in enumerate(states):
            assert torch.allclose(found[layer, place], state[0, 1:-1].mean(0), atol=1e-5)
    typed = sentence_states(model.bert, doubled[0], texts, token_type=1)
    assert not torch.allclose(typed, found, atol=1e-3)


def test_the_twins_of_one_embedding_find_each_other_and_random_words_do_not(model, doubled, texts):
    pairs = [(text, doubled[1].spell(text)) for text in texts]
    # Twice the same sentence: its twin is right for both.
    rows = retrieval_scores(model.bert, doubled[0], [*pairs, pairs[3]])
    assert [row["p1"] for row in rows] == [row["backward_p1"] for row in rows] == [100.0] * 3
    assert rows[0].keys() >= {"p5", "mrr", "csls_p1", "backward_csls_p1", "cosine_true"}
    assert not [name for name in rows[0] if "seen" in name or "heldout" in name]
    shuffled = [(a, b) for (a, _), (_, b) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]
    assert all(row["p1"] < 10 for row in retrieval_scores(model.bert, doubled[0], shuffled))


@pytest.fixture
def work(tmp_path, monkeypatch, model, doubled, texts):
    """A folder with a checkpoint and two files, current."""
    monkeypatch.chdir(tmp_path)
    for part in (model, doubled[0]):
        part.save_pretrained("checkpoint")
    lines = "".join(f"{text}\t{doubled[1].spell(text)}\n" for text in texts)
    (tmp_path / "test.tsv").write_text(lines, encoding="utf-8")
    return tmp_path


def test_the_command_prints_a_line_a_layer_and_writes_json(work, capsys, texts):
    file = "--parallel_file en-fr=test.tsv hi-en=test.tsv"
    cli.main(["retrieval", "checkpoint", *file.split(), "--max_samples", "50"])
    printed = capsys.readouterr().out
    assert "checkpoint: 50 pairs of sentences" in printed
    line = "layer 2: {0}→{1} 100.0, {1}→{0} 100.0; by CSLS 100.0, 100.0"
    for pair in (("en", "fr"), ("hi", "en")):
        assert line.format(*pair) in printed
    written = json.loads((work / "retrieval.json").read_text(encoding="utf-8"))
    assert written["sentences"] == {"en-fr": 50, "hi-en": 50}
    assert [len(layers) for layers in written["layers"].values()] == [3, 3]
    assert written["layers"]["en-fr"][2]["p1"] == 100.0


def test_another_architecture_and_languages_that_have_types(work, model, doubled, capsys):
    shape = {"dim": 24, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    config = DistilBertConfig(vocab_size=len(doubled[0]), max_position_embeddings=64, **shape)
    for part in (DistilBertForMaskedLM(config), doubled[0]):
        part.save_pretrained("distil")
    cli.main(["retrieval", "distil", "--parallel_file", "en-fr=test.tsv", "--output", "a.json"])
    assert "layer 1:" in capsys.readouterr().out
    model.config.language_embeddings = True
    try:
        model.save_pretrained("checkpoint")
    finally:
        del model.config.language_embeddings
    command = ["retrieval", "checkpoint", "--parallel_file", "en-fr=test.tsv"]
    for names, message in (((), "no language.json"), (("en", "hi"), "none of fr")):
        if names:
            NaturalLanguages(names).save_pretrained("checkpoint")
        assert message in refused(capsys, cli.main, command)
    NaturalLanguages(("en", "fr")).save_pretrained("checkpoint")
    cli.main(command)
    layers = json.loads((work / "retrieval.json").read_text(encoding="utf-8"))["layers"]["en-fr"]
    # The types part the twins: their cosine is no longer 1.
    assert layers[0]["cosine_true"] < 0.999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nowhere --parallel_file en-fr=test.tsv", "nowhere"),
        ("checkpoint --parallel_file test.tsv", "test.tsv names no language, but is to"),
        ("checkpoint --parallel_file en-fr=none.tsv", "none.tsv: no such file"),
        ("checkpoint --parallel_file en-fr=test.tsv --max_samples 0", "must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_is_one_line(work, capsys, words, message):
    assert message in refused(capsys, cli.main, ["retrieval", *words.split()])
    assert not (work / "retrieval.json").exists()
