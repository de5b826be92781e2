"""Languages: an order of words and a spelling of words."""
