"""What people write (scaffolds, trait sets) and how it becomes token ids."""
