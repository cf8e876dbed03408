"""What is learned, and how it is measured; only what asks seats imports graphs."""
