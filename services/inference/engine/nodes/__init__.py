"""Ranks on other hosts ("nodes", as torchrun calls them): who may lend ranks to an engine, and how plans reach them.

Node 0 runs the inference service; its rank 0 listens (`gate`), makes each caller prove the shared secret (`secret`),
compares what both are set to (`terms`), and keeps one line to each node (`lines`). The program at the other end is
`services/inference/node/`. Lines carry plans and signs of life; tensors go between ranks over torch.distributed.
"""
