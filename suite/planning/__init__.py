"""What is to be run: suites, the trials they come to, what those cost, and tuning."""
