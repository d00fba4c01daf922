"""How a step grows with the batch and with the threads, and what that says about more of either."""
