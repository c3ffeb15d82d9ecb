"""No balancing: the control every other rule is measured against."""

from __future__ import annotations

from strategies.families.learned import TopKStrategy
from strategies.framework.contract import Waived


class NoBalancing(TopKStrategy):
    """Plain top-k of the router's scores; nothing pushes the load anywhere."""

    name = "none"
    title = "No balancing"
    balances = Waived("a control: it does not try to balance")
