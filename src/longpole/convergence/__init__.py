"""Seconds to a target: steps times seconds a step, what makes gradients noisy, and what else gives one."""
