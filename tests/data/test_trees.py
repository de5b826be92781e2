"""Parsing: trees for every kind of row, resumed to the same file, never over what is not ours."""

import errno
import gzip
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_alignmlm.data import trees as parsing
from hf_alignmlm.data.sources import read_corpus
from hf_alignmlm.data.trees import load_parser, main, parse_file
from hf_alignmlm.files import exclusive
from hf_alignmlm.languages.word_order import Sentence, is_projective


class Chain:
    """A parser that hangs every word on the one before, and counts what it is asked."""

    language = "en"

    def __init__(self, digest="1"):
        self.digest, self.seen = digest, 0

    def words(self, sentences):
        return [s.split() for s in sentences]

    def trees(self, sentences):
        for words in sentences:
            self.seen += 1
            relations = ["root", *["dep:next"] * (len(words) - 1)]
            columns = (words, ["X"] * len(words), range(len(words)), relations)
            yield Sentence(*map(tuple, columns))


@pytest.fixture
def chain(monkeypatch):
    parser = Chain()
    monkeypatch.setattr(parsing, "load_parser", lambda name: parser)
    monkeypatch.setattr(parsing, "ROWS_PER_PART", 2)
    return parser


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)
    return path


def parsed(path, tmp_path, **options):
    counts = parse_file(path, "any", tmp_path / "out.parquet", **options)
    return counts, pq.read_table(tmp_path / "out.parquet").to_pylist()


def conllu(path, sentences):
    rows = []
    for s in sentences:
        columns = zip(s.words, s.upos, s.heads, s.deprels, strict=True)
        for i, (word, tag, head, relation) in enumerate(columns, 1):
            rows.append(f"{i}\t{word}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_")
        rows.append("")
    return write(path, *rows)


# What comes of each kind of row


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz", "text.jsonl"])
def test_text_becomes_a_row_a_sentence_and_empty_lines_are_counted(chain, tmp_path, name):
    lines = ["A cat sat. It ran!", "", "   ", "Dogs bark."]
    rows = [{"sentence": line, "work": i} for i, line in enumerate(lines)]
    path = write(tmp_path / name, *(rows if "json" in name else lines))
    counts, found = parsed(path, tmp_path)
    assert [row["words"] for row in found] == [
        ["A", "cat", "sat."],
        ["It", "ran!"],
        ["Dogs", "bark."],
    ]
    assert [row["heads"] for row in found] == [[0, 1, 2], [0, 1], [0, 1]]
    assert found[0]["deprels"] == ["root", "dep:next", "dep:next"]
    assert {**counts, "words_per_second": 0} == {
        **{"sentences": 3, "words": 7, "nonprojective": 0, "empty": 2, "words_per_second": 0}
    }
    if "json" in name:
        assert [row["work"] for row in found] == [0, 0, 3]
        assert "sentence" not in found[0]
    corpus = read_corpus([str(tmp_path / "out.parquet")])
    assert set(corpus.column_names) == {"words", "upos", "heads", "deprels"}


def test_words_other_columns_and_gold_tags_stay(chain, tmp_path):
    rows = [
        {"tokens": ["New York", "", "x"], "ner_tags": [1, 2, 0], "upos": ["PROPN", "X", "SYM"]},
        {"tokens": [], "ner_tags": [], "upos": []},
        {"tokens": ["a", "b"], "ner_tags": [0, 0], "upos": None},
    ]
    counts, found = parsed(write(tmp_path / "tags.jsonl", *rows), tmp_path)
    assert counts["empty"] == 1
    assert [{k: row[k] for k in ("tokens", "ner_tags")} for row in found] == [
        {k: rows[i][k] for k in ("tokens", "ner_tags")} for i in (0, 2)
    ]
    assert [row["upos"] for row in found] == [["PROPN", "X", "SYM"], ["X", "X"]]
    assert found[0]["heads"] == [0, 1, 2]
    assert "words" not in found[0]


def test_conllu_without_trees_gets_them(chain, tmp_path):
    path = conllu(
        tmp_path / "a.conllu", [Sentence(("a", "b"), ("DET", "_"), ("_", "_"), ("_", "_"))]
    )
    assert parsed(path, tmp_path)[1][0]["heads"] == [0, 1]
    path = conllu(tmp_path / "b.conllu", [Sentence(("a",), ("DET",), (0,), ("root",))])
    with pytest.raises(ValueError, match="has trees already"):
        parse_file(path, "any", tmp_path / "b.parquet")


def test_a_premise_of_two_sentences_stays_one_list_with_a_root_for_each(chain, tmp_path):
    rows = [
        {"premise": "It rains. We run.", "hypothesis": "Wet.", "label": "neutral"},
        {"premise": "", "hypothesis": "Nothing before.", "label": "neutral"},
        {"premise": "Two. Three.", "hypothesis": "A b c.", "label": "entailment"},
    ]
    counts, found = parsed(write(tmp_path / "pairs.jsonl", *rows), tmp_path)
    assert [row["label"] for row in found] == ["neutral", "entailment"]
    assert found[0]["premise"] == ["It", "rains.", "We", "run."]
    assert found[0]["premise_heads"] == [0, 1, 0, 3]
    assert found[0]["premise_deprels"] == ["root", "dep:next"] * 2
    assert found[1]["hypothesis_heads"] == [0, 1, 2]
    assert len(found[0]["hypothesis_upos"]) == 1
    assert is_projective(found[0]["premise_heads"])
    assert counts["empty"] == 1


def test_class_names_survive(chain, tmp_path):
    from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset

    features = Features({"words": List(Value("string")), "ner_tags": List(ClassLabel(names=["O"]))})
    rows = {"words": [["a"]], "ner_tags": [[0]]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "in.parquet")
    parsed(tmp_path / "in.parquet", tmp_path)
    dataset = load_dataset("parquet", data_files=str(tmp_path / "out.parquet"), split="train")
    assert dataset.features["ner_tags"] == features["ner_tags"]


# Going on, and leaving alone

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_trees import Chain
from hf_alignmlm.data import trees as parsing
parsing.load_parser, parsing.ROWS_PER_PART = lambda name: Chain(), 2
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")

for point in {points!r}:
    output = {folder!r} + f"/{{point:02}}/out.parquet"
    os.mkdir(os.path.dirname(output))
    if child := os.fork():
        print(point, os.waitpid(child, 0)[1])
        continue
    seen = 0

    def watch(event, arguments):
        global seen
        # rmtree names files by their last part alone.
        ours = "/" not in str(arguments[:1]) or os.path.dirname(output) in str(arguments[:1])
        if event in EVENTS and ours:
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    parsing.parse_file({path!r}, "any", output)
    os._exit(0)
"""


def check_kills(tmp_path, request, chain, points):
    """Kill a run before its n-th change of a file, for each n; the same command must go on."""
    path = write(tmp_path / "text.txt", *(f"Line {i} is here." for i in range(10)))
    unbroken = tmp_path / "unbroken.parquet"
    parse_file(path, "any", unbroken)
    names = {"tests": str(request.path.parent), "path": str(path), "folder": str(tmp_path)}
    script = KILLED.format(**names, points=[*points])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ends = dict(map(int, line.split()) for line in done.stdout.splitlines())
    left = {}
    for point in points:
        output = tmp_path / f"{point:02}" / "out.parquet"
        parts = len(list(output.with_name("out.parquet.parts").glob("[0-9]*.parquet")))
        whole = output.exists()
        assert not whole or output.read_bytes() == unbroken.read_bytes()
        chain.seen = 0
        parse_file(path, "any", output)
        assert chain.seen == (0 if whole else 10 - 2 * parts)
        assert output.read_bytes() == unbroken.read_bytes()
        assert [file.name for file in output.parent.iterdir()] == ["out.parquet"]
        left[point] = whole, parts
    assert [row["words"][1] for row in pq.read_table(unbroken).to_pylist()] == [
        *map(str, range(10))
    ]
    return ends, left


def test_a_killed_run_goes_on_and_ends_in_the_same_file(chain, tmp_path, request):
    ends, left = check_kills(tmp_path, request, chain, (2, 8, 16))
    assert set(ends.values()) == {signal.SIGKILL}
    assert [left[2], left[8], left[16][0]] == [(False, 0), (False, 3), True], left
    assert 0 < left[16][1] < 5


@pytest.mark.slow
def test_a_run_goes_on_wherever_it_was_killed(chain, tmp_path, request):
    ends, left = check_kills(tmp_path, request, chain, range(1, 40))
    killed = [point for point, end in ends.items() if end == signal.SIGKILL]
    assert killed == [*range(1, len(killed) + 1)]
    assert 15 < len(killed) < 39
    assert {*ends.values()} == {0, signal.SIGKILL}
    states = {*left.values()}
    assert states == {(whole, n) for whole in (False, True) for n in range(6)}, left


def test_a_second_run_of_the_same_output_is_refused(chain, tmp_path):
    path, output = write(tmp_path / "a.txt", "One line."), tmp_path / "new" / "out.parquet"
    with exclusive(output), pytest.raises(ValueError, match=r"out\.parquet is in use by another"):
        parse_file(path, "any", output)
    parse_file(path, "any", output)
    assert [file.name for file in output.parent.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize("changed", ["input", "parser"])
def test_what_changes_while_it_is_parsed_gives_no_output(chain, tmp_path, monkeypatch, changed):
    path, output = write(tmp_path / "a.txt", "One.", "Two.", "Three."), tmp_path / "out.parquet"
    call = parsing._Task.__call__

    def changing(task, part):
        if changed == "input":
            write(path, "Another.", "Two.", "Three.")
        else:  # as a process has it that loads the parser late
            task = SimpleNamespace(**vars(task), split=task.split, schema=task.schema)
            late = {"made_from": {**task.made_from, "parser": "late"}}
            task.schema = lambda counts: pa.schema(
                task.features.arrow_schema,
                {parsing.METADATA: json.dumps({**late, "counts": counts})},
            )
        return call(task, part)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(parsing._Task, "__call__", changing)
        with pytest.raises(ValueError, match=r"or the parser has changed meanwhile: give the"):
            parse_file(path, "any", output)
    assert [*tmp_path.iterdir()] == [path]
    parse_file(path, "any", output)
    first = pq.read_table(output).to_pylist()[0]["words"]
    assert first == (["Another."] if changed == "input" else ["One."])


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(chain, tmp_path, monkeypatch, capsys):
    path, output = write(tmp_path / "a.txt", *"abcdef"), tmp_path / "out.parquet"
    command = [str(path), "--parser", "any", "--output", str(output)]
    write_table, room = parsing.pq.write_table, iter([True, False])

    def full(table, where):
        write_table(table, where)
        if not next(room):
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr(parsing.pq, "write_table", full)
        with pytest.raises(SystemExit) as caught:
            main(command)
    assert caught.value.code == 2
    assert "error: [Errno 28] No space left" in capsys.readouterr().err.splitlines()[-1]
    chain.seen = 0
    main(command)
    assert chain.seen == 4
    assert sorted(tmp_path.iterdir()) == [path, output]


def test_a_killed_process_is_one_line(chain, tmp_path, monkeypatch):
    class Broken(parsing.ProcessPoolExecutor):
        def map(self, *_):
            raise BrokenProcessPool

    path = write(tmp_path / "a.txt", "One.")
    monkeypatch.setattr(parsing, "ProcessPoolExecutor", Broken)
    with pytest.raises(ChildProcessError, match="fewer --preprocessing_num_workers"):
        parse_file(path, "any", tmp_path / "out.parquet", num_proc=2)


def test_what_is_there_is_not_made_twice(chain, tmp_path, capsys):
    path, output = write(tmp_path / "a.txt", "One line."), tmp_path / "out.parquet"
    command = [str(path), "--parser", "any", "--output", str(output)]
    main(command)
    assert "1 sentences, 2 words, 0.00 % non-projective, 0 empty" in capsys.readouterr().out
    before, seen = output.stat().st_mtime_ns, chain.seen
    main(command)
    assert "there before, nothing to do" in capsys.readouterr().out
    assert (output.stat().st_mtime_ns, chain.seen) == (before, seen)


@pytest.mark.parametrize("changed", ["input", "parser"])
def test_a_changed_input_or_parser_reuses_nothing(chain, tmp_path, changed):
    path, output = (
        write(tmp_path / "a.txt", "One line.", "Two.", "Three."),
        tmp_path / "out.parquet",
    )
    parse_file(path, "any", output)
    first = output.read_bytes()
    if changed == "input":
        write(path, "Another line.", "Four.", "Five.")
    else:
        chain.digest = "2"
    with pytest.raises(ValueError, match=f"out.parquet exists, made from another {changed}: "):
        parse_file(path, "any", output)
    assert output.read_bytes() == first
    seen = chain.seen
    parse_file(path, "any", output, overwrite=True)
    assert chain.seen == seen + 3


def test_parts_of_another_run_are_refused_or_dropped(chain, tmp_path, monkeypatch):
    path, output = (
        write(tmp_path / "a.txt", *(f"Line {i}." for i in range(6))),
        tmp_path / "o.parquet",
    )
    with monkeypatch.context() as broken:
        broken.setattr(parsing.pq, "ParquetWriter", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            parse_file(path, "any", output)
    assert not output.exists()
    chain.digest, chain.seen = "2", 0
    with pytest.raises(ValueError, match=r"o\.parquet\.parts exists, made from another parser: "):
        parse_file(path, "any", output)
    parse_file(path, "any", output, overwrite=True)
    assert chain.seen == 6


def test_files_of_others_are_left_alone(chain, tmp_path):
    path, output = write(tmp_path / "a.txt", "One line."), tmp_path / "out.parquet"
    output.write_text("mine")
    with pytest.raises(ValueError, match="made by other means"):
        parse_file(path, "any", output)
    assert output.read_text() == "mine"
    folder = tmp_path / "new.parquet.parts"
    folder.mkdir()
    (folder / "mine.txt").touch()
    with pytest.raises(ValueError, match="is in the way"):
        parse_file(path, "any", tmp_path / "new.parquet", overwrite=True)
    assert (folder / "mine.txt").exists()
    (tmp_path / "file.parquet.parts").touch()
    with pytest.raises(OSError, match=r"Not a directory: '.*file\.parquet\.parts'"):
        parse_file(path, "any", tmp_path / "file.parquet", overwrite=True)


def test_half_files_of_any_kind_are_replaced(chain, tmp_path):
    path, output = write(tmp_path / "a.txt", "One.", "Two.", "Three."), tmp_path / "out.parquet"
    parts = tmp_path / "out.parquet.parts"
    parts.mkdir()
    for name in ("whole", "000000000000.parquet", ".000000000002.parquet.77"):
        (parts / name).write_text("half")
    (tmp_path / ".out.parquet.lock").touch()
    counts, rows = parsed(path, tmp_path)
    assert counts["sentences"] == len(rows) == 3
    assert sorted(tmp_path.iterdir()) == [path, output]


# Errors


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("missing.txt", None, "no such file"),
        ("a.jsonl", {"body": "x"}, "has the columns body: name"),
        ("a.jsonl", {"text": 3}, "a.jsonl, row 1: 3 stands where a text belongs"),
        ("a.jsonl", {"premise": {"en": "x"}, "hypothesis": "x"}, "row 1: {'en': 'x'} stands where"),
        ("a.jsonl", {"words": [["x"]]}, "row 1: [['x']] stands where a list of words belongs"),
        (
            "a.jsonl",
            {"words": ["x"], "upos": [3]},
            "row 1: [3] stands where a list of words belongs",
        ),
        ("a.jsonl", {"words": ["x"], "heads": [0]}, "has trees already"),
        ("a.jsonl", '{"text": ', "cannot be read as json"),
        ("a.jsonl", {"text": " "}, "has no sentence"),
        ("a.jsonl", {"words": ["a", None]}, "a.jsonl, row 1: ['a', None] stands where a list of"),
        ("b.jsonl", {"words": ["a"], "upos": ["X", "X"]}, "b.jsonl, row 1: 1 words but 2 tags"),
        ("a.conllu", "1\ta\t_\tX\t_\t_\t2\tdep\t_\t_", "sentence 1 (no id): word 1 has head 2"),
        ("out.parquet", "x", "is the input"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(chain, tmp_path, capsys, name, row, message):
    path = tmp_path / name
    if row is not None:
        write(path, row)
    with pytest.raises(SystemExit) as caught:
        main([str(path), "--parser", "any", "--output", str(tmp_path / "out.parquet")])
    assert caught.value.code == 2
    told = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert message in told
    assert "error: " in told
    assert not (tmp_path / "out.parquet.parts").exists()


@pytest.mark.parametrize(
    ("parser", "output", "message"),
    [
        ("nowhere", "out.parquet", "nowhere: no such folder"),
        (".", "out.parquet", "is no parser: name a folder"),
        ("nowhere", "out.txt", "the output is a parquet file"),
        ("nowhere", "folder.parquet", "folder.parquet is a folder"),
    ],
)
def test_no_parser_and_no_parquet(tmp_path, monkeypatch, parser, output, message):
    if parser == ".":
        pytest.importorskip("spacy", reason="spaCy is not installed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises((ValueError, OSError), match=message):
        parse_file(write(tmp_path / "a.txt", "One."), parser, output)


@pytest.mark.parametrize("where", ["of a name", "of a text", "at the end"])
def test_a_damaged_parquet_file_is_named(chain, tmp_path, where):
    path, texts = tmp_path / "a.parquet", [f"Text {i}." for i in range(9)]
    pq.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False)
    data = path.read_bytes()
    good, bad = {"of a name": (b"text", b"\xfftxt"), "of a text": (b"Text 7", b"\xffext 7")}.get(
        where, (data[-40:], data[-8:])
    )
    path.write_bytes(data.replace(good, bad))
    with pytest.raises(ValueError, match=rf"{path} (cannot be read as|has the columns) "):
        parse_file(path, "any", tmp_path / "out.parquet")


def test_no_processes_are_an_error(chain, tmp_path):
    with pytest.raises(ValueError, match=r"^--preprocessing_num_workers 0: give 1 or more"):
        parse_file(write(tmp_path / "a.txt", "One."), "any", tmp_path / "o.parquet", num_proc=0)


@pytest.mark.parametrize("library", ["spacy", "stanza"])
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    name = "stanza:en" if library == "stanza" else str(tmp_path)
    with pytest.raises(
        ValueError, match=rf"^{library} is not installed: pip install hf-alignmlm\["
    ):
        load_parser(name)


# stanza, without its models


class FakePipeline:
    """What is used of stanza's pipeline, as of its version 1.15."""

    made: ClassVar[list] = []

    def __init__(self, lang, *, download_method, logging_level, **options):
        assert download_method is None
        if lang == "xx":
            raise FileNotFoundError("no resources.json\nhere")
        self.config = {"lang": lang, **options}
        self.made.append(options)

    def bulk_process(self, texts):
        assert self.config["tokenize_no_ssplit"]
        words = [[SimpleNamespace(text=w) for w in text.split()] for text in texts]
        return [SimpleNamespace(sentences=[SimpleNamespace(words=w)] if w else []) for w in words]

    def __call__(self, sentences):
        assert self.config["tokenize_pretokenized"]
        rows = [
            [
                SimpleNamespace(upos="X", head=i, deprel="dep" if i else "root")
                for i in range(len(s))
            ]
            for s in sentences
        ]
        return SimpleNamespace(sentences=[SimpleNamespace(words=row) for row in rows])


@pytest.fixture
def stanza(monkeypatch):
    module = ModuleType("stanza")
    module.__version__, module.Pipeline = "1.15.0", FakePipeline
    monkeypatch.setitem(sys.modules, "stanza", module)


def test_stanza_parses_text_and_words(stanza, tmp_path):
    text = write(tmp_path / "a.txt", "One line. And another one.")
    parse_file(text, "stanza:en", tmp_path / "a.parquet")
    found = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert found[1] == {
        "words": ["And", "another", "one."],
        "upos": ["X"] * 3,
        "heads": [0, 1, 2],
        "deprels": ["root", "dep", "dep"],
    }
    words = write(tmp_path / "b.jsonl", {"words": ["a b", "c"]})
    parse_file(words, "stanza:en", tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "b.parquet").to_pylist()[0]["words"] == ["a b", "c"]
    assert FakePipeline.made[-1]["processors"] == "tokenize,pos,lemma,depparse"


def test_stanza_without_its_model_says_how_to_get_it(stanza):
    with pytest.raises(ValueError, match=r"import stanza; stanza\.download\('xx'\)"):
        load_parser("stanza:xx")


# spaCy


@pytest.fixture(scope="module")
def trained(embedded, tmp_path_factory):
    """The folder of a parser that has seen a few sentences."""
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    spacy.util.fix_random_seed(0)
    nlp, examples = spacy.blank("en"), []
    for name in ("morphologizer", "parser"):
        nlp.add_pipe(name)
    for s in embedded[:6] * 20:
        heads = [head - 1 if head else i for i, head in enumerate(s.heads)]
        deps = ["ROOT" if relation == "root" else relation for relation in s.deprels]
        gold = spacy.tokens.Doc(nlp.vocab, s.words, pos=list(s.upos), heads=heads, deps=deps)
        examples.append(spacy.training.Example(nlp.make_doc(" ".join(s.words)), gold))
    nlp.initialize(lambda: examples)
    nlp.update(examples)
    folder = tmp_path_factory.mktemp("parser")
    nlp.to_disk(folder)
    return folder


def test_a_trained_parser_is_the_same_again_and_its_digest_tells_any_change(trained):
    words = ["the", "old", "farmer", "sees", "", "a", "dog", "."]
    parser, again = load_parser(str(trained)), load_parser(str(trained))
    (one,), (two,) = parser.trees([words]), again.trees([words])
    assert one == two
    assert one.words == tuple(words)
    assert parser.digest == again.digest
    assert parser.words(["I don't  know."]) == [["I", "do", "n't", "know", "."]]
    path = trained / "meta.json"
    before = path.read_text()
    path.write_text(before + " ")
    assert load_parser(str(trained)).digest != parser.digest
    path.write_text(before)


@pytest.mark.parametrize("name", ["config.cfg", "meta.json", "parser/model", "vocab/strings.json"])
def test_a_damaged_parser_is_one_line(trained, tmp_path, name):
    folder = tmp_path / "parser"
    shutil.copytree(trained, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ValueError, match="spaCy cannot load this parser: "):
        load_parser(str(folder))


def test_processes_make_the_same_file(trained, tmp_path, embedded, monkeypatch):
    path = write(tmp_path / "a.txt", *(" ".join(s.words) for s in embedded[:1100]))
    for processes in (1, 2):
        output = tmp_path / f"{processes}.parquet"
        parse_file(path, str(trained), output, num_proc=processes)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    assert pq.read_metadata(output).num_row_groups == 2  # a part each, so both had work


def test_relations_that_are_not_those_of_ud_are_refused(tmp_path):
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed")
    nlp = spacy.blank("en")
    nlp.add_pipe("parser").add_label("dobj")
    nlp.initialize()
    nlp.to_disk(tmp_path / "foreign")
    with pytest.raises(ValueError, match="not relations of UD: dobj"):
        load_parser(str(tmp_path / "foreign"))
