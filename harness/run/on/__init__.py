"""Other machines: runs as texts that travel, who makes them there, and who hands them out.

What is here decides where a run is made and not what it is: none of it is in a run's key.
"""
