"""The engine process: schedule (pure) -> run (tensors) -> update, one sequence's failure never another's.

`messages` is the seam to the RPC process, `transport` carries it. `loop` drives `scheduler` (which decides, over
`blocks` and `sequence`), `model_runner` (which computes a `plan` on all ranks) and `sampler` (which draws).
"""
