"""Question sets: their items, file formats, prompts, and how answers are read."""
