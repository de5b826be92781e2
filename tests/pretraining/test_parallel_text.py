"""Parallel text in pre-training: pairs for xlm, to train on and to evaluate."""

import json
from itertools import islice

import pytest
from test_run_pretraining import pretrain
from transformers import AutoModelForMaskedLM

from hf_alignmlm import minienglish

# Languages of one order of words, each with letters of its own.
LETTERS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "el": "αβγδεζηθικλμνξοπρστυφχψωάέ",
    "ru": "абвгдежзийклмнопрстуфхцчшщ",
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of text in three languages, and parallel text of two pairs in two forms."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [" ".join(s.words).lower() for s in islice(minienglish.sentences(), 400)]
    said = {}
    for name, letters in LETTERS.items():
        said[name] = [line.translate(str.maketrans(LETTERS["en"], letters)) for line in lines]
        (folder / name).write_text("\n".join(said[name][:250]), encoding="utf-8")
        (folder / f"p.{name}").write_text("\n".join(said[name][250:]), encoding="utf-8")
    columns = map("\t".join, zip(said["ru"][250:], said["en"][250:], strict=True))
    (folder / "ru-en.tsv").write_text("\n".join(columns), encoding="utf-8")
    return folder


def options(texts, *names, **more):
    files = [f"{name}={texts / name}" for name in names]
    return {"train_file": files, "objective": "xlm", "eval_strategy": "steps", **more}


def test_pairs_are_trained_on_and_evaluated_beside_the_same_sentences(texts, tmp_path):
    files = [f"en-el={texts}/p.en", f"en-el={texts}/p.el", f"ru-en={texts}/ru-en.tsv"]
    given = options(texts, "en", "el", "ru", parallel_file=files, validation_split_percentage=10)
    results = pretrain(tmp_path / "run", **given)
    sets = ("en", "el", "ru", "en-el", "en-el_alone", "ru-en", "ru-en_alone")
    for name in sets:
        assert 0 < results[f"eval_{name}_mlm_loss"] < 10, name
        assert 0 < results[f"eval_{name}_frequency_baseline_loss"] < 7, name
    # The mean of the languages, as without pairs; of the log, for the results have no mean.
    log = json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]
    means = [
        line["eval_loss"] for line in log if "eval_loss" in line and "eval_runtime" not in line
    ]
    losses = [results[f"eval_{name}_mlm_loss"] for name in sets[:3]]
    assert means[-1] == pytest.approx(sum(losses) / 3)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "run")
    assert model.config.type_vocab_size == 3


def test_the_tlm_rate_is_the_share_of_the_pairs(texts, tmp_path):
    given = options(texts, "en", "ru", parallel_file=f"ru-en={texts}/ru-en.tsv")
    given |= {"eval_strategy": "no", "max_steps": None, "num_train_epochs": 0.25}
    steps = [pretrain(tmp_path / f"{r}", **given, tlm_rate=r)["train_steps"] for r in (0.1, 1)]
    assert steps[0] < steps[1] - 4


def test_a_stream_has_the_pairs_too(texts, tmp_path):
    files = [f"en-el={texts}/p.en", f"en-el={texts}/p.el"]
    given = options(texts, "en", "el", parallel_file=files, streaming=True, max_eval_samples=20)
    results = pretrain(tmp_path / "run", **given)
    assert results["eval_en-el_mlm_loss"] > 0


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (("en", "el"), {}, "--parallel_file is for --objective xlm of natural languages"),
        (
            ("en", "el"),
            {"objective": "mlm", "parallel_file": "en-el=FILE"},
            "give both, or neither",
        ),
        (
            ("en", "el", "ru"),
            {"parallel_file": "el-ru=FILE"},
            "source and another language, not el",
        ),
        (("en", "el", "ru"), {"parallel_file": "FILE"}, "is no pair of en, el, ru"),
        (("en", "el"), {"parallel_file": "en-el=none"}, "none: no such file"),
        (
            ("en", "el"),
            {"parallel_file": ["en-el=FILE"], "parallel_dataset_name": "en-el=x"},
            "en-el has a --parallel_file and a --parallel_dataset_name",
        ),
        (("en", "el"), {"parallel_dataset_config_name": "en-el=x"}, "does nothing without"),
        (("en", "el"), {"parallel_file": "en-el=FILE"}, "ru-en.tsv: no row"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(texts, tmp_path, capsys, names, given, message):
    def named(value):
        return value.replace("FILE", str(texts / "ru-en.tsv"))

    given = {n: named(v) if isinstance(v, str) else list(map(named, v)) for n, v in given.items()}
    if "no row" in message:
        (tmp_path / "ru-en.tsv").write_text("a\t\n\tb\n", encoding="utf-8")
        given = {"parallel_file": f"en-el={tmp_path}/ru-en.tsv"}
    with pytest.raises(SystemExit) as stopped:
        pretrain(tmp_path / "run", **options(texts, *names, **given))
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "run").exists()


def test_the_same_command_goes_on(texts, tmp_path, capsys):
    given = options(texts, "en", "ru", parallel_file=f"ru-en={texts}/ru-en.tsv")
    first = pretrain(tmp_path / "run", **given)
    (tmp_path / "run" / "all_results.json").unlink()
    again = pretrain(tmp_path / "run", **given)
    assert "Resuming from" in capsys.readouterr().out
    for name in ("eval_ru-en_mlm_loss", "eval_ru-en_alone_mlm_loss"):
        assert again[name] == first[name]
    assert json.loads((tmp_path / "run" / "language.json").read_text())["languages"] == ["en", "ru"]
