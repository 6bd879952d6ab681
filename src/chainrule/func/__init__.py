"""Function transformations: grad, vjp, jvp, jacobians, vmap, checkpoint."""
