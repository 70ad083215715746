"""What the residual stream would say if it were read now: the logit lens, the tuned lens, the Jacobian lens."""
