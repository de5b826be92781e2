"""Cards, datasets and pushes."""
