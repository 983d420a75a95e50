"""Other engines beside mnist-edge: which there are, their environments, and the processes that run them."""
