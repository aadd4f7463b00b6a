"""Abstractive: what selection left out, summed up by a fast model of the mesh, where the deployment allows it."""
