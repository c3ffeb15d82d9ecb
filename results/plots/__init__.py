"""The report's figures: each a function of plain data that returns a matplotlib `Figure`, one file per family.

`style` fixes how arms look, `sources` reads the data, `svg` exports; `task_figures` and `board_figures`
pick and caption.
"""
