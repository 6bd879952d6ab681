"""From a graph to kernels: what is taken apart, what is computed together, what is stored.

`build.schedule(graph)` is the whole of it; `kernels` has what comes out.
"""
