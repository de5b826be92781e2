"""CoNLL-U: what is read, what is skipped, and errors that name file and sentence."""

import pytest
from datasets import Dataset

from hf_alignmlm.data.conllu import read_conllu, tree_columns
from hf_alignmlm.data.formats import read_file
from hf_alignmlm.data.rows import row_tree
from hf_alignmlm.data.sources import read_corpus
from hf_alignmlm.data.trees import parse_file

ROWS = (
    "# sent_id = s7\n# text = Du chat !\n"
    "1-2\tDu\t_\t_\t_\t_\t_\t_\t_\t_\n"
    "1\tDe\tde\tADP\t_\t_\t3\tcase\t_\t_\n"
    "2\tle\tle\tDET\t_\tA|B=\t3\tdet\t_\t_\n"
    "2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_\n"
    "3\tNew chat\tchat\tNOUN\t_\t_\t0\troot\t_\tSpaceAfter=No\n\n"
)
BLANK = "1\tDe\t_\t_\t_\t_\t_\t_\t_\t_\n\n"


def sentences(tmp_path, text, **options):
    path = tmp_path / "a.conllu"
    path.write_bytes(text.encode())
    return list(read_conllu(path, **options))


@pytest.mark.parametrize(
    "text", [ROWS, "\ufeff" + ROWS, "\n\n" + ROWS + "\n", ROWS.replace("\n", "\r\n")]
)
def test_comments_ranges_and_empty_nodes_are_no_words(tmp_path, text):
    (sentence,) = sentences(tmp_path, text)
    assert sentence.words == ("De", "le", "New chat")
    assert (sentence.upos, sentence.heads) == (("ADP", "DET", "NOUN"), (3, 3, 0))
    assert sentence.deprels == ("case", "det", "root")


def test_without_trees_tags_and_heads_may_be_missing(tmp_path):
    found = sentences(tmp_path, ROWS + "# newdoc\n\n" + BLANK, trees=False)
    assert [s.heads for s in found] == [(3, 3, 0), (), (None,)]


BAD = {
    "cycle": (ROWS.replace("0\troot", "1\troot"), ".*a cycle"),
    "beyond": (ROWS.replace("3\tdet", "8\tdet"), "word 2 has head 8, not one of 0 to 3"),
    "negative": (ROWS.replace("3\tdet", "-1\tdet"), "word 2 has head '-1', not one of 0 to 3"),
    "partial": (ROWS.replace("3\tdet", "_\tdet"), "word 2 has head None, not one of 0 to 3"),
    "text": (ROWS.replace("3\tdet", "x\tdet"), "word 2 has head 'x', not one of 0 to 3"),
    "short": (ROWS.replace("\tdet\t_\t_", ""), "a row has fewer than 8 columns"),
    "order": (ROWS.replace("2\tle", "5\tle"), "words are not numbered 1, 2, 3, …"),
}


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_sentence_is_named(tmp_path, name, trees):
    text, reason = BAD[name]
    with pytest.raises(ValueError, match=rf"a\.conllu: sentence 2 \(s7\): {reason}"):
        sentences(tmp_path, ROWS + text, trees=trees)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BLANK, r"sentence 1 \(no id\): words without a part of speech"),
        (BLANK.replace("De\t_\t_", "De\t_\tDET"), "word 1 has head None"),
        ("New\tPROPN\n\n", "not CoNLL-U after sentence 0"),
        ("# only = comments\n\n", r"sentence 1 \(no id\): no words"),
        ("", "no sentences"),
        ("1\ta\0\t_\tX\t_\t_\t0\troot\t_\t_", r"a\.conllu, line 1, is not UTF-8 text"),
    ],
)
def test_what_is_no_treebank_is_an_error(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        sentences(tmp_path, text)


@pytest.mark.parametrize("lines", ["New York\tPROPN\n", "1\tCD\n", "EU NNP B-NP B-ORG\n"])
def test_conll_is_columns_or_conllu_by_what_it_holds(tmp_path, lines):
    path = tmp_path / "a.conll"
    path.write_text(lines)
    assert read_file(str(path)).column_names == ["tokens", "tags"]
    path.write_text("\ufeff" + ROWS)
    assert read_file(str(path))[0]["heads"] == [3, 3, 0]


# Trees in rows of other files


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("names", [("heads", "deprels"), ("head", "deprel")])
def test_rows_have_trees_by_either_name(tmp_path, names, ending):
    row = {"tokens": ["a", "b"], "upos": ["DET", "NOUN"], "x": 1}
    row |= dict(zip(names, ([2, 0], ["det", "root"]), strict=True))
    path = str(tmp_path / f"a.{ending}")
    if ending == "jsonl":
        Dataset.from_list([row]).to_json(path)
    else:
        Dataset.from_list([row]).to_parquet(path)
    (read,) = read_corpus([path])
    tree = {"upos": ["DET", "NOUN"], "heads": [2, 0], "deprels": ["det", "root"]}
    assert read == {"words": ["a", "b"], **tree}
    assert vars(row_tree(row)) == tree
    assert vars(row_tree({f"premise_{name}": values for name, values in row.items()}, "premise_"))
    assert row_tree(row, "premise_") is None
    assert row_tree({**row, names[0]: [2, None]}) is None
    assert row_tree({**row, names[0]: None}) is None
    assert row_tree({**row, names[0]: 2}).heads == 2  # an error where a language needs it
    with pytest.raises(ValueError, match=f"has trees already, in its column {names[0]}"):
        parse_file(path, "any", tmp_path / "out.parquet")


def test_the_name_that_is_ours_comes_first():
    names = ["head", "heads", "deprel", "upos"]
    assert tree_columns(names) == {"upos": "upos", "heads": "heads", "deprels": "deprel"}
    assert tree_columns(names[:3]) == {}
