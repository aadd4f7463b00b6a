"""The fast path on CPUs: the common decoder families in few calls of our own kernels a layer.

`adopt` takes the (sharded) weights out of a transformers model and says no where it doesn't know the model; `model` is
the forward pass; `dense` and `int8` are the halves of its layers; `runner` makes it a Runner like the stock one.
"""
