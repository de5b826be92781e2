"""Tasks, fine-tuned on one language and tested on the other."""
