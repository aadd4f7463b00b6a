"""The engine's own CPU kernels: plain C functions on pointers, compiled on this machine at first use.

`build` compiles them, `native` calls them on tensors. They need AVX2 and FMA; where the processor or a compiler
lacks, the engine runs the model's stock definition with torch's operators instead.
"""
