"""The written documentation, and the generator of the parts that come from code."""
