"""The paper's grid, and what it was made with."""
