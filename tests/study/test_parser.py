"""Training of a parser by spaCy, on a treebank that it can learn by heart."""

import gzip
import json

import pytest

from hf_alignmlm.data.trees import load_parser
from hf_alignmlm.files import exclusive
from hf_alignmlm.languages.word_order import Sentence
from study import parser as training

pytest.importorskip("spacy", reason="spaCy is not installed")


def conllu(path, sentences):
    rows = []
    for s in sentences:
        columns = zip(s.words, s.upos, s.heads, s.deprels, strict=True)
        for i, (word, tag, head, relation) in enumerate(columns, 1):
            rows.append(f"{i}\t{word}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_")
        rows.append("")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        stream.write("\n".join([*rows, ""]))
    return path


def run(train, validation, output, *more):
    files = ["--train_file", str(train), "--validation_file", str(validation)]
    training.main([*files, "--output_dir", str(output), *more])


def error(capsys, *argv):
    with pytest.raises(SystemExit) as stopped:
        run(*argv)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def trained(embedded, tmp_path_factory):
    """A parser that has learned six sentences by heart."""
    folder = tmp_path_factory.mktemp("parser")
    conllu(folder / "train.conllu.gz", embedded[:6] * 60)
    conllu(folder / "validation.conllu", embedded[:6])
    (folder / ".parser.new" / "of a killed run").mkdir(parents=True)
    names = ("train.conllu.gz", "validation.conllu", "parser")
    run(*(folder / name for name in names), "--max_steps", "60")
    return folder


def test_training_learns(trained, embedded):
    report = json.loads((trained / "parser" / "parser.json").read_text())
    assert report["scores"]["las"] > 85
    assert report["scores"]["upos"] > 95
    assert report["scored_on"] == "validation.conllu"
    assert report["validation"] == report["scores"]
    assert "spacy" in report["versions"]
    assert sorted(path.name for path in trained.iterdir()) == [
        *("parser", "train.conllu.gz", "validation.conllu")
    ]
    relations = {relation for s in embedded[:6] for relation in s.deprels}
    parsed = load_parser(str(trained / "parser")).trees([s.words for s in embedded[:6]])
    assert {relation for s in parsed for relation in s.deprels} <= relations


def test_a_parser_is_not_overwritten_unasked(trained, tmp_path, capsys):
    files = (trained / "train.conllu.gz", trained / "validation.conllu")
    assert "holds a parser: name another" in error(capsys, *files, trained / "parser")
    (tmp_path / "mine.txt").touch()
    told = error(capsys, *files, tmp_path, "--overwrite_output_dir")
    assert "exists and holds no parser" in told
    assert (tmp_path / "mine.txt").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max_steps", "0"), "--max_steps 0: give 1 to 4294967295"),
        (("--seed", "-1"), "--seed -1: give 0 to 4294967295"),
        (("--seed", str(2**64)), f"--seed {2**64}: give 0 to"),
        (("--test_file", ""), "No such file or directory: ''"),
        (("--language", "zz"), "--language zz: spaCy knows no such language"),
    ],
)
def test_wrong_options_are_refused_before_any_work(trained, tmp_path, capsys, options, message):
    files = (trained / "train.conllu.gz", trained / "validation.conllu")
    assert message in error(capsys, *files, tmp_path / "parser", *options)
    assert not [*tmp_path.iterdir()]


def test_a_second_training_in_a_folder_is_refused(trained, tmp_path, capsys):
    files = (trained / "train.conllu.gz", trained / "validation.conllu")
    with exclusive(tmp_path / "parser"):
        assert "parser is in use by another command" in error(capsys, *files, tmp_path / "parser")


def test_a_treebank_without_tags_is_an_error(tmp_path, capsys):
    path = conllu(tmp_path / "a.conllu", [Sentence(("a",), ("_",), (0,), ("root",))])
    assert "without a part of speech" in error(capsys, path, path, tmp_path / "parser")
    assert not (tmp_path / "parser").exists()


def test_scores_count_as_conll_2018_does():
    gold = [Sentence(("a", "b", "c", "."), ("X",) * 4, (0, 1, 2, 1), ("root", "dep", "obj", "dep"))]
    relations = ("root", "dep:next", "dep:next", "dep:next")
    chain = [Sentence(gold[0].words, gold[0].upos, (0, 1, 2, 3), relations)]
    expected = {"uas": 75.0, "las": 50.0, "las_subtypes": 25.0, "upos": 100.0}
    assert training.score(chain, gold) == expected
