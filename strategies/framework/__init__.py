"""What every rule stands on: the contract, the router, and auxiliary terms."""
