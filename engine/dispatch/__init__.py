"""Training on another machine: sent there, started there, watched from here."""
