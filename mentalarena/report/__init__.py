"""The report of a run: one page with its figures, their intervals, and how it was made.

``figures`` computes, ``plots`` draws, ``origin`` writes down the configuration and the commands,
``command`` is ``mentalarena report``.
"""
