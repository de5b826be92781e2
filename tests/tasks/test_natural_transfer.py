"""Tasks in natural languages: each has files of its own, and scores of its own."""

import json
import random
from itertools import islice
from pathlib import Path

import pytest
import torch
from refusals import refused
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from hf_alignmlm.files import read_json, write_json
from hf_alignmlm.hub.cards import model_card, without_folders
from hf_alignmlm.languages.natural import NaturalLanguages
from hf_alignmlm.report import cells_of, report
from hf_alignmlm.results import read_results
from hf_alignmlm.tasks import TASKS, finetuning
from hf_alignmlm.tasks.base import InputForm
from hf_alignmlm.tasks.finetuning.inputs import encode, load_rows, load_vocabulary
from hf_alignmlm.tasks.finetuning.options import check

FAST = ["--use_cpu", "--num_train_epochs", "1", "--disable_tqdm", "true", "--report_to", "none"]
SHAPE = {
    **{"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"intermediate_size": 64, "max_position_embeddings": 32},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(folder, tokenizer, languages=(), *, kind=(BertConfig, BertForMaskedLM), **shape):
    """A checkpoint as a pre-training leaves it, with or without the names of its languages."""
    config = kind[0](vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    config.update(SHAPE | shape)
    torch.manual_seed(0)
    kind[1](config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if languages:
        NaturalLanguages(languages).save_pretrained(folder)
        results = {"objective": "align-mlm", "seed": 3, "train_steps": 5, "alignment_p1": 40.0}
        results |= {"language": "-".join(languages), "languages": languages}
        results |= {f"eval_{name}_perplexity": 7.5 for name in languages}
        more = {f"alignment_{languages[0]}-{name}_p1": 30.0 for name in languages[1:]}
        write_json(folder / "all_results.json", results | (more if len(more) > 1 else {}))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    return save(tmp_path_factory.mktemp("runs") / "en-fr", tokenizer, ("en", "fr"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of parts of speech and of inference in three languages, 30 different rows each."""
    folder = tmp_path_factory.mktemp("rows")
    for task in ("pos", "nli"):
        rows = TASKS[task].embedded("train")
        for name in ("en", "fr", "hi"):
            for split in ("train", "test"):
                lines = (json.dumps(row) + "\n" for row in islice(rows, 30))
                (folder / f"{task}-{name}-{split}.jsonl").write_text("".join(lines))
    return folder


def arguments(checkpoint, output, files, task="pos", train=("en",), test=("en",), **more):
    argv = ["--model_name_or_path", str(checkpoint), "--output_dir", str(output), *FAST]
    for split, names in (("train", train), ("test", test)):
        argv += [f"--{split}_file", *(f"{n}={files / f'{task}-{n}-{split}.jsonl'}" for n in names)]
    return [*argv, "--task_name", task, *(x for k, v in more.items() for x in (f"--{k}", *v))]


@pytest.fixture(scope="module")
def finished(checkpoint, files):
    """Fine-tuned on English, tested on three languages; French has a training set as well."""
    folder = checkpoint.parent / "pos"
    names = {"train": ("en", "fr"), "test": ("en", "hi", "fr")}
    finetuning.main(arguments(checkpoint, folder, files, **names, seeds=["0", "1"]), "tag")
    return folder


def test_each_language_has_its_scores(finished):
    results = read_json(finished / "all_results.json")
    assert (results["language"], results["languages"]) == ("en-fr-hi", ["en", "fr", "hi"])
    fr, hi = (results["transfer"][name] for name in ("fr", "hi"))
    for scores in (fr, hi):
        assert len(scores["bz_by_seed"]) == 2
        assert scores["bz"] == pytest.approx(sum(scores["bz_by_seed"]) / 2)
        assert scores["bz_macro_f1"] <= 100
        assert scores["n_test"] == 30
        assert "source" not in scores
    assert fr["transfer_gap"] == pytest.approx(fr["bz"] - fr["bs"])
    assert fr["bz"] != hi["bz"]
    assert hi["bs"] is hi["bs_by_seed"] is hi["transfer_gap"] is None
    assert results["bz"] == pytest.approx((fr["bz"] + hi["bz"]) / 2)
    # The mean gap is that of the languages that have one.
    assert (results["bs"], results["transfer_gap"]) == (fr["bs"], fr["transfer_gap"])
    assert len(results["source_by_seed"]) == 2
    assert results["source_macro_f1"] <= 100
    # Hindi is no language of the checkpoint, which measured no alignment of it.
    assert (fr["alignment_p1"], hi["alignment_p1"]) == (40.0, None)
    assert results["pretraining_languages"] == "en-fr"


def test_scores_are_kept_by_language_and_belong_to_it(finished, checkpoint, files, capsys):
    names = {path.name for path in finished.glob("scores-*")}
    assert names == {f"scores-{name}-{seed}.json" for name in ("en", "fr") for seed in (0, 1)}
    kept = read_json(finished / "scores-en-0.json")
    assert set(kept) == {"source", "fr_bz", "hi_bz"}
    (finished / "all_results.json").unlink()
    write_json(finished / "scores-en-0.json", kept | {"fr_bz": kept["fr_bz"] | {"accuracy": 12.5}})
    languages = {"train": ("en", "fr"), "test": ("en", "hi", "fr")}
    argv = arguments(checkpoint, finished, files, **languages, seeds=["0", "1"])
    finetuning.main(argv, "tag")
    results = read_json(finished / "all_results.json")
    assert results["transfer"]["fr"]["bz_by_seed"][0] == 12.5
    assert "  fr: BZ " in capsys.readouterr().out
    assert json.loads((finished / "language.json").read_text()) == {"languages": ["en", "fr"]}
    assert AutoModelForTokenClassification.from_pretrained(finished).config.id2label


def test_zero_shot_learns_from_the_source_alone(tokenizer, tmp_path):
    """Tags go with the words they belong to, in each language's own files."""
    checkpoint = save(tmp_path / "model", tokenizer, ("en", "fr"))
    tags = {"en": {"a": "DET", "in": "ADP"}, "fr": {"a": "ADP", "in": "DET"}}
    for name, known in tags.items():
        for split in ("train", "test"):
            draw = random.Random(f"{name}{split}")
            rows = [draw.choices(list(known), k=5) for _ in range(100)]
            lines = (json.dumps({"tokens": r, "tags": [known[w] for w in r]}) + "\n" for r in rows)
            (tmp_path / f"pos-{name}-{split}.jsonl").write_text("".join(lines))
    both = {"train": ("en", "fr"), "test": ("en", "fr")}
    argv = arguments(checkpoint, tmp_path / "run", tmp_path, **both)
    finetuning.main([*argv, "--num_train_epochs", "8", "--learning_rate", "0.01"], "tag")
    results = read_json(tmp_path / "run" / "all_results.json")
    assert results["source"] > 95
    assert results["transfer"]["fr"]["bs"] > 95
    assert results["transfer"]["fr"]["bz"] < 5  # French means the opposite


@pytest.mark.parametrize("named", [True, False])
def test_files_of_the_source_alone_give_no_transfer(checkpoint, tmp_path, files, named):
    argv = arguments(checkpoint, tmp_path / "run", files)
    argv = argv if named else [word.removeprefix("en=") for word in argv]
    finetuning.main(argv, "tag")
    results = read_json(tmp_path / "run" / "all_results.json")
    assert (results["language"], results["transfer"]) == ("en", {})
    assert results["source"] > 0
    assert results["bz"] is results["bs"] is results["transfer_gap"] is None
    assert not cells_of(read_results(tmp_path))
    assert "| POS, en | accuracy |" in str(model_card(tmp_path / "run"))


def test_the_same_rows_in_two_languages_are_refused(checkpoint, tmp_path, files, capsys):
    copy = tmp_path / "copied.jsonl"
    copy.write_bytes((files / "pos-en-test.jsonl").read_bytes() + b"\n")
    argv = arguments(checkpoint, tmp_path / "run", files)
    argv.insert(argv.index("--task_name"), f"fr={copy}")
    error = refusal(capsys, argv)
    assert "the test sets of fr and en have the same rows" in error
    assert not (tmp_path / "run").exists()


def refusal(capsys, argv, command="tag"):
    """The one line with which a command refuses its options."""
    return refused(capsys, finetuning.main, argv, command)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "natural languages have no embedded task: give --train_file"),
        ("--language trans_inv", "--language trans_inv: "),
        ("--train_file en=A --test_file en=B --double_vocabulary", "--double_vocabulary is for"),
        ("--train_file en=A fr=A --test_file en=B", "--test_file has none of fr"),
        ("--train_file en=A --test_file fr=B", "--test_file has none of en"),
        ("--train_file en=A --test_file B en=B", "names no language, but is to"),
        ("--train_file en=A en=A --test_file en=B", "for one language: give one"),
        ("--train_file en-fr=A --test_file en-fr=B", "'en-fr' is no name of a language"),
        ("--train_file original=A --test_file original=B", "take another"),
        ("--dataset_config_name en=en fr=fr", "--dataset_config_name needs a --dataset_name"),
        ("--test_file en=A fr=B", "a task needs a train file and a test file"),
        ("--train_file en=A --test_file en=B --xnli_mixed", "mixes pairs of sentences"),
        ("--train_file en=A --test_file en=B fr=nowhere.jsonl", "nowhere.jsonl: no such file"),
        (
            "--train_file en=A --test_file en=B --eval_strategy epoch",
            "--eval_strategy needs a validation set: give a --validation_file of en",
        ),
    ],
)
def test_mistakes_are_one_line(checkpoint, tmp_path, files, capsys, options, message):
    places = {"A": files / "pos-en-train.jsonl", "B": files / "pos-en-test.jsonl"}
    words = [
        f"{name}{mark}{places.get(value, value)}"
        for name, mark, value in (
            word.rpartition("=") if "=" in word else ("", "", word) for word in options.split()
        )
    ]
    argv = ["--model_name_or_path", str(checkpoint), "--output_dir", str(tmp_path / "run")]
    argv = [*argv, *FAST, "--task_name", "pos", *words]
    error = refusal(capsys, argv)
    assert message in error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_others_takes_the_names_of_the_files(tokenizer, tmp_path, files, capsys):
    folder = save(tmp_path / "stock", tokenizer)
    argv = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "x"), *FAST]
    error = refusal(capsys, [*argv, "--task_name", "pos"])
    assert "or the natural language of each file, as --train_file en=FILE" in error
    finetuning.main(arguments(folder, tmp_path / "run", files, test=("en", "fr")), "tag")
    results = read_json(tmp_path / "run" / "all_results.json")
    assert results["objective"] is results["pretraining_languages"] is None
    assert list(cells_of(read_results(tmp_path))) == [("stock", "en-fr", "pos")]
    assert json.loads((tmp_path / "run" / "language.json").read_text()) == {
        "languages": ["en", "fr"]
    }


# Frames


def byte_level():
    """A tokenizer of RoBERTa's kind: <s> a </s></s> b </s>."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(vocabulary)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    named = dict(zip(names, special, strict=True)) | {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def without_frame(tokenizer):
    """The tokenizer without a template of special tokens."""
    state = json.loads(tokenizer.backend_tokenizer.to_str()) | {"post_processor": None}
    backend = Tokenizer.from_str(json.dumps(state))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level"])
def test_the_frame_is_the_tokenizers_own(tokenizer, kind):
    made = tokenizer if kind == "wordpiece" else byte_level()
    form = InputForm(made, None, {}, 64)
    texts = ["the old dog", "a cat"]
    pieces = [made(text, add_special_tokens=False)["input_ids"] for text in texts]
    for count in (1, 2):
        framed = form.framed(*([ids] for ids in pieces[:count]))
        expected = made(*texts[:count])
        assert framed["input_ids"] == expected["input_ids"]
        assert form.room(count) == 64 - made.num_special_tokens_to_add(pair=count == 2)
        if kind == "wordpiece":
            assert framed["token_type_ids"] == expected["token_type_ids"]


def test_a_tokenizer_without_a_frame_has_its_cls_and_sep(tokenizer):
    form = InputForm(without_frame(tokenizer), None, {}, 64)
    other = InputForm(tokenizer, None, {}, 64)
    assert form.specials == other.specials


def test_roberta_has_no_positions_before_its_padding_and_no_token_types(
    tokenizer, tmp_path, files, capsys
):
    kind = (RobertaConfig, RobertaForMaskedLM)
    folder = save(tmp_path / "model", tokenizer, ("en", "fr"), kind=kind, type_vocab_size=1)
    long = {"train": ("en",), "test": ("en", "fr")}
    for task in ("pos", "nli"):
        command = "nli" if task == "nli" else "tag"
        argv = arguments(folder, tmp_path / task, files, task, **long)
        longest = 32 - tokenizer.pad_token_id - 1
        error = refusal(capsys, [*argv, "--max_seq_length", str(longest + 1)], command)
        assert f"more than the model's {longest} positions" in error
        finetuning.main([*argv, "--max_seq_length", str(longest)], command)
        assert (tmp_path / task / "all_results.json").exists()
        run = check([*argv, "--output_dir", str(tmp_path / "new")], command)
        encoder = load_vocabulary(run)
        encode(run, load_rows(run, encoder), encoder)
        features = [f for e in run.encoded.values() for f in e.features]
        assert max(len(f["input_ids"]) for f in features) <= longest
        assert not any("token_type_ids" in f for f in features)


# Mixed pairs


def mixed_run(checkpoint, output, files, *more):
    names = {"train": ("en",), "test": ("en", "fr")}
    argv = arguments(checkpoint, output, files, "nli", **names)
    return [*argv, "--xnli_mixed", *more]


@pytest.fixture(scope="module")
def parallel(files, tmp_path_factory):
    """French test rows that are parallel to the English ones."""
    folder = tmp_path_factory.mktemp("parallel")
    for path in files.glob("nli-*.jsonl"):
        (folder / path.name).write_bytes(path.read_bytes())
    rows = [json.loads(line) for line in (files / "nli-en-test.jsonl").read_text().splitlines()]
    for row in rows:
        for name in ("premise", "hypothesis"):
            row[name] = row[name][::-1]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "nli-fr-test.jsonl").write_text(lines)
    return folder


def test_a_mixed_pair_is_of_two_languages(checkpoint, tmp_path, parallel, files, capsys):
    run = check(mixed_run(checkpoint, tmp_path / "a", parallel), "nli")
    run.config.language_embeddings = True
    encoder = load_vocabulary(run)
    rows = load_rows(run, encoder)
    encode(run, rows, encoder)
    for en, fr, both in zip(
        rows["en", "test"], rows["fr", "test"], rows["fr", "mixed"], strict=True
    ):
        assert (both.words, both.tags) == ([en.words[0], fr.words[1]], en.tags)
    first = run.encoded["fr", "mixed"].features[0]
    middle = first["input_ids"].index(run.tokenizer.sep_token_id) + 1
    assert first["token_type_ids"][:middle] == [0] * middle
    assert set(first["token_type_ids"][middle:]) == {1}
    assert {t for f in run.encoded["fr", "test"].features for t in f["token_type_ids"]} == {1}
    argv = arguments(checkpoint, tmp_path / "a", files, "nli")
    error = refusal(capsys, [*argv, "--xnli_mixed"], "nli")
    assert "--xnli_mixed needs the test set of another language" in error
    # The files of `files` are not parallel.
    error = refusal(capsys, mixed_run(checkpoint, tmp_path / "a", files), "nli")
    assert "--xnli_mixed needs parallel test sets, but those of en and fr differ" in error


def test_mixed_pairs_are_scored_beside(checkpoint, tmp_path, parallel):
    finetuning.main(mixed_run(checkpoint, tmp_path / "run", parallel), "nli")
    results = read_json(tmp_path / "run" / "all_results.json")
    scores = results["transfer"]["fr"]
    assert scores["bz_mixed"] == scores["bz_mixed_accuracy"] == results["bz_mixed"] > 0
    assert scores["bs"] is None


def test_a_synthetic_pair_is_mixed_too(doubled, tmp_path):
    tokenizer, language = doubled
    folder = save(tmp_path / "model", tokenizer)
    language.save_pretrained(folder)
    argv = ["--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "run"), *FAST]
    argv += ["--max_train_samples", "20", "--max_eval_samples", "20", "--xnli_mixed"]
    run = check(argv, "nli")
    rows = load_rows(run, load_vocabulary(run))
    original, derived, mixed = (
        rows[place][0].words
        for place in (("original", "test"), ("derived", "test"), ("derived", "mixed"))
    )
    assert mixed == [original[0], derived[1]]
    finetuning.main(argv, "nli")
    results = read_json(tmp_path / "run" / "all_results.json")
    assert results["bz_mixed"] == results["bz_mixed_accuracy"]
    assert "bs_mixed" not in results


# Report and card


def test_the_report_has_a_row_for_each_language(finished, checkpoint, tmp_path):
    text = report(checkpoint.parent, tmp_path / "out")
    lines = text.splitlines()
    assert "| held out | perplexity, en | perplexity, fr |" in text
    assert any(
        line.startswith("| align-mlm | en-fr |") and "| 7.5 | 7.5 |" in line for line in lines
    )
    starts = [f"| POS | {name} | align-mlm |" for name in ("en-fr", "en-hi of en-fr")]
    assert [sum(line.startswith(start) for line in lines) for start in starts] == [1, 1]
    assert "BZ: fine-tuned on the first, the source" in text
    assert not any(word in text for word in ("derived", "original"))
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"transfer.png", "transfer.csv"}


def test_another_checkpoint_is_another_cell(finished, tmp_path):
    results = read_json(finished / "all_results.json")
    write_json(tmp_path / "a" / "all_results.json", results)
    more = {"pretraining_languages": "en-fr-hi-ar"}
    write_json(tmp_path / "b" / "all_results.json", results | more)
    cells = cells_of(read_results(tmp_path))
    assert {key[1] for key in cells} == {
        *("en-fr", "en-hi of en-fr", "en-fr of en-fr-hi-ar", "en-hi of en-fr-hi-ar")
    }


@pytest.mark.parametrize(
    "damage",
    [
        {"languages": None},
        {"languages": []},
        {"languages": ["a\nb"]},
        {"transfer": ["fr"]},
        {"transfer": {"fr": 5.0}},
        {"transfer": {"a\nb": {"bz_by_seed": [5.0]}}},
        {"transfer": {"fr": {"bz_by_seed": None}}},
        {"transfer": {"fr": {"bz_by_seed": ["5"]}}},
        {"transfer": {"fr": {"bz_by_seed": [5.0], "alignment_p1": "x"}}},
        {"pretraining_languages": 5},
    ],
)
def test_damaged_results_are_left_out(finished, tmp_path, damage):
    results = read_json(finished / "all_results.json")
    write_json(tmp_path / "a" / "all_results.json", results | damage)
    with pytest.raises(ValueError, match=r"no all_results\.json of a run"):
        read_results(tmp_path)


def test_a_card_names_the_languages(finished, checkpoint):
    card = model_card(finished, repo_id="me/tagger")
    assert card.data.language == ["en", "fr", "hi"]
    assert "fine-tuned for POS on `en`, to see what transfers to languages\nof which" in card.text
    assert "`fr`, `hi`." in card.text
    for name in ("en-fr", "en-hi of en-fr"):
        assert f"| POS, {name} | accuracy |" in card.text
    shown = [(r.dataset_name, r.metric_name) for r in card.data.eval_results]
    assert shown == [
        ("POS, en-fr", "accuracy, source language"),
        ("POS, en-fr", "accuracy, zero-shot"),
        ("POS, en-fr", "accuracy, supervised"),
        ("POS, en-hi of en-fr", "accuracy, zero-shot"),
    ]
    assert not any(word in card.text for word in ("twin", "derived", "English", "original"))
    assert str(Path(checkpoint).parent) not in str(card)


def test_a_named_file_is_published_without_its_folder():
    given = {"train_file": ["en=/home/me/a.conllu", "b.conllu", "fr=c.conllu"], "seeds": [0]}
    shown = {"train_file": ["en=a.conllu", "b.conllu", "fr=c.conllu"], "seeds": [0]}
    assert without_folders(given) == shown
