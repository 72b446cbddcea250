"""Ways to start the processes that train, one a file: on this machine, and through the queue of a cluster."""
