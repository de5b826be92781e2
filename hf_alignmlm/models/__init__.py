"""Models: masked LM plus alignment."""
