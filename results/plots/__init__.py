"""The report's figures: each a function of plain data that returns a matplotlib `Figure`, one file per family.

`style` fixes how arms look, `sources` reads the data, `gallery` picks and captions, `svg` exports.
"""
