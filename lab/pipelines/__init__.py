"""The jobs that users run: stages wired together once, with progress, cache and resume."""
