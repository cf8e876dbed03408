"""The self-play loop: play, collect, train, serve, measure, decide, and again."""
