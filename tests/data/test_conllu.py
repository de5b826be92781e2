"""CoNLL-U: what is read, what is skipped, and errors that name file and sentence."""

import pytest

from hf_alignmlm.data.conllu import is_conllu, read_conllu, tree_renames

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


@pytest.mark.parametrize("text", [ROWS, "\n\n" + ROWS + "\n", ROWS.replace("\n", "\r\n")])
def test_comments_ranges_and_empty_nodes_are_no_words(tmp_path, text):
    (sentence,) = sentences(tmp_path, text)
    assert sentence.words == ("De", "le", "New chat")
    assert (sentence.upos, sentence.heads) == (("ADP", "DET", "NOUN"), (3, 3, 0))
    assert sentence.deprels == ("case", "det", "root")


def test_without_trees_tags_and_heads_may_be_missing(tmp_path):
    assert [s.heads for s in sentences(tmp_path, ROWS + BLANK, trees=False)] == [(3, 3, 0), (None,)]


BAD = {
    "cycle": (ROWS.replace("0\troot", "1\troot"), "a cycle, or no root"),
    "beyond": (ROWS.replace("3\tdet", "8\tdet"), "word 2 has head 8, not one of 0 to 3"),
    "negative": (ROWS.replace("3\tdet", "-1\tdet"), "the head '-1' is not the number of a word"),
    "text": (ROWS.replace("3\tdet", "x\tdet"), "the head 'x' is not the number of a word"),
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
    ],
)
def test_what_is_no_treebank_is_an_error(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason):
        sentences(tmp_path, text)


def test_rows_of_conllu_are_told_from_columns_of_words_and_tags():
    rows = [line for line in ROWS.splitlines() if line and line[0] != "#"]
    assert all(is_conllu(row + "\n") for row in rows)
    others = ["New\tPROPN", "1\tCD", "EU NNP B-NP B-ORG", "", "# a", "x" + rows[0], rows[0] + "\t_"]
    assert not any(map(is_conllu, others))


def test_columns_of_trees_by_other_names():
    assert tree_renames(["words", "head", "deprel"]) == {"head": "heads", "deprel": "deprels"}
    assert tree_renames(["premise_head"]) == {"premise_head": "premise_heads"}
    assert tree_renames(["head", "heads", "upos"]) == {}
