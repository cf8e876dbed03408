"""What is learned, and how it is measured; only evaluation in the arena imports graphs."""
