"""A small sister of a checkpoint, with its first layers."""
