"""One trial: model, optimizers, the loop, what is measured, checkpoints, and the record it leaves."""
