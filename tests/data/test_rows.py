"""One value of one row: what is a text or words passes, null is None, the rest names its place."""

import pytest

from hf_alignmlm.data.rows import as_text, as_words

WHERE = "train.jsonl, row 3"


def test_texts_and_words_pass_and_null_is_none():
    assert as_text("a b", WHERE) == "a b"
    assert as_words(("a", "b"), WHERE) == ["a", "b"]
    assert as_text(None, WHERE) is None
    assert as_words(None, WHERE) is None


@pytest.mark.parametrize("value", [5, True, 2.5, ["a"], {"en": "a"}, [["a"]]])
def test_no_text(value):
    with pytest.raises(ValueError, match=r"train\.jsonl, row 3: .* where a text belongs"):
        as_text(value, WHERE)


@pytest.mark.parametrize("value", [5, "a b", ["a", None, "b"], [1, 2], [["a"]], {"en": ["a"]}])
def test_no_words(value):
    with pytest.raises(ValueError, match=r"train\.jsonl, row 3: .* where a list of words belongs"):
        as_words(value, WHERE)


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match="belongs") as error:
        as_text(list(range(10_000)), WHERE)
    assert len(str(error.value)) < 120
