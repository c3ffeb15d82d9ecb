"""No balancing: the control every other rule is measured against."""

from __future__ import annotations

from strategies.contract import Waived
from strategies.learned import TopKStrategy


class NoBalancing(TopKStrategy):
    """Plain top-k of the router's scores; nothing pushes the load anywhere."""

    name = "none"
    title = "No balancing"
    balances = Waived("a control: it does not try to balance")
