"""Episodes and runs as pages: one renderer, for a browser and for a file.

``page`` renders templates, ``drawing`` the path through the graph, ``episode`` gathers what a page
about one episode shows, ``queries`` what the other pages ask of the store. ``server`` is the plugin
that shows them in Datasette, ``command`` is ``mentalarena view``.
"""
