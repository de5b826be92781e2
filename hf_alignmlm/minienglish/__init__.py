"""The embedded corpus: English in miniature, from a seeded grammar."""

from hf_alignmlm.minienglish.grammar import Pair, Sentence, pair, pairs, sentence, sentences

__all__ = ["Pair", "Sentence", "pair", "pairs", "sentence", "sentences"]
