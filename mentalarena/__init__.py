"""What the arena speaks about and where it is kept: cases, encoder, decoder, models, store."""
