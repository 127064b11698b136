"""What an answer means: verdicts, advice, bodies, and a corpus of real answers."""
