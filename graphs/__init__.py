"""What happens next: state, routing, the compiled graph, one episode, many episodes."""
