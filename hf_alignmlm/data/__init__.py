"""Data: any text to sequences of token ids."""
