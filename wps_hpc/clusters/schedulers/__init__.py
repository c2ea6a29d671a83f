"""The dialects of batch systems: each builds command lines and reads what they print."""
