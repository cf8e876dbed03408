"""What is learned: reads trajectories from the store only; imports no graph."""
