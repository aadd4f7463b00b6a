"""The inference service's entry with `nodes.rank` over 0: lends this host's ranks to the engine that node 0 serves.

`joining` opens the line and proves the secret, `ranks` are the local processes, `life` relays between the two until
either ends, `lending` begins again. Nothing here serves callers or is registered.
"""
