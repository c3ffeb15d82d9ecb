"""What is on disk: the home, a trial's folder, and where a trial comes from."""
