"""The GPU campaign: parity, speed, packing, tests and a first board on one accelerator, in parts of ten minutes.

`python -P -m suite.campaign [PART…] --out DIR`; docs/gpu.md says what each part does. Nothing here is needed to train.
"""
