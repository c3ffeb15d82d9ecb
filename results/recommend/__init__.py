"""Which strategy should be used for what: answers computed from published boards, each with the rows behind it.

`evidence` reads the boards, `confidence` and `travel` are the statistics, `needs` lists what is asked, `advise`
answers, `wording` says it in full and `glance` as a table, and `block` puts it into other texts.
"""
