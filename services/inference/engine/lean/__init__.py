"""The fast path on CPUs: the common decoder families in few calls of our own kernels a layer.

`adopt` takes the (sharded) weights out of a transformers model and says no where it doesn't know the model; `model` is
the forward pass; `linear` its matrix products, in float32 or int8; `runner` makes it a Runner like the stock one.
"""
