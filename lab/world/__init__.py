"""Hearth: a synthetic world of persona-conditioned conversation whose truth is known."""
