"""MegaBlocks' dropless expert computation (Gale et al., arXiv:2211.15841) fed by our routing.

Experts, gates and their order come from the strategy; MegaBlocks' own router and balancing loss are not used. It takes
the packages `megablocks` 0.10.0 and `stanford-stk` 0.7.1 with a torch of one's own (docs/gpu.md says how). Their CUDA
extensions are used where they are installed; where they are not, `torch_ops` and `torch_gmm` stand in for them, and
the backend's label says so. Without a GPU its Triton kernels run in Triton's interpreter: right, and slow.
"""
