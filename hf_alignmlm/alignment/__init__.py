"""Word alignment of two languages: embeddings and true pairs in, P@k, MRR and CSLS out."""

from hf_alignmlm.alignment.scores import AlignmentMetric, alignment_scores
from hf_alignmlm.alignment.words import dictionary_alignment

__all__ = ["AlignmentMetric", "alignment_scores", "dictionary_alignment"]
